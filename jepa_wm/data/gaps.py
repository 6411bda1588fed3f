"""Two frames of one episode, and how many steps lie between them."""

from typing import TYPE_CHECKING, Any

import numpy as np

from jepa_wm.data import table as table_lib
from jepa_wm.data import windows

if TYPE_CHECKING:
  import grain


def gap_pairs(
  table: table_lib.Table,
  *,
  latents: np.ndarray,
  max_steps: int,
  batch_size: int,
  seed: int,
  num_threads: int = 1,
) -> 'grain.DatasetIterator':
  """Endless batches of frames and later ones, near and far ones alike.

  First the number of steps is drawn, of which all from 0 on are as likely, then
  an episode that is long enough, then where in it. (Frames drawn first would
  make far pairs rare, as most frames have few others so far away.) A batch
  depends on the seed and its number alone; `get_state` and `set_state` as those
  of `cached_windows`.

  Args:
    table: the episodes.
    latents: `[N, D]`, of the table's frames.
    max_steps: between the two at most; 0 is as long as the episodes are.
    batch_size: pairs `B` of a batch.
    seed: of the draws.
    num_threads: threads that read ahead; 0 reads when asked.

  Returns:
    Iterator over dicts: `latents` `[B, 2, D]`, the later one last, and `steps`
    float32 `[B]` between them.

  Raises:
    ValueError: no episode has two frames.
  """
  order = np.argsort(-table.lengths, kind='stable')
  lengths, offsets = table.lengths[order], table.offsets[order]
  longest = int(max(lengths, default=0)) - 1
  if longest < 1:
    raise ValueError(
      f'No episode at {table.where} has two frames, so none says how far apart '
      'they are; record longer ones.'
    )
  most = min(max_steps, longest) if max_steps else longest
  # How many episodes are longer than so many steps; these come first.
  num_longer = np.searchsorted(-lengths, -np.arange(most + 1), side='left')

  def batch(number: int) -> dict[str, Any]:
    rng = np.random.default_rng((seed, number))
    steps = rng.integers(most, size=batch_size, endpoint=True)
    episode = rng.integers(num_longer[steps])
    first = offsets[episode] + rng.integers(lengths[episode] - steps)
    return {
      'latents': latents[np.stack([first, first + steps], axis=1)],
      'steps': steps.astype(np.float32),
    }

  return windows.numbered(batch, num_threads)
