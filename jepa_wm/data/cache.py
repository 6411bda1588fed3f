"""Episodes decoded once into flat memory-mapped arrays: what training reads.

A cache lies in the archive's own directory, `<archive>/cache`:

  meta.json            action statistics (of `train` alone), provenance, sizes,
                       and the fingerprint of the archive it was made from
  <split>/pixels.npy   uint8 `[N, height, width, 3]`, all frames of all episodes
          actions.npy  float32 `[N, raw_dim]`; NaN after an episode's last frame
          proprio.npy  float32 `[N, S]`
          state.npy    float32 `[N, V]`
          offsets.npy  int64 `[E]`, first frame of each episode
          lengths.npy  int64 `[E]`, frames of each episode

Record formats read 10 to 800 times slower than such arrays. Where the frames
are more than the disk holds, what changes in them is kept instead of
`pixels.npy` (`data/chunks.py`), and all else is the same.
"""

import contextlib
import dataclasses
import json
import math
import os
import pathlib
import shutil
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import numpy as np
import tqdm

from jepa_wm import files, units
from jepa_wm.data import chunks, flat_frames
from jepa_wm.data import episodes as episodes_lib

STORES = ('flat', 'chunks')
_FORMAT = 3
_ARRAYS = ('actions', 'proprio', 'state', 'offsets', 'lengths')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cache:
  """One split of a cache, open; `N` frames of `E` episodes.

  Attributes:
    path: the archive it belongs to.
    split: 'train' or 'held_out'.
    pixels: uint8 `[N, height, width, 3]`, memory-mapped, or
      `chunks.ChunkedFrames`, which are indexed alike.
    actions: float32 `[N, raw_dim]`, raw units, what was done after each frame;
      NaN after the last frame of an episode.
    proprio: float32 `[N, S]`, what the body feels of itself.
    state: float32 `[N, V]`, the true low-dimensional state.
    offsets: int64 `[E]`, index of each episode's first frame.
    lengths: int64 `[E]`, number of frames of each episode.
    action_statistics: of the split 'train', whichever split this is.
    provenance: where the episodes came from.
  """

  path: pathlib.Path
  split: str
  pixels: Any
  actions: np.ndarray
  proprio: np.ndarray
  state: np.ndarray
  offsets: np.ndarray
  lengths: np.ndarray
  action_statistics: units.ActionStatistics
  provenance: dict[str, Any]


def open_cache(path: str | os.PathLike[str], *, split: str = 'train') -> Cache:
  """Opens one split of the cache of an archive.

  Args:
    path: the archive, a directory that `episodes.write_episodes` made.
    split: 'train' or 'held_out'.

  Raises:
    FileNotFoundError: no archive, or no cache in it.
    ValueError: the cache belongs to other episodes, was written by another
      version of this code, lacks the split, or is cut off.
  """
  path = pathlib.Path(path)
  directory = path / 'cache'
  fingerprint = episodes_lib.fingerprint(path)
  if not (directory / 'meta.json').is_file():
    raise FileNotFoundError(
      f'No cache at {directory}; make it with cache.build_cache.'
    )
  try:
    meta = json.loads((directory / 'meta.json').read_text())
    version, source, splits, store = (
      meta[name] for name in ('format', 'fingerprint', 'splits', 'store')
    )
  except (ValueError, KeyError, TypeError) as error:
    raise _damaged(directory, f'meta.json: {error}') from error
  if version != _FORMAT or source != fingerprint:
    raise ValueError(
      f'The cache at {directory} was made from other episodes than those now '
      f'at {path}, or by another version; remove it or run '
      'cache.build_cache.'
    )
  if split not in splits:
    raise ValueError(
      f'The cache at {directory} has no split {split!r}, only {sorted(splits)}.'
    )
  shapes = splits[split]
  arrays = {
    name: _mapped(directory, f'{split}/{name}.npy', shapes[name])
    for name in _ARRAYS
  }
  if store == 'chunks':
    try:
      pixels: Any = chunks.ChunkedFrames(
        directory / split,
        frame=tuple(shapes['pixels'][1:]),
        offsets=arrays['offsets'],
        lengths=arrays['lengths'],
      )
    except ValueError as error:
      raise _damaged(directory, f'{split}/{error}') from error
  else:
    pixels = _mapped(directory, f'{split}/pixels.npy', shapes['pixels'])
  return Cache(
    path=path,
    split=split,
    pixels=pixels,
    **arrays,
    action_statistics=units.ActionStatistics.from_dict(
      meta['action_statistics']
    ),
    provenance=meta['provenance'],
  )


