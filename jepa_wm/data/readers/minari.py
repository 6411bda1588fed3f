"""Minari's HDF5 layout, read without the minari package.

  metadata.json                     spaces, environment, whether images are JPEG
  main_data.hdf5  episode_0/observations    `[T + 1, ...]`, or a group of such
                  episode_0/actions         `[T, ...]`
                  episode_0/terminations    `[T]`
                  episode_0/infos/...       `[T + 1, ...]`

Observations are named `observation/...` here, the same as elsewhere.
"""

import dataclasses
import json
import pathlib
import threading
from typing import Any

import numpy as np

from jepa_wm import files
from jepa_wm.data import episodes as episodes_lib
from jepa_wm.data.readers import columns, frames, hdf5, images, reader

_FILE = 'main_data.hdf5'
_GROUPS = {
  'observations': 'observation',
  'actions': 'action',
  'infos': 'infos',
  'terminations': 'terminations',
  'rewards': 'reward',
}


def looks_like(path: pathlib.Path) -> bool:
  """Whether `path` is such a file or folder."""
  is_hdf5 = path.name == _FILE or _folder(path) is not None
  return is_hdf5 or _is_arrow(path)


class Minari:
  """The episodes of one dataset; see `reader.Reader`."""

  def __init__(self, path: pathlib.Path, options: reader.Options) -> None:
    """Opens a dataset.

    Args:
      path: its folder, the folder `data` in it, or the HDF5 file.
      options: what to read.

    Raises:
      FileNotFoundError: there is no such dataset.
      ImportError: h5py is not installed.
      ValueError: it is cut off, of another layout, or lacks a column.
    """
    if hdf5.h5py is None:
      raise reader.missing('h5py', f'{path} is HDF5 and')
    if _is_arrow(path):
      raise ValueError(
        f"{path} is in Minari's Arrow format, of which the HDF5 one alone is "
        'read; where minari is installed: minari.create_dataset_from_buffers('
        "dataset_id, buffer=[...], data_format='hdf5') writes it so."
      )
    options.refuse(
      path,
      split='is a Minari dataset and is read whole',
      alignment='is a Minari dataset, whose actions lead to the next frame',
    )
    folder = path.parent if path.name == _FILE else _folder(path)
    if folder is None:
      raise FileNotFoundError(f'{path} is no Minari dataset with a {_FILE}.')
    self.path = folder / _FILE
    self.warnings: list[str] = []
    metadata = _metadata(folder / 'metadata.json')
    self._options = _with_actions(options, metadata)
    self._lock = threading.Lock()
    self._file, self._names = _open(self.path)
    self.num_episodes = len(self._names)
    total = metadata.get('total_episodes', self.num_episodes)
    if not self.num_episodes or total != self.num_episodes:
      raise ValueError(
        f'{self.path} holds {self.num_episodes} episodes and its metadata '
        f'names {total}; it was not finished, copy it again.'
      )
    found = self._columns(self._names[0])
    self._choice = columns.choose(
      self.path,
      self._options,
      images=[name for name, item in found.items() if _is_image(name, item)],
      vectors=[
        name
        for name, item in found.items()
        if item.ndim <= 2 and item.dtype.kind in 'fiub' and name != 'reward'
      ],
      steps={'reward': 'reward'} if 'reward' in found else {},
    )
    pixels = found[self._choice.pixels]
    if pixels.ndim == 4 and 'FrameStack' in str(metadata.get('env_spec')):
      raise ValueError(
        f'{self.path} has stacked frames in {self._choice.pixels!r}, '
        f'{list(pixels.shape)}, by its env_spec, and no colours; record it '
        'without FrameStackObservation, or choose another column with --pixels.'
      )
    self._scale = self._find_scale(pixels)
    self.provenance: dict[str, Any] = {
      'format': 'Minari HDF5',
      'dataset_id': metadata.get('dataset_id'),
      'env_spec': metadata.get('env_spec'),
      'minari_version': metadata.get('minari_version'),
      'columns': self._choice.to_dict(),
    }
    if self._options.discrete_start:
      self.provenance['discrete_start'] = self._options.discrete_start

  def __getitem__(self, index: int) -> episodes_lib.Episode:
    reader.check_index(self, index)
    name = self._names[index]
    where = f'{self.path}, {name},'
    try:
      with self._lock:
        items = self._columns(name)
        wanted = (self._choice.pixels, *self._choice.vectors)
        missing = set(wanted) - set(items)
        if missing:
          raise ValueError(
            f'{where} lacks {", ".join(sorted(missing))}, it has '
            f'{", ".join(sorted(items))}.'
          )
        found: dict[str, Any] = {
          column: hdf5.read(items[column], ()) for column in wanted
        }
        ends = items.get('terminations')
        is_terminal = ends is not None and bool(len(ends) and ends[-1])
    except (OSError, RuntimeError) as error:
      raise ValueError(
        f'{where} cannot be read ({error}); the file is cut off or damaged, '
        'copy it again.'
      ) from error
    pixels = found[self._choice.pixels]
    if pixels.dtype == object or pixels.ndim == 2:
      rows = (np.asarray(row, np.uint8).tobytes() for row in pixels)
      found[self._choice.pixels] = images.decode(where, rows)
    return columns.episode(
      where,
      found,
      self._choice,
      self._options,
      provenance={'index': index},
      is_terminal=is_terminal,
      scale=self._scale,
    )

  def _columns(self, name: str) -> dict[str, Any]:
    """Every dataset of an episode by its name here."""
    episode = hdf5.child(self.path, self._file, name)
    found: dict[str, Any] = {}
    for path, item in hdf5.datasets(f'{self.path}, {name},', episode):
      head, slash, rest = path.partition('/')
      if head in _GROUPS:
        found[_GROUPS[head] + slash + rest] = item
    return found

  def _find_scale(self, first: Any) -> float | None:
    """That of pictures in floats, found in all of them; None for others."""
    if first.dtype.kind != 'f':
      return None
    name = self._choice.pixels
    return frames.scale_of(
      self.path,
      name,
      (
        piece
        for episode in self._names
        if (item := self._columns(episode).get(name)) is not None
        for piece in hdf5.pieces(item)
      ),
    )


