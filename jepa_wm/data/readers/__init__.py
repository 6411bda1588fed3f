"""Data of others: one reader a format, all yielding our episodes.

  reader = readers.open_reader('pusht.h5')
  for index in range(reader.num_episodes):
    episode = reader[index]

Readers import what they need (h5py, pyarrow, PyAV: the extra `readers`) and say
so where it is missing. Nothing is ever unpickled.
"""

import pathlib
from collections.abc import Callable

from jepa_wm import files
from jepa_wm.data.readers import dino_wm, lerobot, minari, open_x, swm_hdf5
from jepa_wm.data.readers.reader import (
  ALIGNMENTS,
  Guarded,
  Options,
  Reader,
  promised,
)

_OPENERS: dict[str, Callable[[pathlib.Path, Options], Reader]] = {
  'lerobot': lerobot.LeRobot,
  'rlds': open_x.OpenX,
  'minari': minari.Minari,
  'dino_wm': dino_wm.DinoWm,
  'swm': swm_hdf5.SwmHdf5,
}
# What a source looks like from outside; any other HDF5 is taken for swm's.
_SIGNS = {
  'lerobot': lerobot.looks_like,
  'rlds': open_x.looks_like,
  'minari': minari.looks_like,
  'dino_wm': dino_wm.looks_like,
  'swm': swm_hdf5.looks_like,
}
FORMATS = tuple(_OPENERS)
__all__ = [
  'ALIGNMENTS',
  'FORMATS',
  'Options',
  'Reader',
  'detect',
  'open_reader',
]


def detect(path: pathlib.Path) -> str:
  """Name of the format of what is at `path`.

  Raises:
    FileNotFoundError: there is nothing.
    ValueError: it is none of the formats.
  """
  if not path.exists():
    raise FileNotFoundError(f'{path}: no such file or folder.')
  for name, is_it in _SIGNS.items():
    if is_it(path):
      return name
  if files.is_lfs_pointer(path):
    raise files.damaged(path, '')
  children = files.visible(path.iterdir()) if path.is_dir() else []
  found = sorted(child.name for child in children)
  raise ValueError(
    f'{path} is of no known format ({", ".join(FORMATS)}); it holds '
    f'{", ".join(found[:8]) or "one file"}, name its format with --format.'
  )


def open_reader(
  path: str | pathlib.Path, *, format: str = 'auto', **options
) -> Reader:
  """Opens what others wrote.

  Args:
    path: file or folder.
    format: one of `FORMATS`, or 'auto' to look.
    **options: fields of `reader.Options`.

  Raises:
    FileNotFoundError: there is nothing at `path`.
    ImportError: a package is missing, which is named.
    ValueError: unknown format, a damaged file, or a missing column; no other
      error leaves a reader, now or when an episode is read.
  """
  path = files.expand(path)
  chosen = Options(**options)
  if format != 'auto' and format not in _OPENERS:
    raise ValueError(
      f'format must be auto or one of {", ".join(FORMATS)}, got {format!r}.'
    )
  with promised(path, str(path)):
    if format == 'auto':
      format = detect(path)
    return Guarded(path, _OPENERS[format](path, chosen))
