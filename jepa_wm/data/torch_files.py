"""Tensors out of `.pt` files, plain values out of pickles; nothing is executed.

A `.pt` file of `torch.save` is a zip archive: one pickle that says what there
is, and one record of raw bytes for every storage. A pickle is a program. Here
it is parsed and never run: the few operations that describe containers and
tensors are understood, the first one beyond them refuses the file.
"""

import math
import os
import pathlib
import pickletools
import reprlib
import zipfile
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from jepa_wm import files

_STORAGES = {
  'torch.BoolStorage': np.dtype(np.bool_),
  'torch.ByteStorage': np.dtype(np.uint8),
  'torch.CharStorage': np.dtype(np.int8),
  'torch.ShortStorage': np.dtype(np.int16),
  'torch.IntStorage': np.dtype(np.int32),
  'torch.LongStorage': np.dtype(np.int64),
  'torch.HalfStorage': np.dtype(np.float16),
  'torch.BFloat16Storage': np.dtype(ml_dtypes.bfloat16),
  'torch.FloatStorage': np.dtype(np.float32),
  'torch.DoubleStorage': np.dtype(np.float64),
  'torch.ComplexFloatStorage': np.dtype(np.complex64),
  'torch.ComplexDoubleStorage': np.dtype(np.complex128),
  # Bytes; the tensors over it say what they hold.
  'torch.storage.UntypedStorage': np.dtype(np.uint8),
}
_DTYPES = {
  'torch.bool': np.dtype(np.bool_),
  **{
    f'torch.{name}': np.dtype(name)
    for name in (
      *('uint8', 'uint16', 'uint32', 'uint64'),
      *('int8', 'int16', 'int32', 'int64'),
      *('float16', 'float32', 'float64', 'complex64', 'complex128'),
    )
  },
  **{
    f'torch.{name}': np.dtype(getattr(ml_dtypes, name))
    for name in (
      *('bfloat16', 'float8_e4m3fn', 'float8_e4m3fnuz'),
      *('float8_e5m2', 'float8_e5m2fnuz'),
    )
  },
}
_ORDERED_DICT = 'collections.OrderedDict'
_TENSOR, _TYPED_TENSOR, _PARAMETER = (
  f'torch._utils._rebuild_{kind}'
  for kind in ('tensor_v2', 'tensor_v3', 'parameter')
)
_GLOBALS = {
  *(_ORDERED_DICT, _TENSOR, _TYPED_TENSOR, _PARAMETER),
  *_STORAGES,
  *_DTYPES,
}
_LITERALS = {
  *('BININT', 'BININT1', 'BININT2', 'LONG1', 'LONG4', 'BINFLOAT'),
  *('BINUNICODE', 'SHORT_BINUNICODE', 'BINUNICODE8'),
}
_KEYS = (str, bytes, int, float, type(None))
# More than any expanded tensor is of what it is stored in.
_MOST_EXPANDED = 2**10


class _Global(NamedTuple):
  """A name that the pickle asked for; it stands for itself, unimported."""

  name: str


class _Storage(NamedTuple):
  """Raw bytes, and the type of what they hold."""

  data: np.ndarray
  dtype: np.dtype


def read(path: str | os.PathLike[str]) -> Any:
  """What `torch.save` wrote, with arrays in place of tensors.

  Understood are dicts, ordered dicts, lists, tuples, strings, numbers, None
  and dense tensors or parameters of any strides and dtype over storages that
  they may share.

  Args:
    path: a zip container as PyTorch writes it since 1.6.

  Returns:
    The containers; arrays are read-only views of the memory-mapped file, with
    the strides that the tensors had.

  Raises:
    FileNotFoundError: no such file.
    ValueError: a pickle that asks for anything else, which is named (nothing
      was executed), an older format, a file that is cut off or damaged.
  """
  archive = _Archive(files.expand(path))
  pickle_bytes = archive.record('data.pkl').tobytes()
  return _Unpacker(archive.path, archive).build(pickle_bytes)


def read_plain(path: str | os.PathLike[str]) -> Any:
  """What `pickle.dump` wrote of containers, strings and numbers alone.

  Args:
    path: a bare pickle.

  Raises:
    FileNotFoundError: no such file.
    ValueError: a pickle that asks for anything else, which is named (nothing
      was executed), or a file that is cut off or damaged.
  """
  path = files.expand(path)
  if not path.is_file():
    raise FileNotFoundError(f'{path}: no such file.')
  if files.is_lfs_pointer(path):
    raise files.damaged(path, '')
  return _Unpacker(path, None).build(path.read_bytes())


