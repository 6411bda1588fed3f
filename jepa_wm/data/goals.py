"""Pairs of a frame and a later one of its episode: goals in hindsight."""

from typing import Any

import grain
import numpy as np

from jepa_wm.data import table as table_lib
from jepa_wm.data import windows


def hindsight_pairs(
  table: table_lib.Table,
  *,
  latents: np.ndarray,
  stride: int,
  max_steps: int,
  batch_size: int,
  seed: int,
  num_threads: int = 1,
) -> grain.DatasetIterator:
  """Endless batches of frames, later frames, and what was done in between.

  Every number of steps from frame to goal that fits into the episode, from
  `stride` to `max_steps`, is as likely. A batch depends on the seed and its
  number alone; `get_state` and `set_state` as those of `cached_windows`.

  Args:
    table: the episodes.
    latents: `[N, D]`, of the table's frames.
    stride: environment steps of an action block.
    max_steps: from a frame to its goal at most.
    batch_size: pairs `B` of a batch.
    seed: of the draws.
    num_threads: threads that read ahead; 0 reads when asked.

  Returns:
    Iterator over dicts: `latents` `[B, 2, D]`, `action` float32
    `[B, 1, stride * raw]`, the raw actions from the frame on, and `steps`
    float32 `[B]` from frame to goal.

  Raises:
    ValueError: no episode is as long as a block, or `max_steps` is shorter.
  """
  if max_steps < stride:
    raise ValueError(
      f'max_steps must be at least {stride}, an action block, got {max_steps}.'
    )
  rest = np.concatenate([np.arange(x - 1, -1, -1) for x in table.lengths])
  frames = np.concatenate(
    [o + np.arange(x) for o, x in zip(table.offsets, table.lengths)]
  )
  frames, rest = frames[rest >= stride], rest[rest >= stride]
  if not len(frames):
    raise ValueError(
      f'No episode at {table.where} is as long as an action block of {stride}.'
    )
  longest = np.minimum(rest, max_steps)

  def batch(number: int) -> dict[str, Any]:
    rng = np.random.default_rng((seed, number))
    rows = rng.integers(len(frames), size=batch_size)
    steps = rng.integers(stride, longest[rows], endpoint=True)
    first = frames[rows]
    played = table.columns['action'][first[:, None] + np.arange(stride)]
    return {
      'latents': latents[np.stack([first, first + steps], axis=1)],
      'action': played.reshape(batch_size, 1, -1).astype(np.float32),
      'steps': steps.astype(np.float32),
    }

  return windows.numbered(batch, num_threads)
