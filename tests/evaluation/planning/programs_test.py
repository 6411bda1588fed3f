"""What was compiled is used again where it fits, and nowhere else."""

import dataclasses

import pytest

from jepa_wm import planning
from jepa_wm.evaluation.planning import (
  pairs,
  planner_settings,
  programs,
  protocol,
)

TINY = planner_settings.PlannerSettings(
  planning.CEM(num_samples=8, num_elites=2, num_iterations=1)
)


def test_another_model_never_plans_with_the_programs_of_the_last():
  found = programs.Programs()
  one, other = (object() for _ in range(2))
  assert found.get(one, ('cem', 5), lambda: 'of one') == 'of one'
  assert found.get(one, ('cem', 5), lambda: 'again') == 'of one'
  assert found.get(one, ('cem', 6), lambda: 'longer') == 'longer'
  assert len(found) == 2
  assert found.get(other, ('cem', 5), lambda: 'of the other') == 'of the other'
  assert len(found) == 1


@pytest.mark.slow
def test_runs_share_programs_and_no_run_uses_those_of_another_planner(
  perfect_model, run_short_again
):
  brief = protocol.get('short', num_pairs=2, budget=25)
  shared = programs.Programs()

  def run(model=perfect_model, **changes):
    return run_short_again(
      **{
        'model': model,
        'protocol': brief,
        'pairs': pairs.load_pairs(brief),
        'settings': TINY,
        'baseline': None,
        'num_floor_repeats': 1,
        **changes,
      }
    ).vectors.tolist()

  first = run(programs=shared)
  assert run(programs=shared) == first and len(shared) == 1
  assert run(programs=shared, seed=1) != first and len(shared) == 1
  settings = dataclasses.replace(TINY, cost='soonest')
  assert run(programs=shared, settings=settings) == run(settings=settings)
  assert len(shared) == 2

  class Backwards(type(perfect_model)):
    def raw_actions(self, actions):
      return -super().raw_actions(actions)

  # Of the same shapes, and of other actions.
  backwards = Backwards()
  assert run(backwards, programs=shared) == run(backwards)
