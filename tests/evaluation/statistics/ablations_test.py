import numpy as np
import pytest

from jepa_wm.evaluation.statistics import ablations


def _coins(rng, rate, seeds=3, pairs=400):
  return (rng.random((seeds, pairs)) < rate).astype(float)


def test_the_interval_of_one_seed_is_that_of_its_pairs():
  outcomes = np.repeat([[1.0, 1.0, 1.0, 0.0]], 100, axis=1)
  found = ablations.rate(outcomes)
  half = 1.96 * np.sqrt(0.75 * 0.25 / 400)
  assert found.value == 0.75
  np.testing.assert_allclose(found[1:], (0.75 - half, 0.75 + half), atol=0.005)


def test_seeds_that_differ_widen_the_interval():
  rng = np.random.default_rng(0)
  alike = np.stack([_coins(rng, 0.5, 1)[0]] * 3)
  apart = np.stack([_coins(rng, x, 1)[0] for x in (0.1, 0.5, 0.9)])
  width = lambda x: x.high - x.low
  assert width(ablations.rate(apart)) > 4 * width(ablations.rate(alike))


@pytest.mark.slow
def test_intervals_hold_the_truth_as_often_as_they_say():
  rng = np.random.default_rng(1)
  held = 0
  for trial in range(60):
    low, high = ablations.rate(_coins(rng, 0.7, 1, 150), seed=trial)[1:]
    held += low <= 0.7 <= high
  assert held >= 52  # Of 57 expected, three deviations below.


def test_pairs_of_both_rows_cancel_out():
  # What is hard for one row is hard for the other: the difference is sure.
  rng = np.random.default_rng(2)
  reference = np.stack([_coins(rng, 0.5, 1, 200)[0]] * 3)
  row = reference.copy()
  row[:, np.flatnonzero(row[0])[:20]] = 0.0
  found = ablations.difference(row, reference)
  assert found.estimate.value == pytest.approx(-0.1)
  assert found.estimate.high < 0
  assert found.p_value < 0.001
  # As many pairs as the normal approximation of a paired test asks for.
  gaps = row.mean(axis=0) - reference.mean(axis=0)
  needed = (2.8016 * gaps.std(ddof=1) / 0.1) ** 2
  assert found.pairs_needed == pytest.approx(needed, abs=1)
  half = ablations.difference(row, reference, to_tell=0.05)
  assert half.pairs_needed == pytest.approx(4 * needed, abs=1)


@pytest.mark.slow
def test_rows_that_do_not_differ_are_not_told_apart():
  rng = np.random.default_rng(3)
  values = [
    ablations.difference(_coins(rng, 0.6), _coins(rng, 0.6)).p_value
    for _ in range(40)
  ]
  assert np.mean(np.asarray(values) < 0.05) <= 0.15
  same = _coins(rng, 0.5)
  found = ablations.difference(same, same)
  assert (found.estimate.value, found.p_value) == (0.0, 1.0)
  assert found.pairs_needed is None


def test_a_permutation_of_few_pairs_is_exact():
  # Five pairs all won: two of 32 ways to change sides are as extreme.
  found = ablations.difference(np.ones((1, 5)), np.zeros((1, 5)))
  assert found.p_value == pytest.approx(2 / 32, abs=0.01)


def test_other_pairs_are_refused():
  with pytest.raises(ValueError, match='same pairs, got 3 and 4'):
    ablations.difference(np.ones((1, 3)), np.ones((1, 4)))
  with pytest.raises(ValueError, match=r'\[seeds, pairs\].*\(0, 3\)'):
    ablations.rate(np.ones((0, 3)))


def test_holm_is_that_of_the_paper():
  # Sorted .01 x 4, .02 x 3, .03 x 2, .04 x 1; never below the one before.
  given = {'a': 0.04, 'b': 0.01, 'c': 0.03, 'd': 0.02}
  assert ablations.holm(given) == pytest.approx(
    {'a': 0.06, 'b': 0.04, 'c': 0.06, 'd': 0.06}
  )
  assert ablations.holm({}) == {}
  assert ablations.holm({'a': 0.6, 'b': 0.9}) == {'a': 1.0, 'b': 1.0}


def test_the_interquartile_mean_leaves_the_ends_out():
  scores = np.asarray([[0.0], [1.0], [2.0], [1000.0]])
  found = ablations.interquartile_mean(scores)
  assert found.value == 1.5
  assert found.low < 1.5 < found.high


def test_the_probability_of_improvement_counts_ties_half():
  row, reference = np.asarray([[1.0], [2.0]]), np.asarray([[1.0], [0.0]])
  # (1, 1) ties; (1, 0), (2, 1), (2, 0) win.
  found = ablations.probability_of_improvement(row, reference)
  assert found.value == pytest.approx(3.5 / 4)
  with pytest.raises(ValueError, match='same tasks'):
    ablations.probability_of_improvement(row, np.ones((2, 3)))


def test_rliable_agrees():
  rliable = pytest.importorskip('rliable.metrics')
  rng = np.random.default_rng(4)
  row, reference = rng.random((6, 5)), rng.random((6, 5))
  assert ablations.interquartile_mean(row).value == pytest.approx(
    rliable.aggregate_iqm(row)
  )
  found = ablations.probability_of_improvement(row, reference)
  assert found.value == pytest.approx(
    rliable.probability_of_improvement(row, reference)
  )
