import dataclasses
import json
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
import pytest

from jepa_wm import planning
from jepa_wm.evaluation.planning import planner_settings
from jepa_wm.evaluation.planning.planner_settings import PlannerSettings


@dataclasses.dataclass(frozen=True)
class Toy:
  """Has settings of every kind."""

  temperature: float = 0.5
  num_samples: int | None = None
  greedy: bool = False
  kind: str = 'white'
  init_std: jax.Array | float = 1.0
  draw_fn: Callable | None = None
  init_mean: planning.Plan | None = None


@pytest.fixture
def toy(monkeypatch):
  monkeypatch.setitem(planning.PLANNERS, 'toy', Toy)


def test_a_record_names_the_planner_and_its_defaults(toy):
  planner = planner_settings.make_planner('toy', {'temperature': 2})
  assert planner == Toy(temperature=2)
  record = PlannerSettings(planner, distance='l1', history=3).to_dict()
  assert record == {
    'name': 'toy',
    'temperature': 2,
    'num_samples': None,
    'greedy': False,
    'kind': 'white',
    'init_std': 1.0,
    'cost': 'last',
    'distance': 'l1',
    'bounded': True,
    'warm_start': True,
    'history': 3,
  }
  assert json.loads(json.dumps(record)) == record
  wide = PlannerSettings(Toy(init_std=jnp.array([0.5, 2.0]))).to_dict()
  assert json.loads(json.dumps(wide))['init_std'] == [0.5, 2.0]


def test_a_record_names_an_optimiser():
  options = {'optimizer': 'sgd', 'learning_rate': 1.0, 'momentum': 0.9}
  planner = planner_settings.make_planner('gradient', options)
  record = PlannerSettings(planner).to_dict()
  assert {name: record[name] for name in options} == options
  given = PlannerSettings(planning.Gradient(optimizer=optax.sgd(0.1)))
  assert json.loads(json.dumps(given.to_dict()))['optimizer'].startswith('Grad')


def test_every_planner_has_a_record_and_plans():
  for name, planner in planning.PLANNERS.items():
    actor = planner_settings.Proposals('actor', None, lambda *_: None)
    follows = planner().follows
    settings = PlannerSettings(planner(), proposals=actor if follows else None)
    record = settings.to_dict()
    assert record['name'] == settings.name == name
    searches = 'num_iterations' in record and 'num_samples' in record
    assert searches == planner().searches
    json.dumps(record)
    plan = settings.dry_run(3)
    assert plan.actions.shape == (1, 3, 1)


def test_who_follows_needs_somebody_who_acts():
  alone = PlannerSettings(planning.Policy())
  with pytest.raises(ValueError, match=r'policy does .* there is none'):
    alone.dry_run(3)
  library = planner_settings.Proposals('library', lambda *_: None)
  alone = dataclasses.replace(alone, proposals=library)
  with pytest.raises(ValueError, match='library has none; take a head'):
    alone.dry_run(3)


def test_a_head_prices_in_place_of_a_distance():
  head = planner_settings.CostHead('gcivl 0123', lambda latents, goal: 0)
  record = PlannerSettings(cost_head=head).to_dict()
  assert record['cost_head'] == 'gcivl 0123' and record['distance'] is None
  with pytest.raises(ValueError, match='distance=l1 would do nothing'):
    PlannerSettings(cost_head=head, distance='l1')


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    (
      {'temprature': 1.0},
      "no option 'temprature'. Did you mean 'temperature'? It has greedy,"
      ' init_std, kind, num_samples, temperature.',
    ),
    ({'zzz': 1.0}, "no option 'zzz'. It has"),
    ({'horizon': 3}, "no option 'horizon'"),
    ({'draw_fn': None}, "no option 'draw_fn'"),
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
    planner_settings.make_planner('toy', options)
  assert message in str(error.value)


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    (
      {'cost': 'best'},
      "cost must be one of last, all, linear, soonest, got 'best'",
    ),
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
def test_making_a_planner_says_what_it_refuses(options, message):
  with pytest.raises(ValueError, match=message):
    planner_settings.make_planner('cem', options)


def test_refuses_a_planner_that_there_is_none():
  with pytest.raises(ValueError, match=r"must be one of cem.* 'astar'"):
    planner_settings.make_planner('astar')
