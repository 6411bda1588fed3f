import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm import planning
from jepa_wm.planning import mpc
from jepa_wm.types import Root

B, H, A = 3, 4, 2


def point_dynamics(params, rng_key, action, state):
  del rng_key
  return state + params * action


def root_fn(params, env_state, goal):
  del params
  return Root(env_state['position'], goal)


def plan_fn(params, rng_keys, root, init_mean, **settings):
  settings = {
    'num_samples': 64,
    'num_elites': 8,
    'num_iterations': 8,
  } | settings
  return planning.cem_plan(
    params,
    rng_keys,
    root,
    point_dynamics,
    planning.squared_distance,
    horizon=H,
    action_dim=A,
    init_mean=init_mean,
    action_constraints=planning.ActionBounds(-np.ones(A), np.ones(A)),
    step_weights=planning.step_weights(H, 'all'),
    **settings,
  )


def play_fn(env_state, action):
  """The world drifts, which the model does not know."""
  position = env_state['position'] + 0.5 * action + jnp.array([[0.05, 0.0]])
  return {'position': position}, {'action': action, 'position': position}


def make_world():
  rng = np.random.default_rng(0)
  position, goal = 3.0 * rng.normal(size=(2, B, A)).astype(np.float32)
  return {'position': jnp.asarray(position)}, jnp.asarray(goal)


def run(rng_key, *, plan_fn=plan_fn, play_fn=play_fn, **settings):
  settings = {
    'horizon': H,
    'action_dim': A,
    'receding_horizon': 2,
    'num_plans': 8,
    **settings,
  }
  env_state, goal = make_world()
  loop = functools.partial(
    mpc.run_mpc, root_fn=root_fn, plan_fn=plan_fn, play_fn=play_fn, **settings
  )
  return jax.jit(loop)(0.5, rng_key, env_state, goal)


def test_the_closed_loop_reaches_the_goal_in_spite_of_the_drift(rng_key):
  traces = []

  def counting_play(env_state, action):
    traces.append(1)
    return play_fn(env_state, action)

  env_state, outputs = run(rng_key, play_fn=counting_play)
  start, goal = make_world()
  distance = np.linalg.norm(env_state['position'] - goal, axis=-1)
  assert np.all(distance < 0.25)
  assert np.all(np.linalg.norm(start['position'] - goal, axis=-1) > 0.9)
  assert len(traces) == 1
  assert outputs.plan.actions.shape == (8, B, H, A)
  assert outputs.plan.diagnostics.best_cost.shape == (8, 8, B)
  assert outputs.played['position'].shape == (8, 2, B, A)
  np.testing.assert_array_equal(
    outputs.played['action'],
    np.moveaxis(outputs.plan.actions[:, :, :2], 2, 1),
  )
  np.testing.assert_array_equal(
    outputs.played['position'][-1, -1], env_state['position']
  )


def remember_init_mean(params, rng_keys, root, init_mean):
  """Plans 1, 2, 3, ... on top of the warm start, without a search."""
  del params, rng_keys, root
  steps = jnp.arange(1.0, H + 1.0).reshape(1, H, 1)
  diagnostics = planning.Diagnostics(*[jnp.zeros((1, B))] * 5)
  return planning.Plan(
    init_mean + steps, jnp.zeros(B), init_mean, init_mean, diagnostics
  )


@pytest.mark.parametrize(
  ('receding_horizon', 'warm_start', 'second'),
  [
    (1, True, [2, 3, 4, 0]),
    (3, True, [4, 0, 0, 0]),
    (4, True, [0, 0, 0, 0]),
    (1, False, [0, 0, 0, 0]),
  ],
)
def test_a_plan_starts_from_what_is_left_of_the_last(
  rng_key, receding_horizon, warm_start, second
):
  _, outputs = run(
    rng_key,
    plan_fn=remember_init_mean,
    receding_horizon=receding_horizon,
    num_plans=2,
    warm_start=warm_start,
  )
  np.testing.assert_array_equal(outputs.plan.mean[0], 0.0)
  for b in range(B):
    for a in range(A):
      np.testing.assert_array_equal(outputs.plan.mean[1, b, :, a], second)


def test_every_plan_of_a_problem_has_a_key_that_its_batch_does_not_change(
  rng_key,
):
  seen = []

  def watch(params, rng_keys, root, init_mean):
    data = jax.random.key_data(rng_keys)
    jax.debug.callback(lambda x: seen.append(np.asarray(x)), data, ordered=True)
    return remember_init_mean(params, rng_keys, root, init_mean)

  run(rng_key, plan_fn=watch, num_plans=3)
  jax.effects_barrier()
  assert len(np.unique(np.concatenate(seen), axis=0)) == 3 * B
  for p in range(3):
    for b in range(B):
      key = jax.random.fold_in(jax.random.fold_in(rng_key, b), p)
      np.testing.assert_array_equal(seen[p][b], jax.random.key_data(key))


def test_one_step_is_one_turn_of_the_loop(rng_key):
  env_state, goal = make_world()
  init_mean = jax.random.normal(rng_key, (B, H, A))
  step = functools.partial(
    mpc.mpc_step,
    root_fn=root_fn,
    plan_fn=remember_init_mean,
    play_fn=play_fn,
    receding_horizon=3,
  )
  after, warm_start, output = jax.jit(step)(
    0.5, jax.random.split(rng_key, B), env_state, goal, init_mean
  )
  actions = np.asarray(output.plan.actions)
  np.testing.assert_array_equal(output.plan.mean, init_mean)
  np.testing.assert_array_equal(warm_start[:, 0], actions[:, 3])
  np.testing.assert_array_equal(warm_start[:, 1:], 0.0)
  moved = 0.5 * actions[:, :3].sum(1) + 3 * np.float32([[0.05, 0.0]])
  np.testing.assert_allclose(
    after['position'], env_state['position'] + moved, rtol=1e-5
  )


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    ({'receding_horizon': 5}, r'receding_horizon must lie in .* 1..4, got 5'),
    ({'receding_horizon': 0}, 'got 0'),
    ({'num_plans': 0}, 'num_plans must be at least 1, got 0'),
    ({'horizon': 6}, r'init_mean must be \[B, H, A\] = \[3, 4, 2\], got'),
    (
      {'horizon': 6, 'plan_fn': lambda p, k, r, m: plan_fn(p, k, r, m[:, :4])},
      r'plan_fn must plan as many actions .* \[3, 6, 2\], got shape \[3, 4, 2',
    ),
  ],
)
def test_refuses_settings_that_make_no_sense(rng_key, settings, message):
  with pytest.raises(ValueError, match=message):
    run(rng_key, **settings)
