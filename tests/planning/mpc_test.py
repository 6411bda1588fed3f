import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm import planning
from jepa_wm.planning import mpc
from jepa_wm.types import Root

B, H, A, E = 3, 4, 2, 5


def point_dynamics(params, rng_key, action, state):
  del rng_key
  return state + params * action


def observe_fn(env_state):
  return {'position': env_state['position']}


def root_fn(params, memory, goal):
  del params
  return Root(memory.observations['position'][:, -1], goal)


def play_fn(env_state, action):
  """The world drifts, which the model does not know."""
  position = env_state['position'] + 0.5 * action + jnp.array([[0.05, 0.0]])
  return {'position': position}, {'action': action, 'position': position}


SETTINGS = {
  'planner': planning.CEM(num_samples=64, num_elites=8, num_iterations=8),
  'dynamics_fn': point_dynamics,
  'cost_fn': planning.squared_distance,
  'horizon': H,
  'action_dim': A,
}
PLAN_FN = planning.BoundPlanner(
  **SETTINGS,
  limits=planning.Limits(planning.ActionBounds(-np.ones(A), np.ones(A))),
  step_weights=planning.step_weights(H, 'all'),
)


@dataclasses.dataclass(frozen=True)
class Fake:
  """Plans by a function, and leaves its mean and its elites."""

  plan_fn: Callable
  num_elites: int = E
  horizon: int = H
  action_dim: int = A

  def first(self, num_problems):
    size = (self.horizon, A)
    return planning.WarmStart(
      jnp.zeros((num_problems, *size)),
      jnp.full((num_problems, self.num_elites, *size), jnp.nan),
      jnp.full((num_problems, A), jnp.nan),
    )

  def plan(self, params, rng_keys, root, warm_start, clock):
    plan = self.plan_fn(params, rng_keys, root, warm_start, clock)
    return plan, planning.WarmStart(plan.mean, plan.elites)

  def shift(self, left, played):
    return left.shifted(played.shape[1])._replace(previous=played[:, -1])

  def forget(self, left):
    return self.first(len(left.mean))._replace(previous=left.previous)


def make_world():
  rng = np.random.default_rng(0)
  position, goal = 3.0 * rng.normal(size=(2, B, A)).astype(np.float32)
  return {'position': jnp.asarray(position)}, jnp.asarray(goal)


def run(rng_key, worlds=None, **settings):
  settings = {
    'observe_fn': observe_fn,
    'root_fn': root_fn,
    'plan_fn': PLAN_FN,
    'play_fn': play_fn,
    'receding_horizon': 2,
    'num_plans': 8,
    **settings,
  }
  env_state, goal = make_world() if worlds is None else worlds
  loop = functools.partial(mpc.run_mpc, **settings)
  return jax.jit(loop)(0.5, rng_key, env_state, goal)


def fake_plan(actions, mean, elites):
  zeros = jnp.zeros(len(actions))
  diagnostics = planning.Diagnostics(*[zeros.reshape(1, -1)] * 5)
  return planning.Plan(actions, zeros, zeros, mean, mean, elites, diagnostics)


def noise_plan(params, rng_keys, root, warm_start, clock):
  """Adds noise to what is left of the last noise."""
  del params, root
  noise = jax.vmap(lambda key: jax.random.normal(key, (H, A)))(rng_keys)
  noise += warm_start.mean
  return fake_plan(noise, noise, warm_start.elites)


plan_noise = Fake(noise_plan, 0)


def counting_plan(params, rng_keys, root, warm_start, clock):
  """Plans 1, 2, 3, ... whatever comes, and tells the warm start."""
  del params, rng_keys, root
  steps = jnp.broadcast_to(jnp.arange(1.0, H + 1).reshape(1, H, 1), (B, H, A))
  elites = jnp.stack([warm_start.mean + 10 * e for e in range(E)], axis=1)
  plan = fake_plan(steps, warm_start.mean + steps, elites)
  # Anything may be told this way.
  return plan._replace(std=(warm_start, clock))


count_up = Fake(counting_plan)


# The loop.


def test_the_closed_loop_reaches_the_goal_in_spite_of_the_drift(rng_key):
  env_state, outputs = run(rng_key)
  start, goal = make_world()
  distance = np.linalg.norm(env_state['position'] - goal, axis=-1)
  assert np.all(distance < 0.25)
  assert np.all(np.linalg.norm(start['position'] - goal, axis=-1) > 0.9)
  assert outputs.plan.actions.shape == (8, B, H, A)
  assert outputs.plan.diagnostics.best_cost.shape == (8, 8, B)
  assert outputs.played['position'].shape == (8, 2, B, A)
  np.testing.assert_array_equal(
    outputs.played['action'], np.moveaxis(outputs.plan.actions[:, :, :2], 2, 1)
  )
  np.testing.assert_array_equal(
    outputs.played['position'][-1, -1], env_state['position']
  )


