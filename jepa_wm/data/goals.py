"""Goals in hindsight: where an episode led to, or might have."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from jepa_wm.data import table as table_lib
from jepa_wm.data import windows

if TYPE_CHECKING:
  import grain


def hindsight_pairs(
  table: table_lib.Table,
  *,
  latents: np.ndarray,
  stride: int,
  max_steps: int,
  batch_size: int,
  seed: int,
  ahead: int = 0,
  num_threads: int = 1,
) -> 'grain.DatasetIterator':
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
    ahead: environment steps from a frame to `after`; 0 leaves that out.
    num_threads: threads that read ahead; 0 reads when asked.

  Returns:
    Iterator over dicts: `latents` `[B, 2, D]`, `action` float32
    `[B, 1, stride * raw]`, the raw actions from the frame on, and `steps`
    float32 `[B]` from frame to goal; `after` `[B, D]` if asked for, the goal
    where that comes before.

  Raises:
    ValueError: no episode is as long as a block, or `max_steps` is shorter.
  """
  if max_steps < stride:
    raise ValueError(
      f'max_steps must be at least {stride}, an action block, got {max_steps}.'
    )
  frames, rest = _with_rest(table, stride)
  longest = np.minimum(rest, max_steps)

  def batch(number: int) -> dict[str, Any]:
    rng = np.random.default_rng((seed, number))
    rows = rng.integers(len(frames), size=batch_size)
    steps = rng.integers(stride, longest[rows], endpoint=True)
    first = frames[rows]
    there = first + np.minimum(steps, ahead)
    after = {'after': latents[there]} if ahead else {}
    return {
      **after,
      'latents': latents[np.stack([first, first + steps], axis=1)],
      'action': _played(table, first, stride),
      'steps': steps.astype(np.float32),
    }

  return windows.numbered(batch, num_threads)


@dataclasses.dataclass(frozen=True, kw_only=True)
class GoalOdds:
  """How goals are drawn in hindsight, in OGBench's words.

  Attributes:
    p_curgoal: odds of the frame itself.
    p_trajgoal: of a later frame of its episode.
    p_randomgoal: of any frame.
    geom_sample: whether a later frame is a geometric number of blocks away, at
      most to the episode's end, or every one is as likely.
    discount: of a block; geometric distances stop with one less it.

  Raises:
    ValueError: odds that are negative or do not sum to 1, or a discount that
      does not lie between 0 and 1.

  Source: OGBench (arXiv 2410.20092), `GCDataset.sample_goals`, in action blocks
    where that counts steps.
  """

  p_curgoal: float = 0.2
  p_trajgoal: float = 0.5
  p_randomgoal: float = 0.3
  geom_sample: bool = True
  discount: float = 0.97

  def __post_init__(self) -> None:
    odds = self.p_curgoal, self.p_trajgoal, self.p_randomgoal
    if min(odds) < 0 or abs(sum(odds) - 1.0) > 1e-6:
      raise ValueError(
        'p_curgoal, p_trajgoal and p_randomgoal must not be negative and sum '
        f'to 1, got {", ".join(map(str, odds))}.'
      )
    if not 0 < self.discount < 1:
      raise ValueError(f'discount must lie in (0, 1), got {self.discount}.')

  def draw(
    self, rng: np.random.Generator, num_blocks: np.ndarray
  ) -> tuple[np.ndarray, np.ndarray]:
    """Which goals, before there are frames.

    Args:
      rng: of the draws.
      num_blocks: `[B]`, blocks to the end of the episode, 1 or more.

    Returns:
      Whether the goal is any frame at all, bool `[B]`, and how many blocks away
      the others are, `[B]`, 0 for the frame itself.
    """
    size = len(num_blocks)
    if self.geom_sample:
      ahead = rng.geometric(1.0 - self.discount, size)
      ahead = np.minimum(ahead, num_blocks)
    else:
      ahead = rng.integers(1, num_blocks, endpoint=True)
    luck = rng.random(size)
    ahead = np.where(luck < self.p_curgoal, 0, ahead)
    return luck >= self.p_curgoal + self.p_trajgoal, ahead


def odds_of(settings: Any) -> dict[str, GoalOdds]:
  """Goals of the 'value' and the 'actor', as the settings of a head say.

  Args:
    settings: of a head that learns of goals.
  """
  names = 'p_curgoal', 'p_trajgoal', 'p_randomgoal', 'geom_sample'
  return {
    who: GoalOdds(
      discount=settings.discount,
      **{name: getattr(settings, f'{who}_{name}') for name in names},
    )
    for who in ('value', 'actor')
  }


