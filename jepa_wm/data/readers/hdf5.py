"""HDF5 of others: opened, listed and read without leaving the file.

A name in such a file may lead to another file, and a few bytes may claim to be
terabytes; neither is followed.
"""

import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from jepa_wm import files

try:
  import h5py
except ImportError:
  h5py = None
try:
  # Importing it teaches HDF5 to decompress Blosc.
  import hdf5plugin
except ImportError:
  hdf5plugin = None  # type: ignore[assignment]

SUFFIXES = ('.h5', '.hdf5')
# More than any filter makes of a picture: that of zeros alone, by deflate.
_MOST_COMPRESSED = 1100
# Read at once while a column is looked through.
_STRIDE_BYTES = 2**26


def open_file(path: pathlib.Path, **options: Any) -> Any:
  """Opens an `h5py.File` for reading.

  Raises:
    ValueError: it is cut off or no HDF5 file.
  """
  try:
    return h5py.File(path, 'r', **options)
  except OSError as error:
    if files.is_lfs_pointer(path):
      raise files.damaged(path, error) from error
    raise ValueError(
      f'{path} is cut off or no HDF5 file ({error}); copy it again.'
    ) from error


def datasets(where: Any, group: Any, name: str = '') -> Iterator[Any]:
  """Every dataset in a group and in the groups in it, by its path.

  Args:
    where: source, for messages.
    group: an `h5py.Group`.
    name: of the group, before the names of what is in it.

  Yields:
    Pairs of a path and an `h5py.Dataset` of at least one axis.

  Raises:
    ValueError: one that is not in the file itself.
  """
  for key in group:
    path = f'{name}/{key}' if name else key
    item = child(where, group, key)
    if isinstance(item, h5py.Group):
      yield from datasets(where, item, path)
    elif isinstance(item, h5py.Dataset) and item.ndim:
      yield path, item


def child(where: Any, group: Any, key: str) -> Any:
  """What a group has under a name, if it is in the file itself.

  Raises:
    ValueError: the name leads elsewhere, or what it names lies elsewhere.
  """
  link = group.get(key, getlink=True)
  if not isinstance(link, h5py.HardLink):
    raise ValueError(
      f'{where}: {key!r} is a link to {link.path!r} and no data; links are not '
      'followed, write the data itself.'
    )
  item = group[key]
  if isinstance(item, h5py.Dataset) and (item.is_virtual or item.external):
    raise ValueError(
      f'{where}: {key!r} is a virtual dataset, whose data lie in other files; '
      'these are not read, write the data itself.'
    )
  return item


def read(item: Any, rows: slice | tuple[()]) -> np.ndarray:
  """Some rows of a dataset, or all of it.

  Raises:
    ValueError: it claims to be larger than its file can hold.
    OSError: it is cut off or damaged.
  """
  length = len(range(*rows.indices(len(item)))) if rows else len(item)
  size = length * int(np.prod(item.shape[1:], dtype=object))
  path = pathlib.Path(item.file.filename)
  check_claim(f'{path}: {item.name!r}', size * item.dtype.itemsize, path)
  return item[rows]


def check_claim(where: Any, claimed: int, path: pathlib.Path | None = None):
  """Refuses what claims to be more bytes than a file can hold.

  Args:
    where: the file, or what in it, for the message.
    claimed: bytes.
    path: of the file, if that is not `where`.

  Raises:
    ValueError: it does.
  """
  held = (path or pathlib.Path(where)).stat().st_size
  if claimed > max(2**26, _MOST_COMPRESSED * held):
    raise ValueError(
      f'{where} claims to hold {claimed / 2**30:.1f} GiB in a file of '
      f'{held / 2**20:.1f} MiB; it is damaged.'
    )


def pieces(item: Any) -> Iterator[np.ndarray]:
  """A dataset's rows in order, some at a time, without those that are damaged.

  Whoever reads an episode meets these again.
  """
  row = max(1, int(np.prod(item.shape[1:], dtype=object)) * item.dtype.itemsize)
  step = max(1, _STRIDE_BYTES // row)
  for begin in range(0, len(item), step):
    try:
      yield read(item, slice(begin, begin + step))
    except (OSError, RuntimeError):
      continue


def is_picture(shape: tuple[int, ...]) -> bool:
  """Whether rows of a shape may be pictures, and not points or numbers."""
  return len(shape) >= 4 or (len(shape) == 3 and min(shape[1:]) >= 4)