class _Archive:
  """The records of a zip container, as views of the memory-mapped file.

  Not read by `zipfile`: that would copy, and check sums that PyTorch may be
  told not to write.
  """

  def __init__(self, path: pathlib.Path):
    self.path = path
    if not path.is_file():
      raise FileNotFoundError(f'{path}: no such file.')
    if files.is_lfs_pointer(path):
      raise files.damaged(path, '')
    with path.open('rb') as file:
      start = file.read(4)
    try:
      with zipfile.ZipFile(path) as container:
        infos = container.infolist()
    # What a directory that lies leads `zipfile` to is not only BadZipFile.
    except Exception as error:
      raise ValueError(f'{path}: {_why_no_archive(start)}') from error
    roots = [
      info.filename.split('/')[0]
      for info in infos
      if info.filename.split('/')[1:] == ['data.pkl']
    ]
    if len(roots) != 1:
      raise ValueError(
        f'{path}: a zip file, but not one of torch.save, which has one '
        f'data.pkl in a folder; it has {len(roots)}.'
      )
    self._root = roots[0]
    self._infos = {info.filename: info for info in infos}
    self._bytes = np.memmap(path, np.uint8, 'r')
    if f'{self._root}/byteorder' in self._infos:
      order = self.record('byteorder').tobytes()
      if order != b'little':
        raise ValueError(
          f'{path}: written with byte order {order.decode("latin1")!r}, only '
          'little is read; load and save it on a little-endian machine.'
        )

  def record(self, name: str) -> np.ndarray:
    """The bytes of a record, uint8 `[n]`."""
    info = self._infos.get(f'{self._root}/{name}')
    if info is None:
      raise ValueError(
        f'{self.path}: the record {name!r} is missing; copy the file again.'
      )
    if info.compress_type != zipfile.ZIP_STORED:
      raise ValueError(
        f'{self.path}: the record {name!r} is compressed, which torch.save '
        'does not do; the file was packed anew, take the original.'
      )
    # The header here may be longer than the one in the directory.
    header = self._bytes[info.header_offset : info.header_offset + 30].tobytes()
    begin = info.header_offset + 30
    begin += int.from_bytes(header[26:28], 'little')
    begin += int.from_bytes(header[28:30], 'little')
    end = begin + info.file_size
    if header[:4] != b'PK\x03\x04' or end > len(self._bytes):
      raise ValueError(
        f'{self.path}: the record {name!r} is not where the directory says; '
        'the file is damaged, copy it again.'
      )
    return self._bytes[begin:end]