def _mapped(directory: pathlib.Path, name: str, shape: list[int]) -> np.ndarray:
  """A memory-mapped array of a shape that is known."""
  try:
    # Nothing at all cannot be mapped: a source without proprio, say.
    # A plain view: indexing a memmap would hand out its subclass.
    array = np.asarray(
      np.load(directory / name, mmap_mode='r' if math.prod(shape) else None)
    )
  except (OSError, ValueError, EOFError) as error:
    raise _damaged(directory, f'{name}: {error}') from error
  if list(array.shape) != shape:
    raise _damaged(directory, f'{name} has shape {array.shape}, not {shape}')
  return array


def build_cache(
  path: str | os.PathLike[str],
  *,
  store: str = 'auto',
  max_gb: float | None = None,
  progress: bool = False,
) -> None:
  """Decodes the archive at `path` into its cache, all of it or nothing.

  Args:
    path: the archive, a directory that `episodes.write_episodes` made.
    store: 'flat' or 'chunks'; 'auto' is 'chunks' where 'flat' does not fit.
    max_gb: what does not fit, in gigabytes; what the disk holds by default.
    progress: draws a progress bar.

  Raises:
    FileNotFoundError: there is no archive at `path`.
    ValueError: the archive is damaged or has no episodes to train on.
    OSError: the disk is full, cannot be written to, or has too little room.
  """
  path = pathlib.Path(path)
  sources = episodes_lib.open_splits(path)
  if 'train' not in sources:
    raise ValueError(
      f"The episodes at {path} have no split 'train', only {sorted(sources)}."
    )
  if store == 'auto':
    store = fitting_store(path, max_gb=max_gb)
  if store == 'flat':
    check_space(path, *_needs(sources))
  with CacheWriter(path, store=store) as writer:
    for split, source in sources.items():
      decoded = episodes_lib.in_threads(source.__getitem__, range(len(source)))
      for episode in tqdm.tqdm(
        decoded,
        desc=f'caching {split}',
        total=len(source),
        unit=' episodes',
        disable=not progress,
      ):
        writer.add(episode, split=split)
    writer.commit()


def fitting_store(
  path: str | os.PathLike[str], *, max_gb: float | None = None
) -> str:
  """How the frames of an archive are best kept: 'flat' where they fit.

  Args:
    path: the archive.
    max_gb: what does not fit, in gigabytes; what the disk holds by default.

  Raises:
    FileNotFoundError: there is no archive at `path`.
    ValueError: it is damaged.
  """
  num_frames, frame = _needs(episodes_lib.open_splits(path))
  limit = shutil.disk_usage(path).free if max_gb is None else max_gb * 1e9
  return 'flat' if num_frames * math.prod(frame) <= limit else 'chunks'


def _needs(
  sources: dict[str, episodes_lib.EpisodeSource],
) -> tuple[int, tuple[int, ...]]:
  """Number of frames, as far as it is known, and their shape."""
  counts = [source.num_frames for source in sources.values()]
  known = [count for count in counts if count is not None]
  first = next(source for source in sources.values() if len(source))
  return sum(known), first[0].pixels.shape[1:]


