import json

import numpy as np
import pytest

from jepa_wm import planning
from jepa_wm.evaluation.planning import planner_settings, protocol
from jepa_wm.evaluation.statistics import runs
from jepa_wm.recipes import planning_runs, tuning

SETTINGS = planner_settings.PlannerSettings(
  planning.CEM(num_samples=32, num_elites=8, num_iterations=3)
)


def sizes(planner):
  return [
    (x.num_samples, x.num_iterations, getattr(x, 'num_elites', None))
    for x in tuning.ladder(planner)
  ]


def test_each_rung_has_half_of_the_one_before():
  assert sizes(SETTINGS.planner) == [
    (32, 3, 8),
    (16, 3, 4),
    (16, 2, 4),
    (8, 2, 2),
    (8, 1, 2),
  ]
  icem = planning.ICEM(num_samples=16, num_elites=3, num_kept=1)
  assert sizes(icem)[-1] == (16, 1, 3)
  assert sizes(planning.MPPI(num_samples=8, num_iterations=1))[-1][:2] == (2, 1)


@pytest.mark.parametrize(
  ('planner', 'message'),
  [
    (planning.Policy(), 'tune_budget is for planners with num_samples'),
    (
      planning.CEM(num_samples=3, num_elites=2, num_iterations=1),
      'CEM with 3 candidates and 1 iteration cannot be made smaller',
    ),
  ],
)
def test_planners_that_have_nothing_to_tune(planner, message):
  with pytest.raises(ValueError, match=message):
    tuning.ladder(planner)


def record(solved, planner=SETTINGS, number=100, **more):
  return {
    'checkpoint': 'two_room_small',
    'manifest_sha256': 'development',
    'protocol': {'name': 'short'},
    'planner': planner.to_dict(),
    'num_pairs': number,
    'num_successes': solved,
    'success_rate': solved / number,
    'interval_95': [solved / number - 0.05, min(1.0, solved / number + 0.02)],
    'ms_per_plan': 2.0,
    'flops_per_plan': 1e6 * solved,
    **more,
  }


@pytest.mark.parametrize(
  ('solved', 'margin', 'will_do'),
  [
    ([98, 97, 96, 90], 0.02, [True, True, True, False]),
    # What is good again behind one that is not was lucky.
    ([98, 97, 95, 98], 0.02, [True, True, False, False]),
    ([98, 97, 99], 0.0, [True, False, False]),
    ([50, 60, 70], 0.0, [True, True, True]),
  ],
)
def test_the_smallest_is_taken_that_loses_no_more_than_the_margin(
  solved, margin, will_do
):
  found, chosen = tuning.choose([record(x) for x in solved], margin)
  assert found == will_do and chosen == sum(will_do) - 1


def test_it_is_chosen_on_other_pairs_and_tested_on_the_protocols(
  tmp_path, monkeypatch, capsys
):
  played = []

  class Plans:
    """Solves 98, 97, 90, ... of a hundred."""

    def __init__(self, combinations, development=False, **given):
      self.combinations, self.development = combinations, development
      self.out = given['out']

    def run(self):
      played.append((self.development, self.combinations))
      finished = []
      for number, one in enumerate(self.combinations):
        solved = [98, 97, 90, 98, 80][number % 5]
        told = record(solved, one.settings, seed=one.seed)
        told |= {'shift': one.shift}
        finished.append(runs.Run(told, [], {}))
      return planning_runs.Outcome(finished, 0, [])

  monkeypatch.setattr(planning_runs, 'Plans', Plans)
  told = []

  def run(plans, *, tell):
    finished = plans.run().finished
    told.extend(tell(finished))

  monkeypatch.setattr(tuning.planning_report, 'run', run)
  asked = [
    planning_runs.Combination(
      'two_room_small', protocol.SHORT, SETTINGS, shift, seed, 'two_room_small'
    )
    for shift in (None, 'wall')
    for seed in (3, 4)
  ]
  tuning.tune(asked, None, out=tmp_path)
  (is_development, tried), (is_other, tested) = played
  assert is_development and not is_other
  assert {(x.shift, x.seed) for x in tried} == {(None, 3)} and len(tried) == 5
  assert [(x.shift, x.seed) for x in tested] == [
    (x.shift, x.seed) for x in asked
  ]
  assert {x.settings.planner.num_samples for x in tested} == {16}
  assert {x.settings.planner.num_iterations for x in tested} == {3}
  (described,) = json.loads((tmp_path / 'tuning.json').read_text())
  assert described['margin'] == 0.02
  assert [x['chosen'] for x in described['budgets']] == [
    *(False, True),
    *(False, False, False),
  ]
  assert (tmp_path / 'tuning.png').read_bytes().startswith(b'\x89PNG')
  printed = capsys.readouterr().out
  assert '16 x 3' in printed and printed.count('  chosen\n') == 1
  found = told[0].findings['tuning']
  assert found.scalars['num_samples'] == 16 and len(found.table.rows) == 5
  assert np.isclose(found.scalars['development_success'], 0.97)


@pytest.mark.parametrize('margin', [-0.1, 1.0])
def test_a_margin_that_is_none(margin, tmp_path):
  with pytest.raises(ValueError, match='tune_margin must be a share'):
    tuning.Tuning([], margin, out=tmp_path)
