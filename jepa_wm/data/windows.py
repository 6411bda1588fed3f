"""Columns to windows to batches, with grain: shuffled, endless, resumable."""

import functools
import math
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jepa_wm.data import buffers
from jepa_wm.data import columns as columns_lib
from jepa_wm.data import table as table_lib

if TYPE_CHECKING:
  import grain


def window_starts(
  table: table_lib.Table,
  *,
  num_frames: int | Sequence[int],
  stride: int | Sequence[int],
  skip_short_episodes: bool = False,
) -> np.ndarray:
  """First frames of all windows that stay inside their episode.

  Args:
    table: what the windows are cut from.
    num_frames: frames `T` of a window; see `cached_windows`.
    stride: environment steps from one frame of a window to the next.
    skip_short_episodes: leaves out episodes shorter than a window.

  Returns:
    int64 `[W]`, indices into the table's frames, ascending.

  Raises:
    ValueError: no window at all, or a too short episode not to be skipped.
  """
  levels = _levels(num_frames, stride)
  span = 1 + max((frames - 1) * step for frames, step in levels)
  num_short = int(np.sum(table.lengths < span))
  if num_short == len(table.lengths):
    frames, step = max(levels, key=lambda level: (level[0] - 1) * level[1])
    raise ValueError(
      f'No episode at {table.where} is as long as one window: {frames} frames '
      f'{step} steps apart span {span} frames, the longest episode '
      f'has {table.lengths.max(initial=0)}.'
    )
  if num_short and not skip_short_episodes:
    raise ValueError(
      f'{num_short} of {len(table.lengths)} episodes at {table.where} are '
      f'shorter than a window of {span} frames (the shortest has '
      f'{table.lengths.min()}); shorten the window, collect longer episodes, '
      'or set skip_short_episodes.'
    )
  counts = np.maximum(table.lengths - span + 1, 0)
  # Counting on through all windows, then going back to each episode's start.
  firsts = np.cumsum(counts) - counts
  return np.arange(counts.sum()) + np.repeat(table.offsets - firsts, counts)


def cached_windows(
  table: table_lib.Table,
  *,
  num_frames: int | Sequence[int],
  stride: int | Sequence[int],
  batch_size: int,
  seed: int,
  columns: Sequence[str] | None = None,
  skip_short_episodes: bool = False,
  num_threads: int = 1,
  latents: np.ndarray | None = None,
  rows: np.ndarray | None = None,
) -> 'grain.DatasetIterator':
  """Endless batches of windows, every window once per epoch.

  An epoch's order depends on the seed and its number; batches run on across
  epochs. `get_state()` is a small JSON-able dict, and `set_state(...)` on an
  iterator made with the same arguments continues with the very batch that would
  have come next. The memory of a batch is its reader's; that of pictures is
  used again once nothing refers to it.

  Args:
    table: what the windows are cut from, such as a `cache.Cache`.
    num_frames: frames `T` of a window. With a sequence of both this and
      `stride`, for a hierarchy, a batch is a tuple with a dict for each, all of
      whose windows begin at the same frames.
    stride: environment steps from one frame of a window to the next.
    batch_size: windows `B` of a batch.
    seed: of the order.
    columns: names of what a batch holds (`data/columns.py`); all that are
      there by default.
    skip_short_episodes: leaves out episodes shorter than a window.
    num_threads: threads that read ahead; 0 reads when asked.
    latents: `[N, D]`, what an encoder made of the table's frames, to be read in
      place of what was observed.
    rows: `[b]`, which windows of every batch are read, those of one process;
      all by default. The position is that of whole batches.

  Returns:
    Iterator over dicts: see `Gather`.

  Raises:
    ValueError: no window at all, a too short episode not to be skipped, a
      count below one, no such column, or latents of other frames.
  """
  check_batches(batch_size, seed)
  if not is_whole(num_threads) or num_threads < 0:
    raise ValueError(f'num_threads must be at least 0, got {num_threads!r}.')
  starts = window_starts(
    table,
    num_frames=num_frames,
    stride=stride,
    skip_short_episodes=skip_short_episodes,
  )
  gather = Gather(
    table,
    num_frames=num_frames,
    stride=stride,
    batch_size=batch_size if rows is None else len(rows),
    columns=columns,
    latents=latents,
    # Those that wait, that are filled, and that the reader looks at.
    num_kept=3 * num_threads + 3,
  )

  # Two, because threads that read ahead are in the next epoch already.
  @functools.lru_cache(maxsize=2)
  def order(epoch: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch)).permutation(len(starts))

  def batch(number: int) -> Any:
    # grain only ever handles numbers of batches.
    places = np.arange(batch_size) if rows is None else rows
    places = number * batch_size + places
    epochs, places = divmod(places, len(starts))
    windows = [order(e)[places[epochs == e]] for e in np.unique(epochs)]
    return gather(table, starts[np.concatenate(windows)])

  return numbered(batch, num_threads)


def numbered(batch_fn: Callable[[int], Any], num_threads: int) -> Any:
  """Batches 0, 1, 2, ... without end, which threads make ahead of time.

  Args:
    batch_fn: a number to its batch.
    num_threads: how many make them; twice as many batches wait.
  """
  import grain

  return iter(
    grain.MapDataset.range(sys.maxsize)
    .map(batch_fn)
    .to_iter_dataset(
      grain.ReadOptions(
        num_threads=num_threads, prefetch_buffer_size=2 * num_threads
      )
    )
  )


