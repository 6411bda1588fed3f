"""What GRASP finds; `lifting_test` has its sum, `descent_test` its manners."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import problem_sets
import pytest
from guarded_problem import BOUND, guarded_optima, wall_cost
from problem_sets import PARAMS, A, H, make_keys, make_root

from jepa_wm import planning
from jepa_wm.types import Root


def plan(dynamics_fn=problem_sets.dynamics, root=None, **settings):
  settings = {
    'horizon': H,
    'action_dim': A,
    'step_weights': planning.step_weights(H, 'all'),
    'cost_fn': problem_sets.effort_cost,
    **settings,
  }
  planner = settings.pop('planner', planning.grasp_plan)
  cost_fn = settings.pop('cost_fn')
  planned = jax.jit(
    lambda rng_keys, root: planner(
      PARAMS, rng_keys, root, dynamics_fn, cost_fn, **settings
    )
  )
  root = make_root() if root is None else root
  return planned(make_keys(num_problems=root.goal.shape[0]), root)


@pytest.mark.slow
def test_finds_the_optimum_of_a_linear_quadratic_problem():
  """The lifted sum is greedy, what is left the synchronisations do."""
  settings = {'num_iterations': 120, 'sync_period': 30}
  optimizer = optax.sgd(0.3, momentum=0.9)
  answer = plan(
    **settings,
    num_sync_steps=40,
    sync_optimizer=optimizer,
    optimizer=optax.adam(0.1),
  )
  actions, costs = problem_sets.optima(make_root())
  np.testing.assert_allclose(answer.cost, costs, rtol=1e-3)
  np.testing.assert_allclose(answer.actions, actions, atol=5e-2)
  greedy = plan(**settings, num_sync_steps=0, optimizer=optax.adam(0.1))
  assert np.all(greedy.cost > 1.001 * costs)
  assert np.all(greedy.cost < 0.7 * greedy.diagnostics.best_cost[0])


# A long way on which the gradient vanishes: two wells with a ridge between
# them, left for good after the first few of many steps.

LONG = 60


def well_dynamics(params, rng_key, action, state):
  del params, rng_key
  return state + 0.3 * (state - state**3) + action


def end_cost(params, state, action, goal):
  del params, action
  return jnp.sum((state - goal) ** 2, axis=-1)


WELLS = {
  'dynamics_fn': well_dynamics,
  'cost_fn': end_cost,
  'horizon': LONG,
  'action_dim': 1,
  'step_weights': None,
  'num_iterations': 100,
  # Too little to climb out of a well: 0.12 is the steepest.
  'action_constraints': planning.ActionBounds(
    np.full(1, -0.05), np.full(1, 0.05)
  ),
  # The goal is the other well.
  'root': Root(jnp.array([[-0.1], [0.1]]), jnp.array([[1.0], [-1.0]])),
}


@pytest.mark.slow
@pytest.mark.parametrize('optimizer', [optax.adam(0.1), optax.sgd(1.0)])
def test_reaches_a_goal_whose_gradient_vanishes_on_the_way(optimizer):
  lifted = plan(optimizer=optimizer, sync_period=25, **WELLS)
  np.testing.assert_allclose(lifted.cost, 0.0, atol=1e-3)
  through = plan(
    planner=planning.gradient_plan, num_restarts=1, optimizer=optimizer, **WELLS
  )
  assert np.all(through.cost > 3.0)
  np.testing.assert_array_equal(through.diagnostics.num_nonfinite, 0)


def test_the_cost_is_that_of_the_true_rollout():
  """Not of the virtual states, which noise and lag keep away from it."""
  answer = plan(
    num_sync_steps=0,
    noise_std=1.0,
    sync_period=25,
    optimizer=optax.adam(0.1),
    **WELLS,
  )
  state = np.asarray(WELLS['root'].state, np.float64)
  for action in np.moveaxis(np.asarray(answer.actions, np.float64), 1, 0):
    state = state + 0.3 * (state - state**3) + action
  cost = np.sum((state - np.asarray(WELLS['root'].goal)) ** 2, axis=-1)
  np.testing.assert_allclose(answer.cost, cost, rtol=1e-3, atol=1e-6)
  idle = np.array([[4.0, 4.0]])
  np.testing.assert_allclose(answer.diagnostics.best_cost[:1], idle, rtol=1e-3)


@pytest.mark.slow
def test_noise_on_the_states_leads_off_a_ridge():
  """Where every slope is zero nothing else would ever move."""

  def two_goals(params, state, action, goal):
    del params, action
    return jnp.sum((state**2 - goal**2) ** 2, axis=-1)

  settings = {
    'dynamics_fn': problem_sets.valley_dynamics,
    'cost_fn': two_goals,
    'horizon': 5,
    'action_dim': 1,
    'step_weights': None,
    'root': Root(jnp.zeros((2, 1)), jnp.ones((2, 1))),
    'optimizer': optax.sgd(0.1),
  }
  still = plan(noise_std=0.0, **settings)
  np.testing.assert_array_equal(still.actions, 0.0)
  np.testing.assert_array_equal(still.diagnostics.best_cost, 1.0)
  moved = plan(noise_std=0.01, **settings)
  np.testing.assert_allclose(moved.cost, 0.0, atol=1e-3)


@pytest.mark.slow
def test_noise_fades_out():
  """Everything rests at the goal: all that has a slope is noise."""
  answer = plan(
    dynamics_fn=problem_sets.valley_dynamics,
    cost_fn=end_cost,
    horizon=8,
    action_dim=1,
    step_weights=None,
    root=Root(jnp.zeros((2, 1)), jnp.zeros((2, 1))),
    optimizer=optax.sgd(0.0),
    # States go to where steps end, and only the newest noise is left.
    latent_optimizer=optax.sgd(0.5),
    num_iterations=40,
    sync_period=4,
    num_sync_steps=0,
    num_restarts=50,
    init_std=0.0,
    noise_std=0.1,
  )
  norms = np.mean(answer.diagnostics.grad_norm, axis=1)
  left = 1.0 - (np.arange(3, 40, 4) - 1) / 40
  np.testing.assert_allclose(norms / norms[0], left / left[0], atol=0.05)
  np.testing.assert_array_equal(answer.cost, 0.0)


@pytest.mark.slow
def test_steps_in_turn_find_what_steps_at_once_find():
  settings = {
    'noise_std': 0.0,
    'num_iterations': 60,
    'sync_period': 20,
    'optimizer': optax.sgd(0.1),
    'sync_optimizer': optax.sgd(0.1),
  }
  at_once = plan(**settings)
  in_turn = plan(
    read_fn=lambda state: state,
    write_fn=lambda state, latent: latent,
    **settings,
  )
  np.testing.assert_allclose(in_turn.actions, at_once.actions, atol=1e-4)
  np.testing.assert_allclose(
    in_turn.diagnostics.grad_norm, at_once.diagnostics.grad_norm, rtol=1e-2
  )


@pytest.mark.slow
def test_plans_with_a_window_that_grows():
  """A state that remembers the latent before, as a history does."""

  def window_dynamics(params, rng_key, action, state):
    older, newest = state[..., 0, :], state[..., -1, :]
    after = problem_sets.dynamics(params, rng_key, action, newest) - 0.5 * older
    after = jnp.expand_dims(after, -2)
    return jnp.concatenate([state, after], axis=-2)[..., -2:, :]

  def write_newest(state, latent):
    latent = jnp.expand_dims(latent, -2)
    return jnp.concatenate([state[..., :-1, :], latent], axis=-2)

  def newest(state):
    return state[..., -1, :]

  root = make_root()
  settings = {
    'dynamics_fn': window_dynamics,
    'cost_fn': planning.reading(newest, problem_sets.effort_cost),
    'root': Root(jnp.expand_dims(root.state, 1), root.goal),
  }
  optimizer = optax.sgd(0.3, momentum=0.9)
  best = plan(
    planner=planning.gradient_plan,
    num_restarts=1,
    num_iterations=200,
    optimizer=optimizer,
    **settings,
  )
  answer = plan(
    read_fn=newest,
    write_fn=write_newest,
    num_sync_steps=30,
    optimizer=optax.adam(0.1),
    sync_optimizer=optimizer,
    **settings,
  )
  np.testing.assert_allclose(answer.cost, best.cost, rtol=1e-2)
  assert np.all(best.cost < 0.7 * answer.diagnostics.best_cost[0])


@pytest.mark.slow
def test_multipliers_find_the_optimum_at_a_wall():
  root = make_root()
  _, costs, _ = guarded_optima(root)
  answer = plan(
    num_iterations=200,
    sync_period=10,
    num_sync_steps=30,
    optimizer=optax.adam(0.01),
    sync_optimizer=optax.sgd(0.02, momentum=0.9),
    guardrails=[planning.Guardrail(wall_cost, BOUND, 1.0)],
  )
  assert np.all(answer.violation < 1.1e-3)
  np.testing.assert_allclose(answer.cost, costs, rtol=0.02)


# Doors of its own.


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    (
      {'num_iterations': 100, 'sync_period': 30},
      'num_iterations must be a multiple of sync_period, got 100 and 30',
    ),
    ({'sync_period': 0}, 'sync_period must be at least 1, got 0'),
    ({'num_sync_steps': -1}, 'num_sync_steps must be at least 0, got -1'),
    ({'goal_weight': -1.0}, 'goal_weight must not be negative, got -1.0'),
    ({'noise_std': -0.1}, 'noise_std must not be negative, got -0.1'),
    ({'read_fn': lambda state: state}, 'read_fn and write_fn belong together'),
  ],
)
def test_refuses_settings_that_make_no_sense(settings, message):
  with pytest.raises(ValueError, match=message):
    plan(**settings)