def transitions(
  table: table_lib.Table,
  *,
  latents: np.ndarray,
  stride: int,
  odds: Mapping[str, GoalOdds],
  batch_size: int,
  seed: int,
  num_threads: int = 1,
) -> 'grain.DatasetIterator':
  """Endless batches of blocks, what they led to, and goals in hindsight.

  Every block that stays in its episode is as likely, and so are all frames as
  random goals. A goal counts as reached at its own frame alone: there the
  episode ends, and every block elsewhere costs 1. An `is_terminal` of the data
  changes nothing, as in OGBench: at -1 a block, an end after which nothing
  counts would look nearer than any goal. A batch depends on the seed and its
  number alone; `get_state` and `set_state` as those of `cached_windows`.

  Args:
    table: the episodes.
    latents: `[N, D]`, of the table's frames.
    stride: environment steps of an action block.
    odds: of the goals, by the name of who is given them.
    batch_size: blocks `B` of a batch.
    seed: of the draws.
    num_threads: threads that read ahead; 0 reads when asked.

  Returns:
    Iterator over dicts: `latents` `[B, 2, D]`, before and after, `action`
    float32 `[B, 1, stride * raw]`, and for each name in `odds` a dict of `goal`
    `[B, D]`, `reward` float32 `[B]`, -1 or 0 where the goal is here, and `mask`
    float32 `[B]`, 0 where it is here and the episode ends, else 1.

  Raises:
    ValueError: no episode is as long as two blocks: of one, no goal would lie
      beyond what its block led to.
  """
  frames, rest = _with_rest(table, stride)
  num_blocks, anywhere = rest // stride, _frames(table)
  if num_blocks.max() < 2:
    raise ValueError(
      f'No episode at {table.where} is as long as two action blocks of '
      f'{stride}, so no goal lies beyond the next frame; record longer '
      f'episodes, of {2 * stride} steps at least.'
    )

  def batch(number: int) -> dict[str, Any]:
    rng = np.random.default_rng((seed, number))
    rows = rng.integers(len(frames), size=batch_size)
    first = frames[rows]
    found: dict[str, Any] = {
      'latents': latents[np.stack([first, first + stride], axis=1)],
      'action': _played(table, first, stride),
    }
    for name, kind in odds.items():
      is_random, ahead = kind.draw(rng, num_blocks[rows])
      other = anywhere[rng.integers(len(anywhere), size=batch_size)]
      goal = np.where(is_random, other, first + ahead * stride)
      is_here = (goal == first).astype(np.float32)
      found[name] = {
        'goal': latents[goal],
        'reward': is_here - 1.0,
        'mask': 1.0 - is_here,
      }
    return found

  return windows.numbered(batch, num_threads)


def after(table: table_lib.Table, stride: int) -> np.ndarray:
  """The frame `stride` steps after each row, int32 `[N]`.

  The row itself where its episode ends before, or has no such row.
  """
  found = np.arange(len(table.columns['action']), dtype=np.int32)
  frames, _ = _with_rest(table, stride)
  found[frames] += stride
  return found


def _frames(table: table_lib.Table) -> np.ndarray:
  """All frames of the episodes, of which there may be less than rows."""
  return np.concatenate(
    [o + np.arange(x) for o, x in zip(table.offsets, table.lengths)]
  )


def _with_rest(
  table: table_lib.Table, stride: int
) -> tuple[np.ndarray, np.ndarray]:
  """Frames that a block can start at, and the steps after each.

  Raises:
    ValueError: there are none.
  """
  rest = np.concatenate([np.arange(x - 1, -1, -1) for x in table.lengths])
  frames = _frames(table)
  frames, rest = frames[rest >= stride], rest[rest >= stride]
  if not len(frames):
    raise ValueError(
      f'No episode at {table.where} is as long as an action block of {stride} '
      'steps; record longer ones.'
    )
  return frames, rest


def _played(
  table: table_lib.Table, first: np.ndarray, stride: int
) -> np.ndarray:
  """Raw blocks float32 `[B, 1, stride * raw]` from frames `[B]` on."""
  played = table.columns['action'][first[:, None] + np.arange(stride)]
  blocks: np.ndarray = played.reshape(len(first), 1, -1).astype(np.float32)
  return blocks