def test_a_problem_goes_the_same_way_in_any_batch(rng_key):
  env_state, goal = make_world()
  keys = jax.random.split(rng_key, B)
  settings = {'plan_fn': plan_noise, 'history': 3, 'num_plans': 4}
  _, together = run(keys, **settings)
  worlds = {'position': env_state['position'][1:2]}, goal[1:2]
  _, alone = run(keys[1:2], worlds, **settings)
  np.testing.assert_allclose(
    together.played['position'][:, :, 1],
    alone.played['position'][:, :, 0],
    rtol=1e-5,
  )


def test_the_loop_is_traced_once(rng_key):
  traces = []

  def counting_root(*args):
    traces.append(1)
    return root_fn(*args)

  @jax.jit
  def loop(rng_key, env_state, goal):
    return mpc.run_mpc(
      0.5,
      rng_key,
      env_state,
      goal,
      observe_fn=observe_fn,
      root_fn=counting_root,
      plan_fn=plan_noise,
      play_fn=play_fn,
      receding_horizon=1,
      num_plans=50,
    )

  loop(rng_key, *make_world())
  first = len(traces)
  assert first <= 3  # Twice to look at shapes.
  loop(jax.random.key(1), *make_world())
  assert len(traces) == first


def test_every_plan_of_a_problem_has_a_key_that_its_batch_does_not_change(
  rng_key,
):
  def tell_keys(params, rng_keys, *rest):
    plan = counting_plan(params, rng_keys, *rest)
    return plan._replace(std=jax.random.key_data(rng_keys))

  _, outputs = run(rng_key, plan_fn=Fake(tell_keys), num_plans=3)
  seen = np.asarray(outputs.plan.std)
  assert len(np.unique(seen.reshape(3 * B, -1), axis=0)) == 3 * B
  for p in range(3):
    for b in range(B):
      key = jax.random.fold_in(jax.random.fold_in(rng_key, b), p)
      np.testing.assert_array_equal(seen[p, b], jax.random.key_data(key))


# Warm start.


@pytest.mark.parametrize('history', [1, 3])
@pytest.mark.parametrize('receding_horizon', [1, 3, 4])
def test_a_plan_starts_from_what_is_left_of_the_last(
  rng_key, receding_horizon, history
):
  _, outputs = run(
    rng_key,
    plan_fn=count_up,
    receding_horizon=receding_horizon,
    history=history,
    num_plans=3,
  )
  told, clock = outputs.plan.std
  blocks = receding_horizon * np.arange(4)
  np.testing.assert_array_equal(clock.num_played, blocks[:3])
  np.testing.assert_array_equal(clock.num_left, blocks[:0:-1])

  def shifted(actions):
    left = np.zeros_like(actions)
    left[..., : H - receding_horizon, :] = actions[..., receding_horizon:, :]
    return left

  np.testing.assert_array_equal(told.mean[0], 0.0)
  assert np.all(np.isnan(told.elites[0])) and told.elites.shape[2] == E
  assert np.all(np.isnan(told.previous[0]))
  for p in (1, 2):
    for now, before in (
      (told.mean[p], outputs.plan.mean[p - 1]),
      (told.elites[p], outputs.plan.elites[p - 1]),
    ):
      np.testing.assert_array_equal(now, shifted(np.asarray(before)))
    np.testing.assert_array_equal(told.previous[p], receding_horizon)


def test_without_a_warm_start_only_the_last_action_is_known(rng_key):
  _, outputs = run(rng_key, plan_fn=count_up, num_plans=3, warm_start=False)
  told, _ = outputs.plan.std
  np.testing.assert_array_equal(told.mean, 0.0)
  assert np.all(np.isnan(told.elites))
  np.testing.assert_array_equal(told.previous[1:], 2.0)


def test_a_rate_limit_holds_from_one_plan_to_the_next(rng_key):
  limit = 0.25
  plan_fn = planning.BoundPlanner(
    **SETTINGS, limits=planning.Limits(planning.RateLimit(limit))
  )
  # Far away, so that every block goes as fast as it may.
  env_state, goal = make_world()
  _, outputs = run(rng_key, (env_state, goal + 50.0), plan_fn=plan_fn)
  played = outputs.played['action'].reshape(-1, B, A)[:8]
  changes = np.max(np.abs(np.diff(played, axis=0)), axis=(1, 2))
  assert np.all(changes <= limit + 1e-5) and np.min(changes) > 0.5 * limit
  assert np.max(np.abs(played[0])) > limit  # The first is free.


def test_debugging_nans_stops_at_those_that_nobody_meant(rng_key):
  plan_fn = planning.BoundPlanner(
    **SETTINGS, limits=planning.Limits(planning.RateLimit(0.25))
  )
  env_state, goal = make_world()
  with jax.debug_nans(True):
    left = plan_fn.first(B)
    assert np.all(np.isinf(left.elites)) and np.all(np.isinf(left.previous))
    run(rng_key, (env_state, goal), plan_fn=plan_fn, num_plans=1)
    with pytest.raises(FloatingPointError, match='nan'):
      run(rng_key, (env_state, goal * jnp.nan), plan_fn=plan_fn, num_plans=1)


