"""Plans of a budget: what is asked for, with the shipped model."""

import pytest

from jepa_wm import recipes

BUDGET = 1e10


def test_a_budget_says_how_many_candidates_there_are():
  asked = recipes.Planning(
    planner=('cem', 'predictive_sampling'), budget_flops=BUDGET, num_pairs=2
  )
  cem, sampling = (x.settings.planner for x in asked.combinations())
  assert cem.num_iterations == 30 and cem.num_samples < 300
  assert cem.num_elites == pytest.approx(cem.num_samples / 10, abs=0.5)
  # As many steps of as many candidates cost as much.
  rolled = [x.num_samples * x.num_iterations for x in (cem, sampling)]
  assert rolled[0] == pytest.approx(rolled[1], rel=0.05)


def test_numbers_that_a_budget_decides_are_refused():
  with pytest.raises(ValueError, match='num_elites would do nothing: budget_'):
    recipes.Planning(budget_flops=BUDGET, options={'cem.num_elites': 3})
  asked = recipes.Planning(budget_flops=1e5)
  with pytest.raises(ValueError, match=r'less than the .* of 20 candidates'):
    asked.combinations()
