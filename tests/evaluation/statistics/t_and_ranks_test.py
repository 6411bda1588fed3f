"""Student's t and rank correlations, against tables and loops."""

import math

import numpy as np
import pytest

from jepa_wm.evaluation.statistics import ranks, t_test


@pytest.mark.parametrize(
  'degrees, t, p',
  [
    # Any book's table, two-sided; one degree is a Cauchy distribution.
    (1, 12.7062047362, 0.05),
    (10, 2.2281388520, 0.05),
    (10, 3.1692726726, 0.01),
    (30, 2.0422724563, 0.05),
    (60, 2.0002978221, 0.05),
    (1, 1.0, 0.5),
    (5, 0.0, 1.0),
  ],
)
def test_tails_are_those_of_the_tables(degrees, t, p):
  assert t_test.two_sided_p(t, degrees) == pytest.approx(p, rel=2e-4)
  assert t_test.two_sided_p(-t, degrees) == t_test.two_sided_p(t, degrees)


def test_tails_are_those_of_closed_forms():
  for t in (0.3, 2.0, 40.0, 1e4):
    one = 2 * math.atan2(1.0, t) / math.pi
    assert t_test.two_sided_p(t, 1) == pytest.approx(one, rel=1e-9)
    # Of two degrees: 1 - t / sqrt(2 + t^2), without its cancellation.
    root = math.sqrt(2 + t * t)
    assert t_test.two_sided_p(t, 2) == pytest.approx(
      2 / (root * (root + t)), rel=1e-9
    )


def test_pairs_are_compared_by_their_differences():
  each = np.array([1.0, 2.0, 3.0, 4.0])
  tested = t_test.paired(each)
  assert tested.t == pytest.approx(2.5 / (np.std(each, ddof=1) / 2))
  assert tested.p_value == pytest.approx(t_test.two_sided_p(tested.t, 3))
  assert t_test.paired(np.zeros(3)) == (0.0, 1.0)
  assert t_test.paired(np.full(3, -2.0)) == (-math.inf, 0.0)
  with pytest.raises(ValueError, match='two pairs or more'):
    t_test.paired(np.ones(1))


def test_rank_correlation_is_one_minus_the_squares_of_differences():
  rng = np.random.default_rng(0)
  one, other = rng.normal(size=(2, 20))
  order = lambda x: np.argsort(np.argsort(x))
  d = order(one) - order(other)
  expected = 1 - 6 * np.sum(d**2) / (20 * (20**2 - 1))
  assert ranks.spearman(one, other) == pytest.approx(expected)
  assert ranks.spearman(one, np.exp(one)) == pytest.approx(1.0)
  assert ranks.spearman(one, -(one**3)) == pytest.approx(-1.0)
  assert math.isnan(ranks.spearman(one, np.zeros(20)))
  np.testing.assert_allclose(ranks.ranks([3, 1, 3, 0]), [3.5, 2, 3.5, 1])
  with pytest.raises(ValueError, match='two numbers or more'):
    ranks.spearman(one, other[:3])


def test_auroc_counts_pairs():
  rng = np.random.default_rng(0)
  ordinary, odd = rng.integers(0, 5, 40), rng.integers(2, 7, 30)
  more = odd[:, None] > ordinary
  ties = odd[:, None] == ordinary
  expected = np.mean(more + 0.5 * ties)
  assert ranks.auroc(ordinary, odd) == pytest.approx(expected)
  assert ranks.auroc(ordinary, ordinary) == pytest.approx(0.5)
  assert ranks.auroc(np.zeros(3), np.ones(2)) == 1.0
