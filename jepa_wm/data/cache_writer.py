"""Writes caches: episodes as flat arrays, `data/cache.py` says which."""

import contextlib
import json
import os
import pathlib
import shutil
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import numpy as np

from jepa_wm import fields, files, units
from jepa_wm.data import chunks, flat_frames
from jepa_wm.data import columns as columns_lib
from jepa_wm.data import episodes as episodes_lib

STORES = ('flat', 'chunks')

FORMAT = 4
"""Number of the layout, in a cache's `meta.json`."""


class CacheWriter:
  """Gathers episodes into a cache that appears when it is committed.

  A context manager: what was gathered and not committed is removed. Whoever
  has the decoded episodes in hand, because they are just being played, adds
  them here while `episodes.write_episodes` consumes them, commits when that has
  returned, and spares `build_cache` the decoding.
  """

  def __init__(
    self, path: str | os.PathLike[str], *, store: str = 'flat'
  ) -> None:
    """Prepares a cache for the archive at `path`, which may not exist yet.

    Args:
      path: the archive.
      store: 'flat' or 'chunks'.

    Raises:
      ValueError: another `store`.
    """
    fields.check_choice('store', store, STORES)
    self._store = store
    self._path = files.expand(path).absolute()
    self._partial = self._path.with_name(f'.{self._path.name}.cache.partial')
    self._spec: columns_lib.Spec = {}
    self._splits: dict[str, _SplitWriter] = {}

  def __enter__(self) -> 'CacheWriter':
    shutil.rmtree(self._partial, ignore_errors=True)
    self._partial.mkdir(parents=True)
    return self

  def __exit__(
    self,
    kind: type[BaseException] | None,
    error: BaseException | None,
    traceback: TracebackType | None,
  ) -> None:
    for writer in self._splits.values():
      writer.close()
    shutil.rmtree(self._partial, ignore_errors=True)

  def add(self, episode: episodes_lib.Episode, *, split: str) -> None:
    """Appends an episode to a split.

    Raises:
      ValueError: its columns are not those of the first one.
      OSError: the disk is full or cannot be written to.
    """
    self._spec = self._spec or episode.spec
    episodes_lib.check_spec(episode.spec, self._spec)
    with _naming(self._path):
      if split not in self._splits:
        self._splits[split] = _SplitWriter(
          self._partial / split, self._spec, self._store
        )
      self._splits[split].add(episode)

  def commit(self) -> None:
    """Finishes the cache and moves it into the archive, now complete.

    Raises:
      FileNotFoundError: there is no archive.
      ValueError: no episode was added to `train`.
      OSError: the disk is full or cannot be written to.
    """
    if 'train' not in self._splits:
      raise ValueError(
        "No episode was added to the split 'train', whose actions are needed "
        'for the action statistics.'
      )
    statistics = units.fit(
      np.concatenate(self._splits['train'].arrays['action'])
    )
    with _naming(self._path):
      meta = {
        'format': FORMAT,
        'store': self._store,
        'fingerprint': episodes_lib.fingerprint(self._path),
        'action_statistics': statistics.to_dict(),
        'images': sorted(self._splits['train'].images),
        'provenance': episodes_lib.open_episodes(self._path).provenance,
        'splits': {
          split: writer.finish() for split, writer in self._splits.items()
        },
      }
      (self._partial / 'meta.json').write_text(json.dumps(meta, indent=2))
      files.replace_folder(self._partial, self._path / 'cache')


class _SplitWriter:
  """The columns of one split; pictures go to the disk as they come."""

  def __init__(
    self, directory: pathlib.Path, spec: columns_lib.Spec, store: str
  ) -> None:
    (directory / 'observation').mkdir(parents=True)
    self.directory = directory
    self.lengths: list[int] = []
    self.arrays: dict[str, list[np.ndarray]] = {
      name: [] for name in spec if not columns_lib.is_image(name)
    }
    self.arrays['is_terminal'] = []
    self.images: dict[str, Any] = {
      name: (
        chunks.ChunkWriter(directory, column.shape, name=name)
        if store == 'chunks'
        else flat_frames.FlatWriter(directory / f'{name}.npy', column.shape)
      )
      for name, column in spec.items()
      if columns_lib.is_image(name)
    }

  def add(self, episode: episodes_lib.Episode) -> None:
    for name, array in episode.columns.items():
      if name in self.images:
        self.images[name].add(array)
        continue
      if name in columns_lib.STEPS:
        # No action follows the last frame: NaN there makes a misuse loud.
        padding = [(0, 1)] + [(0, 0)] * (array.ndim - 1)
        array = np.pad(array, padding, constant_values=np.nan)
      elif name in columns_lib.EPISODES:
        array = array[None]
      self.arrays[name].append(array)
    self.arrays['is_terminal'].append(np.array([episode.is_terminal]))
    self.lengths.append(episode.num_frames)

  def close(self) -> None:
    """Closes the files of pictures; again does nothing."""
    for writer in self.images.values():
      writer.close()

  def finish(self) -> dict[str, list[int]]:
    """Completes the files; shapes of the arrays."""
    self.close()
    lengths = np.asarray(self.lengths, np.int64)
    arrays = {name: np.concatenate(rows) for name, rows in self.arrays.items()}
    arrays |= {'offsets': np.cumsum(lengths) - lengths, 'lengths': lengths}
    for name, array in arrays.items():
      np.save(self.directory / f'{name}.npy', array)
    num_frames = int(lengths.sum())
    return {
      **{n: [num_frames, *x.frame] for n, x in self.images.items()},
      **{name: list(array.shape) for name, array in arrays.items()},
    }


@contextlib.contextmanager
def _naming(path: pathlib.Path) -> Iterator[None]:
  """Names the archive when the operating system refuses a write."""
  try:
    yield
  except OSError as error:
    if error.filename is not None:
      raise
    raise OSError(
      error.errno, f'Cannot write the cache: {error.strerror}', str(path)
    ) from error