class _Unpacker:
  """Follows the operations of a pickle that only describe data."""

  def __init__(self, path: pathlib.Path, archive: _Archive | None):
    self._path = path
    self._archive = archive
    self._stack: list[Any] = []
    self._marks: list[int] = []
    self._memo: dict[int, Any] = {}

  def build(self, pickle_bytes: bytes) -> Any:
    """The value that is on top of the stack at the end."""
    try:
      for opcode, argument, _ in pickletools.genops(pickle_bytes):
        self._follow(opcode.name, argument)
      return self._stack.pop()
    # Whatever a stack that is not as it should be leads to.
    except Exception as error:
      if type(error) is ValueError and str(self._path) in str(error):
        raise
      raise ValueError(
        f'{self._path}: its pickle is damaged ({error!r:.300}); copy the file '
        'again.'
      ) from error

  def _follow(self, name: str, argument: Any) -> None:
    stack = self._stack
    match name:
      case 'PROTO' | 'FRAME' | 'STOP':
        pass
      case _ if name in _LITERALS:
        stack.append(argument)
      case 'NONE':
        stack.append(None)
      case 'NEWTRUE' | 'NEWFALSE':
        stack.append(name == 'NEWTRUE')
      case 'EMPTY_DICT':
        stack.append({})
      case 'EMPTY_LIST':
        stack.append([])
      case 'EMPTY_TUPLE':
        stack.append(())
      case 'MARK':
        self._marks.append(len(stack))
      case 'TUPLE':
        stack.append(tuple(self._pop_to_mark()))
      case 'TUPLE1' | 'TUPLE2' | 'TUPLE3':
        stack.append(tuple(self._pop(int(name[-1]))))
      case 'APPEND' | 'APPENDS':
        items = self._pop(1) if name == 'APPEND' else self._pop_to_mark()
        self._top(list).extend(items)
      case 'SETITEM' | 'SETITEMS':
        items = self._pop(2) if name == 'SETITEM' else self._pop_to_mark()
        self._set_items(items)
      case 'BINPUT' | 'LONG_BINPUT':
        self._memo[argument] = stack[-1]
      case 'MEMOIZE':
        self._memo[len(self._memo)] = stack[-1]
      case 'BINGET' | 'LONG_BINGET':
        stack.append(self._memo[argument])
      case 'GLOBAL':
        stack.append(self._allow(argument.replace(' ', '.', 1)))
      case 'STACK_GLOBAL':
        module, attribute = self._pop(2)
        stack.append(self._allow('.'.join((module, attribute))))
      case 'BINPERSID':
        stack.append(self._storage(*self._pop(1)))
      case 'REDUCE':
        stack.append(self._call(*self._pop(2)))
      case 'BUILD':
        # The attributes of a state dict: layout versions of its modules.
        self._pop(1)
        self._top(dict)
      case _:
        wanted = f' of {argument!r}' if isinstance(argument, str) else ''
        raise ValueError(
          f'{self._path}: its pickle uses the operation {name}{wanted}, which '
          'no plain file of tensors needs; it was not executed. Save only '
          'model.state_dict().'
        )

  def _allow(self, name: str) -> _Global:
    if name not in _GLOBALS:
      raise ValueError(
        f'{self._path}: its pickle asks for {name!r}, which no plain file of '
        'tensors needs; nothing was executed. Save only model.state_dict(), '
        'or convert the file where you trust it.'
      )
    return _Global(name)

  def _pop(self, count: int) -> list[Any]:
    if count > len(self._stack):
      raise IndexError('stack is empty')
    items = self._stack[-count:]
    del self._stack[-count:]
    return items

  def _pop_to_mark(self) -> list[Any]:
    start = self._marks.pop()
    items = self._stack[start:]
    del self._stack[start:]
    return items

  def _top(self, kind: type) -> Any:
    top = self._stack[-1]
    if not isinstance(top, kind):
      raise TypeError(f'{type(top).__name__} in place of {kind.__name__}')
    return top

  def _set_items(self, items: list[Any]) -> None:
    target = self._top(dict)
    if len(items) % 2:
      raise TypeError('a key without a value')
    for key, value in zip(items[::2], items[1::2]):
      parts = key if isinstance(key, tuple) else (key,)
      # Not deeper: hashing tuples of the same tuples need not end.
      if not all(isinstance(part, _KEYS) for part in parts):
        raise TypeError(f'a key is {reprlib.repr(key)}')
      target[key] = value

  def _storage(self, identity: Any) -> _Storage:
    kind, storage_type, key, _, _ = identity
    is_storage = kind == 'storage' and isinstance(key, str)
    if not is_storage or self._archive is None:
      raise TypeError(f'a persistent id of kind {reprlib.repr(kind)}')
    data = self._archive.record(f'data/{key}')
    return _Storage(data, _STORAGES[storage_type.name])

  def _call(self, function: _Global, arguments: tuple[Any, ...]) -> Any:
    if function.name == _ORDERED_DICT and not arguments:
      return {}
    if function.name == _PARAMETER:
      return arguments[0]
    if function.name == _TENSOR:
      storage, offset, shape, strides, _, _, *metadata = arguments
      return self._tensor(
        storage, storage.dtype, offset, shape, strides, metadata
      )
    if function.name == _TYPED_TENSOR:
      storage, offset, shape, strides, _, _, dtype, *metadata = arguments
      dtype = _DTYPES[dtype.name]
      return self._tensor(storage, dtype, offset, shape, strides, metadata)
    raise TypeError(f'{function.name} called with {reprlib.repr(arguments)}')

  def _tensor(
    self,
    storage: _Storage,
    dtype: np.dtype,
    offset: int,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    metadata: list[Any],
  ) -> np.ndarray:
    """A view of a storage."""
    if not isinstance(storage, _Storage):
      raise TypeError(f'a tensor over {type(storage).__name__}')
    if any(metadata):
      raise ValueError(
        f'{self._path}: a tensor is stored lazily conjugated or negated '
        f'({reprlib.repr(metadata[0])}); save it after '
        'resolve_conj().resolve_neg().'
      )
    if len(shape) != len(strides) or not all(
      isinstance(x, int) and x >= 0 for x in (offset, *shape, *strides)
    ):
      raise TypeError(
        f'shape {reprlib.repr(shape)} with {reprlib.repr(strides)}'
      )
    last = offset + sum((n - 1) * s for n, s in zip(shape, strides))
    if math.prod(shape) and (last + 1) * dtype.itemsize > len(storage.data):
      raise ValueError(
        f'{self._path}: a tensor of shape {list(shape)} reaches beyond its '
        f'{len(storage.data)} bytes; the file is damaged, copy it again.'
      )
    if not math.prod(shape):
      return np.empty(shape, dtype)
    claimed = math.prod(shape) * dtype.itemsize
    if claimed > max(2**26, _MOST_EXPANDED * len(storage.data)):
      raise ValueError(
        f'{self._path}: a tensor of shape {list(shape)} claims to hold '
        f'{claimed / 2**30:.1f} GiB over {len(storage.data)} bytes; the file '
        'is damaged, copy it again.'
      )
    return np.ndarray(
      shape,
      dtype,
      buffer=storage.data,
      offset=offset * dtype.itemsize,
      strides=[s * dtype.itemsize for s in strides],
    )


def _why_no_archive(start: bytes) -> str:
  if start == b'PK\x03\x04':
    return 'the end of the zip container is missing; copy the file again.'
  if start.startswith(b'\x80'):
    return (
      'a bare pickle or a file of before PyTorch 1.6, which is not read; load '
      'it in PyTorch, where you trust it, and torch.save its state dict again.'
    )
  return 'not a file of torch.save, which is a zip container.'
