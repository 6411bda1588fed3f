import json

import pytest

from jepa_wm import planning
from jepa_wm.evaluation import planner_settings
from jepa_wm.evaluation.planner_settings import PlannerSettings


def toy_plan(
  params,
  rng_key,
  root,
  dynamics_fn,
  cost_fn,
  *,
  horizon: int,
  action_dim: int,
  temperature: float = 0.5,
  num_samples: int | None = None,
  greedy: bool = False,
  kind: str = 'white',
  noise_fn: planner_settings.Callable | None = None,
  init_mean: planning.Plan | None = None,
):
  """Has arguments of every kind."""


@pytest.fixture
def toy(monkeypatch):
  planners = planning.PLANNERS | {'toy': toy_plan}
  monkeypatch.setattr(planning, 'PLANNERS', planners)


def test_a_record_names_the_planner_and_its_defaults(toy):
  record = PlannerSettings(
    'toy', {'temperature': 2}, distance='l1', history=3
  ).to_dict()
  assert record == {
    'name': 'toy',
    'temperature': 2,
    'num_samples': None,
    'greedy': False,
    'kind': 'white',
    'cost': 'last',
    'distance': 'l1',
    'bounded': True,
    'warm_start': True,
    'history': 3,
  }
  assert json.loads(json.dumps(record)) == record


def test_options_may_come_as_pairs():
  pairs = PlannerSettings(options=(('num_samples', 7), ('num_elites', 3)))
  assert pairs.options == {'num_samples': 7, 'num_elites': 3}


def test_every_planner_has_a_record_and_plans():
  for name in planning.PLANNERS:
    settings = PlannerSettings(name)
    record = settings.to_dict()
    assert record['name'] == name and 'num_iterations' in record
    assert 'horizon' not in record and 'step_weights' not in record
    json.dumps(record)
    plan = settings.dry_run(3)
    assert plan.actions.shape == (1, 3, 1)


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    (
      {'temprature': 1.0},
      "no option 'temprature'. Did you mean 'temperature'? It has greedy,"
      ' kind, num_samples, temperature.',
    ),
    ({'zzz': 1.0}, "no option 'zzz'. It has"),
    ({'horizon': 3}, "no option 'horizon'"),
    ({'noise_fn': None}, "no option 'noise_fn'"),
    ({'init_mean': None}, "no option 'init_mean'"),
    ({'temperature': 'hot'}, "must be float, got 'hot'"),
    ({'temperature': True}, 'must be float, got True'),
    ({'num_samples': 3.0}, 'must be int or None, got 3.0'),
    ({'greedy': 1}, 'must be bool, got 1'),
    ({'kind': None}, 'must be str, got None'),
  ],
)
def test_options_that_the_planner_does_not_have(toy, options, message):
  with pytest.raises(ValueError) as error:
    PlannerSettings('toy', options)
  assert message in str(error.value)


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'planner': 'astar'}, "planner must be one of cem.* got 'astar'"),
    ({'cost': 'best'}, "cost must be one of last, all, linear, got 'best'"),
    ({'distance': 'l3'}, 'distance must be one of squared, l1, l2, cosine'),
    ({'history': 0}, 'history must be at least 1, got 0'),
  ],
)
def test_settings_that_make_no_sense(changes, message):
  with pytest.raises(ValueError, match=message):
    PlannerSettings(**changes)


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'num_elites': 400}, 'must not exceed num_samples, got 400 of 300'),
    ({'num_elites': 1}, 'num_elites must be at least 2'),
    ({'num_iterations': 0}, 'num_iterations must be at least 1'),
  ],
)
def test_a_dry_run_says_what_the_planner_refuses(options, message):
  settings = PlannerSettings(options=options)
  with pytest.raises(ValueError, match=message):
    settings.dry_run(5)