def check_space(
  path: str | os.PathLike[str], num_frames: int, frame: tuple[int, ...]
) -> None:
  """Refuses to start what the disk cannot hold.

  Args:
    path: directory, or one that will be made.
    num_frames: frames to be stored.
    frame: shape of a frame, one byte per entry.

  Raises:
    OSError: less room than the decoded frames need.
  """
  path = pathlib.Path(path).absolute()
  while not path.exists():
    path = path.parent
  needed = num_frames * int(np.prod(frame))
  free = shutil.disk_usage(path).free
  if needed > free:
    raise OSError(
      f'The cache of {num_frames} frames of {"x".join(map(str, frame))} bytes '
      f'needs {needed / 1e9:.2f} GB and the disk has {free / 1e9:.2f} GB left; '
      'use fewer or smaller frames, or another disk.'
    )


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
    if store not in STORES:
      raise ValueError(
        f'store must be one of {", ".join(STORES)}, got {store!r}.'
      )
    self._store = store
    self._path = pathlib.Path(path).absolute()
    self._partial = self._path.with_name(f'.{self._path.name}.cache.partial')
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
      writer.pixels.close()
    shutil.rmtree(self._partial, ignore_errors=True)

  def add(self, episode: episodes_lib.Episode, *, split: str) -> None:
    """Appends an episode to a split.

    Raises:
      OSError: the disk is full or cannot be written to.
    """
    with _naming(self._path):
      if split not in self._splits:
        self._splits[split] = _SplitWriter(
          self._partial / split, episode, self._store
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
    statistics = units.fit(np.concatenate(self._splits['train'].actions))
    with _naming(self._path):
      meta = {
        'format': _FORMAT,
        'store': self._store,
        'fingerprint': episodes_lib.fingerprint(self._path),
        'action_statistics': statistics.to_dict(),
        'provenance': episodes_lib.open_episodes(self._path).provenance,
        'splits': {
          split: writer.finish() for split, writer in self._splits.items()
        },
      }
      (self._partial / 'meta.json').write_text(json.dumps(meta, indent=2))
      files.replace_folder(self._partial, self._path / 'cache')


class _SplitWriter:
  """The arrays of one split; pixels go to the disk as they come."""

  def __init__(
    self, directory: pathlib.Path, episode: episodes_lib.Episode, store: str
  ) -> None:
    directory.mkdir()
    self.directory = directory
    self.frame = episode.pixels.shape[1:]
    self.actions: list[np.ndarray] = []
    self.proprio: list[np.ndarray] = []
    self.state: list[np.ndarray] = []
    self.lengths: list[int] = []
    self.pixels: Any = (
      chunks.ChunkWriter(directory, self.frame)
      if store == 'chunks'
      else flat_frames.FlatWriter(directory / 'pixels.npy', self.frame)
    )

  def add(self, episode: episodes_lib.Episode) -> None:
    self.pixels.add(episode.pixels)
    # No action follows the last frame: NaN there makes a misuse loud.
    self.actions.append(
      np.pad(episode.actions, ((0, 1), (0, 0)), constant_values=np.nan)
    )
    self.proprio.append(episode.proprio)
    self.state.append(episode.state)
    self.lengths.append(len(episode.pixels))

  def finish(self) -> dict[str, list[int]]:
    """Completes the files; shapes of the arrays."""
    self.pixels.close()
    lengths = np.asarray(self.lengths, np.int64)
    arrays = {
      'actions': np.concatenate(self.actions),
      'proprio': np.concatenate(self.proprio),
      'state': np.concatenate(self.state),
      'offsets': np.cumsum(lengths) - lengths,
      'lengths': lengths,
    }
    for name, array in arrays.items():
      np.save(self.directory / f'{name}.npy', array)
    return {
      'pixels': [int(lengths.sum()), *self.frame],
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


def _damaged(directory: pathlib.Path, what: str) -> ValueError:
  return ValueError(
    f'The cache at {directory} is cut off or damaged ({what}); remove it or '
    'run cache.build_cache.'
  )