class Gather:
  """Puts windows together, one copy per array and batch.

  Called with a table and the windows' first frames `[B]` it gives, for each
  pair of `num_frames` and `stride`, a dict of the columns: `observation` with
  what is seen, `[B, T, ...]`, such as `pixels` uint8 and `proprio` float32, or
  in its place `latents` `[B, T, D]`; `action` float32
  `[B, T - 1, stride * raw_dim]` in raw units and `reward` `[B, T - 1, stride]`,
  those between two frames in time order; `state`, `is_first`, `is_last` and
  `is_terminal` `[B, T, ...]`; `label`, `task`, `agent` `[B, ...]`.
  """

  def __init__(
    self,
    table: table_lib.Table,
    *,
    num_frames: int | Sequence[int],
    stride: int | Sequence[int],
    batch_size: int,
    columns: Sequence[str] | None = None,
    latents: np.ndarray | None = None,
    num_kept: int = 3,
  ):
    """Prepares for tables with the columns of `table`; see `cached_windows`."""
    if latents is not None and len(latents) != table.num_frames:
      raise ValueError(
        f'latents must be those of the {table.num_frames} frames of '
        f'{table.where}, got {len(latents)}.'
      )
    available = dict.fromkeys((*table.columns, *columns_lib.ENDS))
    names = columns_lib.chosen(columns, available, table.where)
    if latents is not None:
      names = tuple(n for n in names if not n.startswith('observation/'))
    self._names, self._latents = names, latents
    self._levels = _levels(num_frames, stride)
    self._is_flat = is_whole(num_frames)
    self._buffers = [
      {
        name: buffers.Buffers(
          (batch_size, frames, *table.columns[name].shape[1:]),
          num_kept=num_kept,
        )
        for name in names
        if columns_lib.is_image(name)
      }
      for frames, _ in self._levels
    ]

  def __call__(self, table: table_lib.Table, first: np.ndarray) -> Any:
    """The batch of windows that begin at the frames `first` `[B]`."""
    batches = tuple(
      self._window(table, first, frames, step, batch_buffers)
      for (frames, step), batch_buffers in zip(self._levels, self._buffers)
    )
    return batches[0] if self._is_flat else batches

  def _window(
    self,
    table: table_lib.Table,
    first: np.ndarray,
    num_frames: int,
    stride: int,
    kept: dict[str, buffers.Buffers],
  ) -> dict[str, Any]:
    frames = first[:, None] + np.arange(num_frames) * stride
    steps = first[:, None] + np.arange((num_frames - 1) * stride)
    # Only where it is asked for: a search costs.
    episodes = functools.cache(lambda: table.episode_of(first))
    seen: dict[str, Any] = {}
    if self._latents is not None:
      seen['latents'] = self._latents[frames]
    for name in self._names:
      if name in kept:
        seen[name] = _taken(table.columns[name], frames, kept[name].next())
      elif name in columns_lib.STEPS:
        rows = table.columns[name][steps]
        shape = len(first), num_frames - 1, stride * math.prod(rows.shape[2:])
        seen[name] = rows.reshape(shape)
      elif name in columns_lib.EPISODES:
        seen[name] = table.columns[name][episodes()]
      elif name in columns_lib.ENDS:
        seen[name] = _end(table, name, frames, episodes)
      else:
        seen[name] = table.columns[name][frames]
    return columns_lib.nested(seen)


def _taken(column: Any, frames: np.ndarray, out: np.ndarray) -> np.ndarray:
  """Pictures of `column`, written to `out`."""
  if isinstance(column, np.ndarray):
    # Where nothing is clipped, NumPy writes without a copy in between.
    column.take(frames, axis=0, out=out, mode='clip')
  else:
    column.take(frames, out)
  return out


def _end(
  table: table_lib.Table,
  name: str,
  frames: np.ndarray,
  episodes: Callable[[], np.ndarray],
) -> np.ndarray:
  """Whether frames begin or end their episode, bool `[B, T]`."""
  episode = episodes()[:, None]
  place = frames - table.offsets[episode]
  if name == 'is_first':
    return place == 0
  is_last = place == table.lengths[episode] - 1
  if name == 'is_last':
    return is_last
  return is_last & table.columns['is_terminal'][episode]


def is_whole(value: Any) -> bool:
  """Whether a value is a whole number, of Python or NumPy, and no truth."""
  return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def check_batches(batch_size: int, seed: int) -> None:
  """Makes sure that batches can be drawn.

  Raises:
    ValueError: what is no whole number or too small.
  """
  if (
    not (is_whole(batch_size) and is_whole(seed)) or batch_size < 1 or seed < 0
  ):
    raise ValueError(
      'batch_size must be at least 1 and seed at least 0, whole numbers, got '
      f'{batch_size!r} and {seed!r}.'
    )


def _levels(
  num_frames: int | Sequence[int], stride: int | Sequence[int]
) -> list[tuple[int, int]]:
  """Frames and strides of each level.

  Raises:
    ValueError: one below one, or not as many of both.
  """
  frames, strides = (
    list(x) if isinstance(x, Sequence) and not isinstance(x, str) else [x]
    for x in (num_frames, stride)
  )
  for value in (*frames, *strides):
    if not is_whole(value):
      raise ValueError(
        f'num_frames and stride must be whole numbers, got {value!r}.'
      )
  if len(frames) != len(strides) or min(*frames, *strides, 1) < 1:
    raise ValueError(
      'num_frames and stride must be at least 1 and as many of one as of the '
      f'other, got {num_frames} and {stride}.'
    )
  return list(zip(frames, strides))