# Memory.


@pytest.mark.parametrize(
  ('history', 'receding_horizon', 'num_plans'),
  [(1, 2, 3), (2, 1, 4), (3, 2, 1), (4, 4, 3), (4, 2, 4), (3, 1, 4)],
)
def test_the_memory_holds_what_was_seen_and_done(
  rng_key, history, receding_horizon, num_plans
):
  windows = []

  def remember(params, memory, goal):
    jax.debug.callback(
      lambda *x: windows.append([np.asarray(a) for a in x]),
      memory.observations['position'],
      memory.actions,
      ordered=True,
    )
    return root_fn(params, memory, goal)

  _, outputs = run(
    rng_key,
    root_fn=remember,
    plan_fn=plan_noise,
    history=history,
    receding_horizon=receding_horizon,
    num_plans=num_plans,
  )
  jax.effects_barrier()
  # A record of the whole episode, [time, B, A].
  start = np.asarray(make_world()[0]['position'])
  after = np.asarray(outputs.played['position']).reshape(-1, B, A)
  positions = np.concatenate([start[None], after])
  actions = np.asarray(outputs.played['action']).reshape(-1, B, A)
  assert len(windows) == num_plans
  for number, (seen, done) in enumerate(windows):
    now = number * receding_horizon
    first = max(0, now - history + 1)
    expected = np.moveaxis(positions[first : now + 1], 0, 1)
    np.testing.assert_array_equal(seen, expected)
    np.testing.assert_array_equal(done, np.moveaxis(actions[first:now], 0, 1))


def test_nothing_is_looked_at_that_is_not_remembered(rng_key):
  looks = []

  def watch(env_state):
    jax.debug.callback(lambda: looks.append(1))
    return observe_fn(env_state)

  for history, per_plan in ((1, 1), (2, 2), (9, 4)):
    looks.clear()
    run(
      rng_key,
      observe_fn=watch,
      plan_fn=count_up,
      receding_horizon=4,
      history=history,
      num_plans=3,
    )
    jax.effects_barrier()
    assert len(looks) == 3 * per_plan


def test_one_step_is_one_turn_of_the_loop(rng_key):
  env_state, goal = make_world()
  step = functools.partial(
    planning.mpc_step,
    observe_fn=observe_fn,
    root_fn=root_fn,
    plan_fn=count_up,
    play_fn=play_fn,
    receding_horizon=3,
    history=2,
  )
  before = planning.first_state(
    env_state, goal, observe_fn=observe_fn, plan_fn=count_up
  )
  mean = jax.random.normal(rng_key, (B, H, A))
  before = before._replace(warm_start=before.warm_start._replace(mean=mean))
  after, output = jax.jit(step)(0.5, jax.random.split(rng_key, B), before, goal)
  np.testing.assert_array_equal(output.plan.std[0].mean, mean)
  np.testing.assert_allclose(after.warm_start.mean[:, 0], mean[:, 3] + 4.0)
  np.testing.assert_array_equal(after.warm_start.mean[:, 1:], 0.0)
  moved = 0.5 * (1 + 2 + 3) + 3 * np.float32([[0.05, 0.0]])
  end = env_state['position'] + moved
  np.testing.assert_allclose(after.env_state['position'], end, rtol=1e-5)
  np.testing.assert_array_equal(after.memory.actions, np.full((B, 1, A), 3.0))
  np.testing.assert_allclose(
    after.memory.observations['position'][:, 0],
    end - 1.5 - np.float32([[0.05, 0.0]]),
    atol=1e-5,
  )


# The doors.


def flat_plan(*args):
  plan = noise_plan(*args)
  return plan._replace(actions=plan.actions.reshape(B, H * A))


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    ({'receding_horizon': 5}, r'receding_horizon must lie in .* 1..4, got 5'),
    ({'receding_horizon': 0}, 'got 0'),
    ({'num_plans': 0}, 'num_plans must be at least 1, got 0'),
    ({'history': 0}, 'history must be at least 1, got 0'),
    (
      {'plan_fn': Fake(flat_plan)},
      r'plan_fn must plan blocks .* \[3, .H., 2\], got shape \[3, 8\]',
    ),
    (
      {'observe_fn': lambda env_state: env_state['position'][:2]},
      'observe_fn must see the worlds of all 3 goals, got 2',
    ),
  ],
)
def test_refuses_settings_that_make_no_sense(rng_key, settings, message):
  with pytest.raises(ValueError, match=message):
    run(rng_key, **settings)


def test_a_bound_planner_refuses_limits_that_cannot_be_met():
  constraints = (
    planning.ActionBounds(np.ones(A), 2 * np.ones(A)),
    planning.NormBall(0.5),
  )
  with pytest.raises(ValueError, match='action_constraints leave no action'):
    planning.BoundPlanner(**SETTINGS, limits=planning.Limits(constraints))
