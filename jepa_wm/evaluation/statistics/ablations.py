"""Rows of an ablation: several training seeds, each tried on the same pairs.

Outcomes of a row are `[S, P]`: right or wrong of each seed on each pair. Seeds
of one row have nothing to do with those of another; pairs are the same in all
rows. So bootstraps draw seeds inside each row and pairs for all rows at once,
and tests let whole pairs change sides. With two or three seeds no bootstrap
knows what other seeds would do: show every seed beside it.

Source: Agarwal et al., Deep RL at the edge of the statistical precipice
(2108.13264) for the interquartile mean and the probability of improvement; Holm
(1979) for the correction.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

_NUM_DRAWS = 10_000
_POWER_Z = 1.959963984540054 + 0.8416212335729143
"""Two-sided 5 % and a power of 80 %: the quantiles of both, added."""


class Estimate(NamedTuple):
  """A number with its 95 % interval.

  Attributes:
    value: the number.
    low: lower end.
    high: upper end.
  """

  value: float
  low: float
  high: float


class Difference(NamedTuple):
  """How a row differs from the reference.

  Attributes:
    estimate: row minus reference.
    p_value: two-sided, that they are equally good.
    pairs_needed: pairs that would tell a given difference from none with a
      power of 80 %, None where seeds alone decide.
  """

  estimate: Estimate
  p_value: float
  pairs_needed: int | None


def rate(outcomes: np.ndarray, *, seed: int = 0) -> Estimate:
  """Mean of a row, with the interval of a hierarchical bootstrap.

  Args:
    outcomes: `[S, P]`, numbers; pairs and seeds are drawn with replacement.
    seed: of the draws.

  Raises:
    ValueError: no seed or no pair.
  """
  _check(outcomes)
  rng = np.random.default_rng(seed)
  drawn = _means(outcomes, rng, _draw(rng, outcomes.shape[1]))
  return Estimate(float(outcomes.mean()), *_ends(drawn))


def difference(
  row: np.ndarray,
  reference: np.ndarray,
  *,
  to_tell: float | None = None,
  seed: int = 0,
) -> Difference:
  """Difference of two rows on the same pairs.

  Args:
    row: outcomes `[S, P]`.
    reference: outcomes `[S', P]`, of the same pairs.
    to_tell: the difference that `pairs_needed` is for; the one found by
      default.
    seed: of the draws.

  Raises:
    ValueError: not the same number of pairs, or none.
  """
  _check(row)
  _check(reference)
  if row.shape[1] != reference.shape[1]:
    raise ValueError(
      f'rows must be tried on the same pairs, got {row.shape[1]} and '
      f'{reference.shape[1]}.'
    )
  rng = np.random.default_rng(seed)
  num_pairs = row.shape[1]
  drawn = _draw(rng, num_pairs)
  gaps = row.mean(axis=0) - reference.mean(axis=0)
  value = float(gaps.mean())
  spread = _means(row, rng, drawn) - _means(reference, rng, drawn)
  p_value = _permuted(gaps, rng)
  target = abs(value if to_tell is None else to_tell)
  deviation = float(gaps.std(ddof=1)) if num_pairs > 1 else 0.0
  needed = None
  if target > 0 and deviation > 0:
    needed = int(np.ceil((_POWER_Z * deviation / target) ** 2))
  return Difference(Estimate(value, *_ends(spread)), p_value, needed)


def seed_difference(
  row: Sequence[float], reference: Sequence[float], *, seed: int = 0
) -> Difference:
  """Difference of two rows of which only one number a seed is known.

  The interval is a bootstrap over seeds; the p-value is Welch's permutation of
  the seeds' labels, exact where there are few.
  """
  one, other = np.asarray(row, float), np.asarray(reference, float)
  if not len(one) or not len(other):
    raise ValueError('Both rows need a seed at least.')
  rng = np.random.default_rng(seed)
  spread = [
    x[rng.integers(len(x), size=(_NUM_DRAWS, len(x)))].mean(axis=1)
    for x in (one, other)
  ]
  value = float(one.mean() - other.mean())
  both = np.concatenate([one, other])
  order = rng.permuted(np.tile(both, (_NUM_DRAWS, 1)), axis=1)
  gaps = order[:, : len(one)].mean(axis=1) - order[:, len(one) :].mean(axis=1)
  extreme = int(np.sum(np.abs(gaps) >= abs(value) - 1e-12))
  p_value = (1 + extreme) / (1 + _NUM_DRAWS)
  ends = _ends(spread[0] - spread[1])
  return Difference(Estimate(value, *ends), p_value, None)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
  """Corrected p-values of a family of comparisons, under the same names.

  Source: Holm, A simple sequentially rejective multiple test procedure (1979).
  """
  ranked = sorted(p_values.items(), key=lambda item: item[1])
  corrected, highest = {}, 0.0
  for rank, (name, p_value) in enumerate(ranked):
    highest = max(highest, min(1.0, (len(ranked) - rank) * p_value))
    corrected[name] = highest
  return {name: corrected[name] for name in p_values}


def interquartile_mean(scores: np.ndarray, *, seed: int = 0) -> Estimate:
  """Mean of the middle half of all runs of all tasks, with its interval.

  Args:
    scores: `[runs, tasks]`, made comparable over tasks; runs are drawn with
      replacement in each task on its own (2108.13264, section 4.3).
    seed: of the draws.
  """
  _check(scores)
  rng = np.random.default_rng(seed)
  runs, tasks = scores.shape
  rows = rng.integers(runs, size=(_NUM_DRAWS // 5, runs, tasks))
  drawn = np.take_along_axis(scores[None], rows, axis=1)
  drawn = _middle(drawn.reshape(len(drawn), -1))
  return Estimate(float(_middle(scores.reshape(1, -1))[0]), *_ends(drawn))


def probability_of_improvement(
  row: np.ndarray, reference: np.ndarray, *, seed: int = 0
) -> Estimate:
  """Chance that a run of `row` beats one of `reference` on a task, ties half.

  Args:
    row: `[runs, tasks]`.
    reference: `[runs', tasks]`, the same tasks.
    seed: of the draws.

  Raises:
    ValueError: other tasks.
  """
  _check(row)
  _check(reference)
  if row.shape[1] != reference.shape[1]:
    raise ValueError('Both must be scores of the same tasks.')
  rng = np.random.default_rng(seed)

  def chance(one: np.ndarray, other: np.ndarray) -> float:
    gaps = one[:, None] - other[None]
    return float(np.mean((gaps > 0) + 0.5 * (gaps == 0)))

  def again(scores: np.ndarray) -> np.ndarray:
    rows = rng.integers(len(scores), size=scores.shape)
    return np.take_along_axis(scores, rows, axis=0)

  drawn = [chance(again(row), again(reference)) for _ in range(2000)]
  return Estimate(chance(row, reference), *_ends(np.asarray(drawn)))


def _draw(rng: np.random.Generator, num_pairs: int) -> np.ndarray:
  """How often each pair is drawn, `[draws, P]`."""
  share = np.full(num_pairs, 1 / num_pairs)
  return rng.multinomial(num_pairs, share, size=_NUM_DRAWS)


def _means(
  outcomes: np.ndarray, rng: np.random.Generator, pairs: np.ndarray
) -> np.ndarray:
  """Means `[draws]` of drawn seeds on drawn pairs."""
  num_seeds, num_pairs = outcomes.shape
  share = np.full(num_seeds, 1 / num_seeds)
  seeds = rng.multinomial(num_seeds, share, size=len(pairs))
  per_seed = pairs @ outcomes.T / num_pairs
  return np.sum(per_seed * seeds, axis=1) / num_seeds


def _permuted(gaps: np.ndarray, rng: np.random.Generator) -> float:
  """Two-sided p-value of a mean gap, whole pairs changing sides."""
  signs = rng.choice(np.asarray([-1, 1], np.int8), (_NUM_DRAWS, len(gaps)))
  flipped = np.abs(signs @ gaps) / len(gaps)
  extreme = int(np.sum(flipped >= abs(gaps.mean()) - 1e-12))
  return (1 + extreme) / (1 + _NUM_DRAWS)


def _middle(scores: np.ndarray) -> np.ndarray:
  """Mean of each row without its lowest and highest quarter."""
  ordered = np.sort(scores, axis=1)
  cut = ordered.shape[1] // 4
  return ordered[:, cut : ordered.shape[1] - cut].mean(axis=1)


def _ends(drawn: np.ndarray) -> tuple[float, float]:
  low, high = np.quantile(drawn, (0.025, 0.975))
  return float(low), float(high)


def _check(outcomes: np.ndarray) -> None:
  if outcomes.ndim != 2 or not outcomes.size:
    raise ValueError(
      'outcomes must be [seeds, pairs] with one of each at least, got shape '
      f'{outcomes.shape}.'
    )
