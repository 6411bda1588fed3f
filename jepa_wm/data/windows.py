"""Cache to windows to batches, with grain: shuffled, endless, resumable."""

import functools
import sys
from typing import Any

import grain
import numpy as np

from jepa_wm.data import buffers, chunks
from jepa_wm.data import cache as cache_lib


def window_starts(
  cache: cache_lib.Cache,
  *,
  num_frames: int,
  action_block: int,
  skip_short_episodes: bool = False,
) -> np.ndarray:
  """First frames of all windows that stay inside their episode.

  Args:
    cache: what the windows are cut from.
    num_frames: frames `T` of a window.
    action_block: environment steps from one frame of a window to the next.
    skip_short_episodes: leaves out episodes shorter than a window.

  Returns:
    int64 `[W]`, indices into the cache's frames, ascending.

  Raises:
    ValueError: no window at all, or a too short episode not to be skipped.
  """
  if num_frames < 1 or action_block < 1:
    raise ValueError(
      'num_frames and action_block must be at least 1, got '
      f'{num_frames} and {action_block}.'
    )
  span = (num_frames - 1) * action_block + 1
  where = f'{cache.path} ({cache.split})'
  num_short = int(np.sum(cache.lengths < span))
  if num_short == len(cache.lengths):
    raise ValueError(
      f'No episode at {where} is as long as one window: {num_frames} frames '
      f'{action_block} steps apart span {span} frames, the longest episode '
      f'has {cache.lengths.max(initial=0)}.'
    )
  if num_short and not skip_short_episodes:
    raise ValueError(
      f'{num_short} of {len(cache.lengths)} episodes at {where} are shorter '
      f'than a window of {span} frames (the shortest has '
      f'{cache.lengths.min()}); shorten the window, collect longer episodes, '
      'or set skip_short_episodes.'
    )
  counts = np.maximum(cache.lengths - span + 1, 0)
  # Counting on through all windows, then going back to each episode's start.
  firsts = np.cumsum(counts) - counts
  return np.arange(counts.sum()) + np.repeat(cache.offsets - firsts, counts)


def cached_windows(
  cache: cache_lib.Cache,
  *,
  num_frames: int,
  action_block: int,
  batch_size: int,
  seed: int,
  skip_short_episodes: bool = False,
  num_threads: int = 1,
  latents: np.ndarray | None = None,
) -> grain.DatasetIterator:
  """Endless batches of windows, every window once per epoch.

  An epoch's order depends on the seed and its number; batches run on across
  epochs. `get_state()` is a small JSON-able dict, and `set_state(...)` on an
  iterator made with the same arguments continues with the very batch that would
  have come next. The memory of a batch is its reader's; it is used again once
  nothing refers to it.

  Args:
    cache: what the windows are cut from.
    num_frames: frames `T` of a window.
    action_block: environment steps from one frame of a window to the next.
    batch_size: windows `B` of a batch.
    seed: of the order.
    skip_short_episodes: leaves out episodes shorter than a window.
    num_threads: threads that read ahead; 0 reads when asked.
    latents: `[N, D]`, what an encoder made of the cache's frames, to be read in
      place of them.

  Returns:
    Iterator over dicts of `observation`, a dict of `pixels` uint8
    `[B, T, height, width, 3]` and `proprio` float32 `[B, T, S]`, or in its
    place `latents` `[B, T, D]`; `action` float32
    `[B, T-1, action_block * raw_dim]` in raw units, those between two frames in
    time order; and `state` float32 `[B, T, V]`.

  Raises:
    ValueError: no window at all, a too short episode not to be skipped, a
      count below one, or latents of other frames.
  """
  if batch_size < 1 or num_threads < 0 or seed < 0:
    raise ValueError(
      'batch_size must be at least 1, num_threads and seed at least 0, got '
      f'{batch_size}, {num_threads} and {seed}.'
    )
  if latents is not None and len(latents) != len(cache.state):
    raise ValueError(
      f'latents must be those of the {len(cache.state)} frames of '
      f'{cache.path} ({cache.split}), got {len(latents)}.'
    )
  starts = window_starts(
    cache,
    num_frames=num_frames,
    action_block=action_block,
    skip_short_episodes=skip_short_episodes,
  )
  frame_steps = np.arange(num_frames) * action_block
  action_steps = np.arange((num_frames - 1) * action_block)
  batches = buffers.Buffers(
    (batch_size, num_frames, *cache.pixels.shape[1:]),
    # Those that wait, that are filled, and that the reader looks at.
    num_kept=3 * num_threads + 3,
  )

  # Two, because threads that read ahead are in the next epoch already.
  @functools.lru_cache(maxsize=2)
  def order(epoch: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch)).permutation(len(starts))

  def take_pixels(frames: np.ndarray) -> np.ndarray:
    pixels = batches.next()
    if isinstance(cache.pixels, chunks.ChunkedFrames):
      cache.pixels.take(frames, pixels)
    else:
      # Where nothing is clipped, NumPy writes without a copy in between.
      cache.pixels.take(frames, axis=0, out=pixels, mode='clip')
    return pixels

  def gather(number: int) -> dict[str, Any]:
    # One copy per array and batch; grain only ever handles numbers of batches.
    places = number * batch_size + np.arange(batch_size)
    epochs, places = divmod(places, len(starts))
    windows = [order(e)[places[epochs == e]] for e in np.unique(epochs)]
    first = starts[np.concatenate(windows)][:, None]
    actions = cache.actions[first + action_steps]
    frames = first + frame_steps
    if latents is not None:
      seen: dict[str, Any] = {'latents': latents[frames]}
    else:
      seen = {
        'observation': {
          'pixels': take_pixels(frames),
          'proprio': cache.proprio[frames],
        }
      }
    return {
      **seen,
      'action': actions.reshape(
        batch_size, num_frames - 1, action_block * cache.actions.shape[1]
      ),
      'state': cache.state[frames],
    }

  return iter(
    grain.MapDataset.range(sys.maxsize)
    .map(gather)
    .to_iter_dataset(
      grain.ReadOptions(
        num_threads=num_threads, prefetch_buffer_size=2 * num_threads
      )
    )
  )
