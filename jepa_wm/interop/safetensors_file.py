"""Named tensors out of a safetensors file, float8 among them.

A file is the length of its header (uint64, little-endian), the header in JSON
(dtype, shape, first and last byte of every tensor) and the bytes. The package
reads it as well, but has no NumPy type for float8; everything that the header
says is checked here before any memory is spent.
"""

import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import ml_dtypes
import numpy as np

from jepa_wm import files

_DTYPES: dict[str, np.dtype] = {
  'BOOL': np.dtype(np.bool_),
  **{f'U{8 * n}': np.dtype(f'<u{n}') for n in (1, 2, 4, 8)},
  **{f'I{8 * n}': np.dtype(f'<i{n}') for n in (1, 2, 4, 8)},
  **{f'F{8 * n}': np.dtype(f'<f{n}') for n in (2, 4, 8)},
  'C64': np.dtype('<c8'),
  'BF16': np.dtype(ml_dtypes.bfloat16),
  'F8_E4M3': np.dtype(ml_dtypes.float8_e4m3fn),
  'F8_E5M2': np.dtype(ml_dtypes.float8_e5m2),
  'F8_E4M3FNUZ': np.dtype(ml_dtypes.float8_e4m3fnuz),
  'F8_E5M2FNUZ': np.dtype(ml_dtypes.float8_e5m2fnuz),
  'F8_E8M0': np.dtype(ml_dtypes.float8_e8m0fnu),
}
# The package's own bound.
_MAX_HEADER_BYTES = 100_000_000


def read(path: pathlib.Path) -> dict[str, np.ndarray]:
  """The tensors by name, in the order of the header, read-only.

  Raises:
    FileNotFoundError: no such file.
    ValueError: a header that is not one of a whole file, or a dtype that NumPy
      has not.
  """
  if not path.is_file():
    raise FileNotFoundError(f'{path}: no such file.')
  if files.is_lfs_pointer(path):
    raise files.damaged(path, '')
  size = path.stat().st_size
  with path.open('rb') as file:
    length = int.from_bytes(file.read(8), 'little')
    if size < 8 or length > min(size - 8, _MAX_HEADER_BYTES):
      raise _not_whole(path, f'a header of {length} bytes in one of {size}')
    try:
      header = files.parse_json(path, file.read(length).decode())
    except ValueError as error:
      raise _not_whole(path, str(error)) from error
    places = _places(path, header, size - 8 - length)
    tensors = {}
    for name, (dtype, shape, begin, end) in places.items():
      file.seek(8 + length + begin)
      data = file.read(end - begin)
      try:
        tensors[name] = np.frombuffer(data, dtype).reshape(shape)
      except ValueError as error:
        raise _not_whole(path, f'{name!r}: {error}') from error
  return tensors


def read_declared(
  path: pathlib.Path, declared: Mapping[str, Any], what: str
) -> dict[str, np.ndarray]:
  """The tensors that a network declares, in the dtypes that it declares.

  Args:
    path: of a safetensors file.
    declared: shape and dtype under every name.
    what: the network, for messages.

  Raises:
    ValueError: what `read` refuses, other names or shapes, whole numbers for
      fractions or the reverse, or a number that is not finite.
  """
  tensors = read(path)
  advice = 'take weights and config of one export'
  check_declared(path, declared, tensors, what, advice)
  return {
    name: _cast(path, name, tensors[name], declared[name].dtype)
    for name in sorted(tensors)
  }


def check_declared(
  path: str | os.PathLike[str],
  declared: Mapping[str, Any],
  tensors: Mapping[str, Any],
  what: str,
  advice: str,
) -> None:
  """Makes sure that tensors, by name, are those that are declared.

  Raises:
    ValueError: one is missing, left over or of another shape than `what` has;
      the message names it and gives an advice.
  """
  wanted, got = (
    {name: list(x.shape) for name, x in held.items()}
    for held in (declared, tensors)
  )
  names = sorted(wanted.keys() | got.keys())
  differ = [name for name in names if wanted.get(name) != got.get(name)]
  if differ:
    first, more = differ[0], len(differ) - 1
    raise ValueError(
      f'{path}: {first!r} is {got.get(first, "missing")}, {what} as '
      f'configured has {wanted.get(first, "no such tensor")}, and {more} '
      f'others differ; {advice}.'
    )


def _cast(
  path: pathlib.Path, name: str, tensor: np.ndarray, dtype: Any
) -> np.ndarray:
  """A tensor in a dtype that holds numbers of its kind."""
  kinds = jnp.floating, jnp.integer, jnp.bool_
  ours, theirs = (
    [jnp.issubdtype(x, kind) for kind in kinds] for x in (dtype, tensor.dtype)
  )
  if ours != theirs:
    raise ValueError(
      f'{path}: {name!r} is of dtype {tensor.dtype}, where {dtype} is '
      'expected; export it again.'
    )
  cast = np.asarray(tensor, dtype)
  if ours[0] and not np.isfinite(cast).all():
    raise ValueError(
      f'{path}: {name!r} holds NaN or infinity; train the model again.'
    )
  return cast


def _places(
  path: pathlib.Path, header: Any, size: int
) -> dict[str, tuple[np.dtype, list[int], int, int]]:
  """Type, shape and bytes of each tensor, which fill the file without a gap."""
  if not isinstance(header, dict):
    raise _not_whole(path, 'a header that is no JSON object')
  places = {}
  for name, entry in header.items():
    if name == '__metadata__':
      continue
    match entry:
      case {'dtype': str(kind), 'shape': list(shape), 'data_offsets': [a, b]}:
        numbers = [*shape, a, b]
      case _:
        raise _not_whole(path, f'no dtype, shape and offsets of {name!r}')
    if not all(type(x) is int and x >= 0 for x in numbers):
      raise _not_whole(path, f'shape or offsets of {name!r} that are none')
    if kind not in _DTYPES:
      raise ValueError(
        f'{path}: the tensor {name!r} is of dtype {kind!r:.20}, which is not '
        f'read; known are {", ".join(_DTYPES)}.'
      )
    dtype = _DTYPES[kind]
    if math.prod(shape) * dtype.itemsize != b - a:
      raise _not_whole(path, f'{b - a} bytes for {kind} {shape} of {name!r}')
    places[name] = (dtype, shape, a, b)
  end = 0
  for name, (_, _, first, last) in sorted(
    places.items(), key=lambda item: item[1][2:]
  ):
    if first != end:
      raise _not_whole(path, f'{name!r} begins at byte {first} and not {end}')
    end = last
  if end != size:
    raise _not_whole(path, f'{size} bytes where tensors need {end}')
  return places


def _not_whole(path: pathlib.Path, why: str) -> ValueError:
  return ValueError(
    f'{path}: not a whole safetensors file ({why}); it may be cut off, copy it '
    'again.'
  )