def _is_arrow(path: pathlib.Path) -> bool:
  """Whether `path` is a dataset of Minari's other backend."""
  return path.is_dir() and any(
    files.visible((path / folder).glob('[0-9]*/*.arrow'))
    for folder in ('', 'data')
  )


def _folder(path: pathlib.Path) -> pathlib.Path | None:
  """The folder that the file is in, if `path` is a dataset."""
  for folder in (path, path / 'data'):
    if (folder / _FILE).is_file():
      return folder
  return None


def _open(path: pathlib.Path) -> tuple[Any, list[str]]:
  """The open file and the names of its episodes, in order."""
  try:
    file = hdf5.open_file(path)
    names = [name for name in file if name.startswith('episode_')]
    return file, sorted(names, key=lambda name: int(name.split('_')[1]))
  except ValueError as error:
    if files.is_lfs_pointer(path):
      raise
    raise ValueError(
      f'{path} is cut off or no file of Minari ({error}); copy it again.'
    ) from error


def _metadata(file: pathlib.Path) -> dict[str, Any]:
  """What the dataset says of itself, nothing where the file is missing."""
  found = files.read_json(file) if file.is_file() else {}
  if not isinstance(found, dict):
    raise ValueError(f'{file} is no JSON object; copy it again.')
  return found


def _with_actions(
  options: reader.Options, metadata: dict[str, Any]
) -> reader.Options:
  """Adds how many actions there are, where the dataset's space says so."""
  try:
    space = json.loads(metadata.get('action_space', '{}'))
  except (ValueError, TypeError, RecursionError):
    return options
  if not isinstance(space, dict) or space.get('type') != 'Discrete':
    return options
  count, start = int(space['n']), int(space.get('start', 0))
  if options.num_discrete not in (None, count):
    raise ValueError(
      f'--num_discrete={options.num_discrete} was asked for, and the dataset '
      f'says that there are {count} actions, {start} to {start + count - 1}; '
      'leave the flag out.'
    )
  return dataclasses.replace(options, num_discrete=count, discrete_start=start)


def _is_image(name: str, item: Any) -> bool:
  """Raw frames, or rows of the bytes of JPEG files."""
  if not name.startswith('observation'):
    return False
  if item.ndim >= 3:
    return hdf5.is_picture(item.shape)
  if item.dtype == object:
    return hdf5.h5py.check_vlen_dtype(item.dtype) == np.uint8
  is_bytes = item.dtype == np.uint8 and item.ndim == 2 and item.shape[1] > 2
  return is_bytes and item[0, :2].tobytes() == b'\xff\xd8'
