import itertools
import math

import numpy as np
import pytest

from jepa_wm.evaluation.statistics import intervals


@pytest.mark.parametrize(
  ('successes', 'trials', 'interval'),
  [
    (0, 10, (0.0, 0.2775)),
    (5, 10, (0.2366, 0.7634)),
    (10, 10, (0.7225, 1.0)),
    (47, 50, (0.8378, 0.9794)),
    (1, 1, (0.2065, 1.0)),
  ],
)
def test_wilson_interval(successes, trials, interval):
  np.testing.assert_allclose(
    intervals.wilson_interval(successes, trials), interval, atol=1e-4
  )


@pytest.mark.parametrize(('successes', 'trials'), [(0, 0), (3, 2), (-1, 2)])
def test_wilson_of_nonsense(successes, trials):
  with pytest.raises(ValueError, match=r'num_successes must lie in'):
    intervals.wilson_interval(successes, trials)


def test_mcnemar_counts_coins_that_fall_as_unevenly():
  for first, second in itertools.product(range(6), range(6)):
    n = first + second
    falls = [sum(coins) for coins in itertools.product((0, 1), repeat=n)]
    uneven = [abs(2 * fall - n) >= abs(first - second) for fall in falls]
    assert intervals.mcnemar_p(first, second) == pytest.approx(np.mean(uneven))


def _pairs(both, first_only, second_only, neither):
  kinds = [(1, 1)] * both + [(1, 0)] * first_only + [(0, 1)] * second_only
  return np.asarray(kinds + [(0, 0)] * neither, bool).T


def test_newcombe_is_his_formula_where_outcomes_are_independent():
  """Then the correlation is nought and the Wilson ends add in quadrature."""
  first, second = _pairs(12, 12, 6, 6)
  difference, low, high = intervals.paired_difference(first, second)
  assert difference == pytest.approx(6 / 36)
  low_1, high_1 = intervals.wilson_interval(24, 36)
  low_2, high_2 = intervals.wilson_interval(18, 36)
  below, above = 24 / 36 - low_1, high_2 - 0.5
  assert low == pytest.approx(6 / 36 - math.hypot(below, above))
  below, above = high_1 - 24 / 36, 0.5 - low_2
  assert high == pytest.approx(6 / 36 + math.hypot(below, above))


def test_differences_turn_round_when_the_runs_are_exchanged():
  first, second = _pairs(20, 7, 2, 5)
  for function in (
    intervals.paired_difference,
    intervals.clustered_difference,
  ):
    difference, low, high = function(first, second)[:3]
    swapped = function(second, first)[:3]
    np.testing.assert_allclose(swapped, (-difference, -high, -low))
    assert low < difference < high


def test_runs_that_agree_are_closer_than_runs_that_do_not():
  """The same two rates, once on the same pairs and once on others."""
  alike = intervals.paired_difference(*_pairs(20, 5, 0, 15))
  apart = intervals.paired_difference(*_pairs(10, 15, 10, 5))
  assert alike[0] == apart[0]
  assert alike[2] - alike[1] < 0.8 * (apart[2] - apart[1])


def test_equal_runs_are_not_told_apart_with_certainty():
  everyone = np.ones(50, bool)
  for function in (
    intervals.paired_difference,
    intervals.clustered_difference,
  ):
    difference, low, high = function(everyone, everyone)[:3]
    assert difference == 0.0
    assert -0.1 < low < -0.01 and 0.01 < high < 0.1


@pytest.mark.parametrize(('num_seeds', 'num_trials'), [(1, 400), (4, 200)])
def test_intervals_hold_the_truth_as_often_as_they_say(num_seeds, num_trials):
  """Pairs differ in how hard they are, and so their plays are alike."""
  rng = np.random.default_rng(0)
  num_pairs = 50
  held = significant = 0
  for _ in range(num_trials):
    ease = rng.beta(0.6, 0.4, num_pairs)[:, None]
    plays = rng.random((2, num_pairs, num_seeds)) < ease
    if num_seeds == 1:
      _, low, high = intervals.paired_difference(*plays[..., 0])
      only = [np.sum(plays[i] & ~plays[1 - i]) for i in (0, 1)]
      p_value = intervals.mcnemar_p(*map(int, only))
    else:
      _, low, high, p_value = intervals.clustered_difference(*plays.mean(-1))
    held += low <= 0 <= high
    significant += p_value < 0.05
  assert 0.91 < held / num_trials <= 0.995
  assert significant / num_trials < 0.08


def test_a_clear_difference_is_found():
  first, second = _pairs(10, 20, 1, 19)
  *_, p_value = intervals.clustered_difference(first, second)
  assert p_value < 0.001 and intervals.mcnemar_p(20, 1) < 0.001
  assert intervals.paired_difference(first, second)[1] > 0.2


def test_runs_of_other_pairs_are_refused():
  with pytest.raises(ValueError, match='at least one, got 2 and 3'):
    intervals.paired_difference(np.ones(2), np.ones(3))
  with pytest.raises(ValueError, match='got 0 and 0'):
    intervals.clustered_difference(np.ones(0), np.ones(0))
