"""Data of others: one reader a format, all yielding our episodes.

  reader = readers.open_reader('pusht.h5')
  for index in range(reader.num_episodes):
    episode = reader[index]

Readers import what they need (h5py, pyarrow, PyAV: the extra `readers`) and say
so where it is missing. Nothing is ever unpickled.
"""

import dataclasses
import importlib
import pathlib
import pkgutil
from collections.abc import Callable

from jepa_wm import fields, files
from jepa_wm.data.readers import dino_wm, lerobot, minari, open_x, swm_hdf5
from jepa_wm.data.readers.reader import (
  ALIGNMENTS,
  Guarded,
  Options,
  Reader,
  promised,
)

OpenFn = Callable[[pathlib.Path, Options], Reader]
"""Opens a file or folder, see `open_reader`."""

LooksLikeFn = Callable[[pathlib.Path], bool]
"""Whether a file or folder is of a format, from outside."""

_FORMATS: dict[str, tuple[OpenFn, LooksLikeFn]] = {
  'lerobot': (lerobot.LeRobot, lerobot.looks_like),
  'rlds': (open_x.OpenX, open_x.looks_like),
  'minari': (minari.Minari, minari.looks_like),
  'dino_wm': (dino_wm.DinoWm, dino_wm.looks_like),
  # Any HDF5 that is none of the above.
  'swm': (swm_hdf5.SwmHdf5, swm_hdf5.looks_like),
}


__all__ = [
  'ALIGNMENTS',
  'LooksLikeFn',
  'OpenFn',
  'Options',
  'Reader',
  'detect',
  'formats',
  'open_reader',
  'register',
]


def formats() -> tuple[str, ...]:
  """Names of the formats that can be read."""
  return tuple(_FORMATS)


def register(name: str, open_fn: OpenFn, looks_like_fn: LooksLikeFn) -> None:
  """Adds a format, for `detect`, `open_reader` and commands to find.

  Args:
    name: of the format.
    open_fn: opens it.
    looks_like_fn: tells it from the formats before it, which are asked first.

  Raises:
    ValueError: there is one of that name.
  """
  if name in _FORMATS:
    raise ValueError(f'There is a format named {name!r} already.')
  _FORMATS[name] = open_fn, looks_like_fn


def detect(path: pathlib.Path) -> str:
  """Name of the format of what is at `path`.

  Raises:
    FileNotFoundError: there is nothing.
    ValueError: it is none of the formats.
  """
  if not path.exists():
    raise FileNotFoundError(f'{path}: no such file or folder.')
  for name, (_, looks_like_fn) in _FORMATS.items():
    if looks_like_fn(path):
      return name
  if files.is_lfs_pointer(path):
    raise files.damaged(path, '')
  holds = 'it is a file'
  if path.is_dir():
    found = sorted(child.name for child in files.visible(path.iterdir()))
    if not found:
      raise ValueError(f'{path} is an empty folder; copy the source again.')
    holds = f'it holds {", ".join(found[:8])}'
  raise ValueError(
    f'{path} is of no known format ({", ".join(_FORMATS)}); {holds}, name its '
    'format with --format.'
  )


def open_reader(
  path: str | pathlib.Path, *, format: str = 'auto', **options
) -> Reader:
  """Opens what others wrote.

  Args:
    path: file or folder.
    format: one of `formats()`, or 'auto' to look.
    **options: fields of `reader.Options`.

  Raises:
    FileNotFoundError: there is nothing at `path`.
    ImportError: a package is missing, which is named.
    ValueError: unknown format, a damaged file, or a missing column; no other
      error leaves a reader, now or when an episode is read.
  """
  path = files.expand(path)
  known = [field.name for field in dataclasses.fields(Options)]
  fields.check_names('A reader', options, known)
  chosen = Options(**options)
  fields.check_choice('format', format, ['auto', *_FORMATS], is_open=True)
  if path.exists() and not (path.is_file() or path.is_dir()):
    raise ValueError(
      f'{path} is neither a file nor a folder, but a pipe, a device or such; '
      'nothing is read from it.'
    )
  with promised(path, str(path)):
    if format == 'auto':
      format = detect(path)
    open_fn, _ = _FORMATS[format]
    return Guarded(path, open_fn(path, chosen))


# A format that is in no line above registers itself.
for _module in pkgutil.iter_modules(__path__):
  importlib.import_module(f'{__name__}.{_module.name}')
