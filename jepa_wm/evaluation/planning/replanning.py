"""When a plan is given up early: bounds on surprise, and what came of them."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

MOST_PAIRS = 200
_PAIRS = 100
HIGHEST = MOST_PAIRS / (MOST_PAIRS + 1)
"""Largest quantile that so many plays can tell."""


@dataclasses.dataclass(frozen=True)
class Replanning:
  """Plans anew where what is seen is farther from what was predicted than a
  quantile of undisturbed play, see `planning.Noticing`.

  Attributes:
    quantile: of the surprise after each block, in play of pairs that no result
      is of.
    bounds: after each block played before the next plan; infinite before they
      have been calibrated.
    num_calibrated: least number of plays that a bound comes from, 0 before.

  Raises:
    ValueError: a quantile that is none, or that 200 plays cannot tell.
  """

  quantile: float
  bounds: tuple[float, ...]
  num_calibrated: int = 0

  def __post_init__(self) -> None:
    if not 0.0 < self.quantile <= HIGHEST:
      raise ValueError(
        f'replan_on_surprise must be a quantile above 0 and at most '
        f'{HIGHEST:.3f}, which {MOST_PAIRS} plays can tell, got '
        f'{self.quantile:g}; 0.99 says that one block in a hundred is given '
        'up without need.'
      )

  @property
  def num_pairs(self) -> int:
    """Pairs to calibrate on, each of which gives a play of every block."""
    enough = _rank(_PAIRS, self.quantile) <= _PAIRS
    return _PAIRS if enough else MOST_PAIRS

  def calibrated(self, looks: Sequence['Look']) -> 'Replanning':
    """With the bounds that the looks of undisturbed play give.

    The n surprises of a block are taken as exchangeable with those to come; the
    bound is the ceil((n + 1) quantile)-th of them (split conformal). Blocks of
    one episode are not wholly so, and the bound is a little less sure.
    """
    surprise, since = (
      np.concatenate([getattr(look, name) for look in looks])
      for name in ('surprise', 'num_since')
    )
    bounds, numbers = [], []
    for block in range(1, len(self.bounds) + 1):
      found = np.sort(surprise[since == block])
      rank = _rank(len(found), self.quantile)
      if rank > len(found):
        raise ValueError(
          f'replan_on_surprise={self.quantile:g}: {len(found)} plays of block '
          f'{block} cannot tell that quantile; take a lower one.'
        )
      bounds.append(float(found[rank - 1]))
      numbers.append(len(found))
    return dataclasses.replace(
      self, bounds=tuple(bounds), num_calibrated=min(numbers)
    )

  def to_dict(self) -> dict[str, Any]:
    """What a result record says of it."""
    said: dict[str, Any] = {'quantile': self.quantile}
    if self.num_calibrated:
      said |= {
        'bounds': list(self.bounds),
        'num_calibrated': self.num_calibrated,
      }
    return said


def uncalibrated(quantile: float, num_blocks: int) -> Replanning:
  """Never surprised, before it has been calibrated."""
  return Replanning(quantile, (math.inf,) * num_blocks)


class Look(NamedTuple):
  """What was noticed at one moment.

  Attributes:
    step: environment steps already played.
    indices: `[n]`, rows of the problems.
    is_new: bool `[n]`, as the others see `planning.Noticed`.
    surprise: `[n]`.
    is_surprised: bool `[n]`.
    num_since: int `[n]`.
    is_open: bool `[n]`, whether the goal was still to be reached.
  """

  step: int
  indices: np.ndarray
  is_new: np.ndarray
  surprise: np.ndarray
  is_surprised: np.ndarray
  num_since: np.ndarray
  is_open: np.ndarray


def describe(
  looks: Sequence[Look],
  num_blocks: int,
  disturbed_at: int | None,
  moved: np.ndarray | None,
) -> dict[str, Any]:
  """What a record says of plans that were given up early.

  Args:
    looks: of all problems.
    num_blocks: R.
    disturbed_at: steps before a disturbance, None without one.
    moved: rows of the problems that were disturbed.

  Returns:
    Looks at open problems between plans, how many led to an early plan, the
    same without those that followed a disturbance, and how many of the
    disturbed were noticed at the first look after it.
  """
  num_looks = num_early = num_noticed = num_due = 0
  for look in looks:
    between = look.is_open & (look.num_since < num_blocks) & (look.step > 0)
    early = between & look.is_surprised
    num_looks += int(between.sum())
    num_early += int(early.sum())
    if look.step == disturbed_at and moved is not None:
      hit = np.isin(look.indices, moved)
      num_due += int((hit & between).sum())
      num_noticed += int((hit & early).sum())
  return {
    'num_looks': num_looks - num_due,
    'num_early': num_early - num_noticed,
    'num_moved_between_plans': num_due if disturbed_at is not None else None,
    'num_noticed': num_noticed if disturbed_at is not None else None,
  }


def _rank(number: int, quantile: float) -> int:
  # Rounded so that 0.99 of 101 is 100 whatever floats say.
  return math.ceil(round((number + 1) * quantile, 9))
