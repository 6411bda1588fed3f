"""Two agents in Two Room: what is said of each, and how they plan."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm import planning
from jepa_wm.envs import worlds
from jepa_wm.evaluation.planning import (
  agent_plans,
  agent_scores,
  baselines,
  fitting,
  pairs,
  planner_settings,
  planning_benchmark,
  protocol,
)
from jepa_wm.recipes import record_findings
from jepa_wm.types import Root

CEM = planning.CEM(num_samples=24, num_elites=4, num_iterations=3)


@dataclasses.dataclass(frozen=True)
class FeelingModel:
  """Knows from `proprio` where agents are, and nothing of walls."""

  params: dict = dataclasses.field(default_factory=dict)
  image_size: int = 28
  action_block: int = 5
  action_dim: int = 20
  record: dict = dataclasses.field(default_factory=dict)

  @property
  def observation_spec(self):
    return {'proprio': jax.ShapeDtypeStruct((4,), jnp.float32)}

  def root(self, params, observation, goal, actions=None):
    return Root(observation['proprio'], goal['proprio'])

  def dynamics(self, params, rng_key, action, state):
    moves = action.reshape(*action.shape[:-1], 5, 4).sum(-2)
    return state + 2.5 * moves

  def latent(self, state):
    return state

  def cost(self, params, state, action, goal):
    return jnp.sum(self._costs(params, state, action, goal), axis=-1)

  @property
  def agents(self):
    return planning.Agents.of_blocks(2, 5, 2, self._costs)

  def _costs(self, params, state, action, goal):
    squares = (state - goal) ** 2
    return squares.reshape(*squares.shape[:-1], 2, 2).sum(-1)

  @property
  def expecting(self):
    return planning.Expecting(self.latent, lambda x, y: x, 4)

  def raw_actions(self, actions):
    return actions.reshape(*actions.shape[:-1], 5, 4)

  def action_bounds(self, low, high):
    return planning.ActionBounds(jnp.tile(low, 5), jnp.tile(high, 5))


SHORT = protocol.get('short', environment='two_room_agents', num_pairs=4)


@pytest.fixture(scope='module')
def problems():
  return pairs.load_pairs(SHORT)


@pytest.fixture(scope='module')
def result(problems):
  settings = planner_settings.PlannerSettings(
    CEM, cost='all', agents=agent_plans.AgentsPlan('decentralised')
  )
  return planning_benchmark.run(
    FeelingModel(),
    SHORT,
    problems,
    settings=settings,
    batch_size=4,
    num_floor_repeats=2,
  )


def test_who_is_where_it_should_be(problems):
  with worlds.get('two_room_agents').stage() as stage:
    goals = stage.vectors(problems.goals)
  near = goals + np.array([0.0, 0.0, 40.0, 0.0])
  path = np.stack([goals + 40.0, near, goals], axis=1)
  reached = agent_scores.reached('two_room_agents', path, problems.goals)
  wanted = [[False, False], [True, False], [True, True]]
  np.testing.assert_array_equal(reached, [wanted] * 4)
  said = agent_scores.describe(SHORT, reached[:, :2], [0.1, 0.0], None)
  said = said['agents']
  assert said['num_successes'] == [4, 0]
  assert said['success_rate'] == [1.0, 0.0]
  assert said['mean_success_rate'] == 0.5
  assert said['interval_95'][0][0] > 0.5 > said['interval_95'][1][1]
  assert (said['random_floor'], said['expert_ceiling']) == ([0.1, 0.0], None)


def test_nothing_is_said_of_one_agent():
  assert agent_scores.reached('two_room', np.zeros((1, 1, 2)), None) is None
  assert agent_scores.describe(SHORT, None, None, None) == {}


def test_the_record_tells_each_beside_all(result):
  record = result.record
  said = record['agents']
  assert said['num_agents'] == 2
  # Nobody reaches a goal together that each does not reach.
  assert min(said['num_successes']) >= record['num_successes']
  assert record['num_successes'] >= 2
  assert record['expert_ceiling'] == 1.0
  assert said['expert_ceiling'] == [1.0, 1.0]
  assert all(x >= record['random_floor'] for x in said['random_floor'])
  assert record['planner']['agents_plan'] == {
    'scheme': 'decentralised',
    'predict': 'shifted',
  }
  found = record_findings.of(record)['agents']
  assert len(found.table.rows) == 2
  assert 'agent 1' in found.sentence


def test_a_floor_is_that_of_each(problems):
  tries = baselines.tries(SHORT, problems, 'random', num_repeats=2)
  assert len(tries.agents) == 2
  assert all(rate >= tries.rate for rate in tries.agents)


def test_schemes_and_what_they_take():
  plans = agent_plans.chosen(agent_plans.SCHEMES, 3, 'still')
  assert plans[0] is None
  assert plans[1].around(CEM) == planning.Coordinate(planner=CEM, num_rounds=3)
  assert plans[2].around(CEM).predict == 'still'
  assert agent_plans.chosen(()) == [None]


@pytest.mark.parametrize(
  ('given', 'says'),
  [
    ((('both',),), "agents_plan must be one of .*got 'both'"),
    (((), 2), 'agents_rounds=2 would do nothing with agents_plan=joint'),
    ((('coordinate',), None, 'still'), 'agents_predict=still would do nothing'),
    ((('coordinate',), 0), 'agents_rounds must be at least 1'),
    ((('decentralised',), None, 'no'), 'agents_predict must be one of'),
  ],
)
def test_schemes_that_make_no_sense(given, says):
  with pytest.raises(ValueError, match=says):
    agent_plans.chosen(*given)


def test_settings_that_mean_nothing_to_a_model(perfect_model):
  plan = agent_plans.AgentsPlan('decentralised')
  settings = planner_settings.PlannerSettings(CEM, agents=plan)
  with pytest.raises(ValueError, match='the actions of one agent'):
    fitting.check_model(perfect_model, settings)
  with pytest.raises(ValueError, match='price all at once'):
    planner_settings.PlannerSettings(CEM, distance='l1', agents=plan)
  discrete = planner_settings.PlannerSettings(
    planning.CategoricalCEM(), agents=plan
  )
  with pytest.raises(ValueError, match='chooses among joint actions'):
    discrete.dry_run(2)
