"""Intervals of success rates and of their differences on the same problems."""

import math

import numpy as np

_Z = 1.959963984540054
"""97.5 % quantile of the standard normal."""

_NUM_FLIPS = 10_000


def wilson_interval(num_successes: int, num_trials: int) -> tuple[float, float]:
  """Wilson's 95 % score interval of a success rate.

  It takes the trials as independent. Plays of one pair under several seeds are
  not wholly so, and the interval over all of them is then somewhat too narrow.

  Args:
    num_successes: of `num_trials`.
    num_trials: at least one.

  Returns:
    Lower and upper end, 0..1.

  Raises:
    ValueError: no trials, or successes outside 0..num_trials.

  Source: Wilson, Probable inference (1927).
  """
  if num_trials < 1 or not 0 <= num_successes <= num_trials:
    raise ValueError(
      'num_successes must lie in 0..num_trials and num_trials be at least 1, '
      f'got {num_successes} of {num_trials}.'
    )
  rate = num_successes / num_trials
  shrunk = 1.0 + _Z**2 / num_trials
  centre = (rate + _Z**2 / (2 * num_trials)) / shrunk
  half = (
    _Z
    / shrunk
    * math.sqrt(rate * (1 - rate) / num_trials + _Z**2 / (4 * num_trials**2))
  )
  return max(0.0, centre - half), min(1.0, centre + half)


def mcnemar_p(num_first_only: int, num_second_only: int) -> float:
  """McNemar's exact two-sided p-value of paired successes and failures.

  Under the null hypothesis a pair on which the two runs disagree is as likely
  to be won by either: a binomial with a half.

  Args:
    num_first_only: pairs that the first run alone solved.
    num_second_only: pairs that the second run alone solved.

  Returns:
    0..1; 1 where the runs agree on every pair.

  Source: McNemar, Note on the sampling error of the difference (1947).
  """
  num_trials = num_first_only + num_second_only
  tail = sum(
    math.comb(num_trials, k)
    for k in range(min(num_first_only, num_second_only) + 1)
  )
  return min(1.0, 2 * tail / 2**num_trials)


def paired_difference(
  first: np.ndarray, second: np.ndarray
) -> tuple[float, float, float]:
  """Difference of two success rates on the same pairs, with its interval.

  Newcombe's score interval: the Wilson intervals of both rates, joined under
  the correlation that the pairs show.

  Args:
    first: bool `[P]`, how the first run did on each pair.
    second: bool `[P]`, the second.

  Returns:
    First minus second, and the lower and upper end of its 95 % interval.

  Raises:
    ValueError: not as many of one as of the other, or none.

  Source: Newcombe, Improved confidence intervals for the difference between
  binomial proportions based on paired data (1998), method 10.
  """
  first, second = np.asarray(first, bool), np.asarray(second, bool)
  _check(first, second)
  n = len(first)
  both, neither = int(np.sum(first & second)), int(np.sum(~first & ~second))
  only_1, only_2 = int(np.sum(first & ~second)), int(np.sum(~first & second))
  rate_1, rate_2 = np.mean(first), np.mean(second)
  low_1, high_1 = wilson_interval(both + only_1, n)
  low_2, high_2 = wilson_interval(both + only_2, n)
  spread = (
    (both + only_1) * (only_2 + neither) * (both + only_2) * (only_1 + neither)
  )
  correlation = 0.0
  if spread:
    excess: float = both * neither - only_1 * only_2
    # Towards independence by half a pair where they agree.
    excess = max(excess - n / 2, 0) if excess > 0 else excess
    correlation = excess / math.sqrt(spread)

  def reach(below: float, above: float) -> float:
    square = below**2 - 2 * correlation * below * above + above**2
    return math.sqrt(max(square, 0.0))

  difference = float(rate_1 - rate_2)
  low = difference - reach(rate_1 - low_1, high_2 - rate_2)
  high = difference + reach(high_1 - rate_1, rate_2 - low_2)
  return difference, max(-1.0, low), min(1.0, high)


def clustered_difference(
  first: np.ndarray, second: np.ndarray
) -> tuple[float, float, float, float]:
  """As `paired_difference`, where every pair was played under several seeds.

  The plays of a pair are alike, so it is pairs that count: Agresti and Min's
  interval (Wald's, with half a pair added to every kind of outcome) of the
  pairs' differences, and a test that lets whole pairs change sides.

  Args:
    first: `[P]`, share of the plays of each pair that the first run won.
    second: `[P]`, the second.

  Returns:
    First minus second, the ends of its 95 % interval, and the two-sided
    p-value.

  Raises:
    ValueError: not as many of one as of the other, or none.

  Source: Agresti and Min, Simple improved confidence intervals for comparing
  matched proportions (2005); Fisher, The design of experiments (1935).
  """
  _check(first, second)
  gaps = np.asarray(first, float) - np.asarray(second, float)
  n = len(gaps) + 2
  mean = gaps.sum() / n
  variance = (np.sum(gaps**2) + 1.0) / n - mean**2
  half = _Z * math.sqrt(variance / n)
  signs = np.random.default_rng(0).choice([-1, 1], (_NUM_FLIPS, len(gaps)))
  flipped = np.abs((gaps * signs).mean(axis=1))
  extreme = int(np.sum(flipped >= abs(gaps.mean()) - 1e-12))
  p_value = (1 + extreme) / (1 + _NUM_FLIPS)
  ends = max(-1.0, float(mean - half)), min(1.0, float(mean + half))
  return float(gaps.mean()), *ends, p_value


def _check(first: np.ndarray, second: np.ndarray) -> None:
  if len(first) != len(second) or not len(first):
    raise ValueError(
      'first and second must say how the same pairs went, at least one, got '
      f'{len(first)} and {len(second)}.'
    )
