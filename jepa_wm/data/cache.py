"""Episodes decoded once into flat memory-mapped arrays: what training reads.

A cache lies in the archive's own directory, `<archive>/cache`:

  meta.json            action statistics (of `train` alone), provenance, sizes,
                       and the fingerprint of the archive it was made from
  <split>/observation/pixels.npy
                         uint8 `[N, height, width, 3]`, all frames of all
                         episodes
          .../NAME.npy   any other column, `[N, ...]`: `observation/proprio`,
                         `state`; `action` and `reward` with NaN after an
                         episode's last frame; `label` `[E, ...]`, ...
          is_terminal.npy  bool `[E]`, whether the task ended with the episode
          offsets.npy    int64 `[E]`, first frame of each episode
          lengths.npy    int64 `[E]`, frames of each episode

Record formats read 10 to 800 times slower than such arrays. Where the pictures
are more than the disk holds, what changes in them is kept in place of their
file (`data/chunks.py`), and all else is the same.
"""

import dataclasses
import math
import os
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

import numpy as np
import tqdm

from jepa_wm import files, units
from jepa_wm.data import cache_writer, chunks, table
from jepa_wm.data import episodes as episodes_lib


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cache(table.Table):
  """One split of a cache, open; its large columns are memory-mapped.

  Attributes, beside those of `table.Table`:
    path: the archive it belongs to.
    split: 'train' or 'held_out'.
    action_statistics: of the split 'train', whichever split this is.
    provenance: where the episodes came from.
  """

  path: pathlib.Path
  split: str
  action_statistics: units.ActionStatistics
  provenance: dict[str, Any]


_NO_ROWS = np.zeros(0, np.uint8)


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
  path = files.expand(path)
  directory = path / 'cache'
  fingerprint = episodes_lib.fingerprint(path)
  if not (directory / 'meta.json').is_file():
    raise FileNotFoundError(
      f'No cache at {directory}; make it with cache.build_cache.'
    )
  try:
    meta = files.read_json(directory / 'meta.json')
    version, source = meta['format'], meta['fingerprint']
  except (ValueError, KeyError, TypeError) as error:
    raise _damaged(directory, f'meta.json: {error}') from error
  if version != cache_writer.FORMAT or source != fingerprint:
    raise ValueError(
      f'The cache at {directory} was made from other episodes than those now '
      f'at {path}, or is laid out as another version wrote it; remove it, run '
      'cache.build_cache or collect again.'
    )
  try:
    return _opened(path, directory, meta, split)
  except (AttributeError, LookupError, TypeError) as error:
    why = f'meta.json: {type(error).__name__}: {error}'
    raise _damaged(directory, why) from error


def _opened(
  path: pathlib.Path, directory: pathlib.Path, meta: Any, split: str
) -> Cache:
  """The split of a cache whose `meta.json` is of these episodes."""
  splits = meta['splits']
  if split not in splits:
    raise ValueError(
      f'The cache at {directory} has no split {split!r}, only {sorted(splits)}.'
    )
  shapes = splits[split]
  images = meta['images']
  columns: dict[str, Any] = {
    name: _mapped(directory, f'{split}/{name}.npy', shape)
    for name, shape in shapes.items()
    if name not in images or meta['store'] == 'flat'
  }
  episodes = {name: columns.pop(name) for name in ('offsets', 'lengths')}
  offsets, lengths = episodes['offsets'], episodes['lengths']
  ends = np.append(offsets, len(columns['action']))
  if not np.array_equal(np.diff(ends), lengths) or offsets[:1].any():
    raise _damaged(directory, f'{split}: offsets and lengths do not fit')
  wrong = [
    name for name in images if columns.get(name, _NO_ROWS).dtype != np.uint8
  ]
  if wrong:
    raise _damaged(directory, f'{split}/{wrong[0]}.npy holds no pictures')
  for name in images:
    if name not in columns:
      try:
        columns[name] = chunks.ChunkedFrames(
          directory / split,
          name=name,
          frame=tuple(shapes[name][1:]),
          **episodes,
        )
      except ValueError as error:
        raise _damaged(directory, f'{split}/{error}') from error
  return Cache(
    where=f'{path} ({split})',
    columns=dict(sorted(columns.items())),
    **episodes,
    path=path,
    split=split,
    action_statistics=units.ActionStatistics.from_dict(
      meta['action_statistics']
    ),
    provenance=meta['provenance'],
  )


def _mapped(directory: pathlib.Path, name: str, shape: list[int]) -> np.ndarray:
  """A memory-mapped array of a shape that is known."""
  try:
    # Nothing at all cannot be mapped.
    # A plain view: indexing a memmap would hand out its subclass.
    array = np.asarray(
      np.load(directory / name, mmap_mode='r' if math.prod(shape) else None)
    )
  # What a file that is none leads NumPy to is of many kinds.
  except Exception as error:
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
  path = files.expand(path)
  sources = episodes_lib.open_splits(path)
  if 'train' not in sources:
    raise ValueError(
      f"The episodes at {path} have no split 'train', only {sorted(sources)}."
    )
  if store == 'auto':
    store = fitting_store(path, max_gb=max_gb)
  if store == 'flat':
    check_space(path, num_bytes(sources))
  with cache_writer.CacheWriter(path, store=store) as writer:
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
  needed = num_bytes(episodes_lib.open_splits(path))
  limit = shutil.disk_usage(path).free if max_gb is None else max_gb * 1e9
  return 'flat' if needed <= limit else 'chunks'


def num_bytes(sources: Mapping[str, episodes_lib.EpisodeSource]) -> int:
  """Bytes of all pictures of the splits of an archive, as far as is known."""
  num_frames = sum(source.num_frames or 0 for source in sources.values())
  first = next(source for source in sources.values() if len(source))
  return num_frames * first[0].frame_bytes


def check_space(path: str | os.PathLike[str], num_bytes: int) -> None:
  """Refuses to start what the disk cannot hold.

  Args:
    path: directory, or one that will be made.
    num_bytes: of the decoded pictures.

  Raises:
    OSError: there is less room.
  """
  path = files.expand(path).absolute()
  there = next(x for x in (path, *path.parents) if x.exists())
  free = shutil.disk_usage(there).free
  if num_bytes > free:
    raise OSError(
      f'The cache of {path} needs {num_bytes / 1e9:.2f} GB for its pictures '
      f'and the disk has {free / 1e9:.2f} GB left; use fewer or smaller '
      'frames, or another disk.'
    )


def _damaged(directory: pathlib.Path, what: str) -> ValueError:
  return ValueError(
    f'The cache at {directory} is cut off or damaged ({what}); remove it or '
    'run cache.build_cache.'
  )
