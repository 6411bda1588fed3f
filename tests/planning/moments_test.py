"""Costs of moments: the time, rewards and values, and the soonest."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm import planning
from jepa_wm.planning import problem, rollout
from jepa_wm.types import Root

HORIZON, GAMMA = 4, 0.9


def dynamics(params, rng_key, action, state):
  del params, rng_key
  return state + action


def distance(params, state, action, goal):
  del params, action
  return jnp.sum((state - goal) ** 2, axis=-1)


def reward(params, before, action, state, goal):
  del params
  moved = jnp.sum((before - goal) ** 2 - (state - goal) ** 2, axis=-1)
  return moved - 0.1 * jnp.sum(action**2, axis=-1)


def value(params, state, goal):
  return params['scale'] * -jnp.sum(jnp.abs(state - goal), axis=-1)


@pytest.fixture(scope='module')
def case():
  rng = np.random.default_rng(0)
  actions = rng.normal(size=(2, 3, HORIZON, 2)).astype(np.float32)
  root = Root(
    jnp.zeros((2, 2)), jnp.asarray(rng.normal(size=(2, 2)), 'float32')
  )
  path = np.cumsum(actions, axis=2)
  return root, actions, path, np.asarray(root.goal)[:, None, None]


def priced(case, cost_fn, params=None, **settings):
  root, actions, *_ = case
  state, goal = rollout.broadcast_root(root, actions.shape[1])
  return rollout.rollout(
    params,
    jax.random.split(jax.random.key(0), 2),
    state,
    jnp.asarray(actions),
    goal,
    dynamics,
    cost_fn,
    **settings,
  ).cost


def returned(case, gamma=GAMMA, scale=1.0):
  """The sum of TD-MPC2, plainly."""
  _, actions, path, goal = case
  before = np.concatenate([np.zeros_like(path[:, :, :1]), path[:, :, :-1]], 2)
  rewards = (
    ((before - goal) ** 2 - (path - goal) ** 2) - 0.1 * actions**2
  ).sum(-1)
  total = (gamma ** np.arange(HORIZON) * rewards).sum(-1)
  end = -np.abs(path[:, :, -1] - goal[:, :, 0]).sum(-1)
  return total + gamma**HORIZON * scale * end


def test_rewards_are_discounted_and_the_end_has_its_value(case):
  cost_fn = planning.discounted_return(reward, value, GAMMA)
  cost = jax.jit(lambda: priced(case, cost_fn, {'scale': 1.0}))()
  np.testing.assert_allclose(-cost, returned(case), rtol=1e-4)
  # The value has parameters of its own, and the discount may be traced.
  own = planning.with_params(value, {'scale': jnp.float32(2.0)})

  @jax.jit
  def traced(gamma, own):
    return priced(case, planning.discounted_return(reward, own, gamma))

  expected = returned(case, 0.5, 2.0)
  np.testing.assert_allclose(-traced(0.5, own), expected, rtol=1e-4)


@pytest.mark.parametrize(
  ('cost_fn', 'message'),
  [
    (
      lambda params, state, goal: 0,
      r'cost_fn .* \(params, state, action, goal',
    ),
    (
      planning.timed(lambda moment: 0),
      r'a timed cost .* \(params, moment, goal\): .* 3 were given',
    ),
    (
      planning.discounted_return(lambda params, state: 0),
      r'reward_fn .* \(params, before, action, state, goal\): .*takes 2',
    ),
    (
      planning.discounted_return(reward, lambda state: 0),
      r'value_fn must be a function of \(params, state, goal\): .*takes 1',
    ),
  ],
)
def test_a_function_of_other_arguments_is_told_which(case, cost_fn, message):
  with pytest.raises(ValueError, match=message):
    jax.eval_shape(lambda: priced(case, cost_fn))


def test_what_goes_wrong_in_a_function_stays_as_it_is(case):
  wrong = lambda params, state, action, goal: state + 'a'
  with pytest.raises(TypeError, match='str'):
    jax.eval_shape(lambda: priced(case, wrong))


def test_a_timed_cost_sees_its_step(case):
  seen = planning.timed(
    lambda params, moment, goal: (
      jnp.zeros(moment.action.shape[:2])
      + 10.0**moment.step
      + jnp.where(moment.is_last, 0.5, 0.0)
    )
  )
  np.testing.assert_allclose(priced(case, seen), 1111.5)
  last = priced(case, seen, step_weights=np.eye(HORIZON)[-1])
  np.testing.assert_allclose(last, 1000.5)


def test_the_soonest_is_the_least_of_all_steps(case):
  _, _, path, goal = case
  expected = ((path - goal) ** 2).sum(-1).min(-1)
  soonest = planning.soonest(distance)
  np.testing.assert_allclose(priced(case, soonest), expected, rtol=1e-5)
  with pytest.raises(ValueError, match='step_weights would do nothing: soone'):
    priced(case, soonest, step_weights=np.ones(HORIZON))


def test_step_weights_may_be_traced(case):
  weights = GAMMA ** np.arange(HORIZON)
  plain = priced(case, distance, step_weights=weights)
  traced = jax.jit(
    lambda gamma: priced(
      case, distance, step_weights=gamma ** jnp.arange(HORIZON)
    )
  )
  np.testing.assert_allclose(traced(GAMMA), plain, rtol=1e-5)


def test_what_sees_a_rollout_prices_no_state():
  for cost_fn in (planning.timed(reward), planning.soonest(distance)):
    with pytest.raises(ValueError, match='give it to a planner as its cost_fn'):
      planning.weighted_sum((1.0, cost_fn))(None, None, None, None)


PLANNERS = {
  'cem': planning.CEM(num_samples=16, num_elites=4, num_iterations=3),
  'icem': planning.ICEM(num_samples=16, num_elites=6, num_iterations=3),
  'mppi': planning.MPPI(num_samples=16, num_iterations=3),
  'predictive_sampling': planning.PredictiveSampling(num_samples=16),
  'random_shooting': planning.RandomShooting(num_samples=16),
  'gradient': planning.Gradient(num_samples=2, num_iterations=5),
  'grasp': planning.GRASP(num_iterations=4, sync_period=2, num_sync_steps=2),
}
COSTS = {
  'soonest': planning.soonest(distance),
  'return': planning.discounted_return(
    reward, planning.with_params(value, {'scale': 1.0}), GAMMA
  ),
}


@pytest.mark.parametrize('cost', COSTS)
@pytest.mark.parametrize('name', PLANNERS)
def test_every_planner_answers_with_what_its_plan_costs(case, name, cost):
  root, *_ = case
  cost_fn = COSTS[cost]

  @jax.jit
  def plan(root):
    asked = problem.Problem(root, dynamics, cost_fn, HORIZON, 2)
    found = planning.search(PLANNERS[name], None, jax.random.key(0), asked)
    alone = (root, found.actions[:, None], None, None)
    return found, priced(alone, cost_fn)

  found, expected = plan(root)
  np.testing.assert_allclose(found.cost, expected[:, 0], rtol=1e-5)
  nothing = priced((root, np.zeros((2, 1, HORIZON, 2)), None, None), cost_fn)
  assert (found.cost <= nothing[:, 0] + 1e-6).all()


def test_a_problem_needs_no_goal():
  no_goal = Root(jnp.ones((2, 2)))
  cost = lambda params, state, action, goal: jnp.sum(state**2, axis=-1)
  plan = functools.partial(
    planning.cem_plan,
    None,
    jax.random.key(0),
    no_goal,
    dynamics,
    horizon=2,
    action_dim=2,
    num_samples=16,
    num_elites=4,
    num_iterations=4,
  )
  assert (plan(cost).cost < 1.0).all()
  with pytest.raises(ValueError, match='a distance needs a goal, and the root'):
    plan(planning.squared_distance)
