import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import problem_sets
import pytest
from problem_sets import PARAMS, A, B, H, make_keys, make_root

from jepa_wm import planning
from jepa_wm.planning import lifting
from jepa_wm.planning.task import open_task
from jepa_wm.types import Root

N = 2
RNG = np.random.default_rng(5)
ACTIONS, LATENTS = RNG.normal(size=(2, B, N, H, A)).astype(np.float32)


def wall_cost(params, state, action, goal):
  del params, action, goal
  return state[..., 0]


def make_task(dynamics_fn=problem_sets.dynamics, **changes):
  problem = planning.Problem(
    make_root(),
    dynamics_fn,
    problem_sets.effort_cost,
    H,
    A,
    limits=planning.Limits(guardrails=[planning.Guardrail(wall_cost, 0.3)]),
    step_weights=planning.step_weights(H, 'linear'),
  )
  problem = dataclasses.replace(problem, **changes)
  return open_task(PARAMS, make_keys(), problem)


def read_latent(state):
  return state


def write_latent(state, latent):
  del state
  return latent


HOW = {'at once': (None, None), 'in turn': (read_latent, write_latent)}


@pytest.mark.parametrize(
  'how', ['at once', pytest.param('in turn', marks=pytest.mark.slow)]
)
def test_prices_and_slopes_are_those_of_steps_on_their_own(how):
  """The lifted sum and its gradients in NumPy, without the chain rule."""
  task = make_task()
  lift = lifting.make_lift(task, *HOW[how], 0.5)
  path = lifting.follow(task, lift, jnp.asarray(ACTIONS), make_keys())
  latents = jax.tree.unflatten(
    jax.tree.structure(lifting.latents_of(lift, path)), [LATENTS]
  )

  def total(actions, latents):
    prices = lifting.price(task, lift, actions, latents, path, make_keys())
    return jnp.sum(prices.cost), prices

  slopes = jax.jit(jax.grad(total, argnums=(0, 1), has_aux=True))
  (by_actions, by_latents), prices = slopes(ACTIONS, latents)
  (by_latents,) = jax.tree.leaves(by_latents)

  state, goal = (np.asarray(x)[:, None] for x in make_root())
  starts = np.repeat(state, N, axis=1)[:, :, None]
  starts = np.concatenate([starts, LATENTS[:, :, :-1]], axis=2)
  ends = starts @ PARAMS['transition'].T + ACTIONS @ PARAMS['control'].T
  gaps = ends - LATENTS
  gaps[:, :, -1] = 0.0
  scale = planning.step_weights(H, 'linear').reshape(H, 1) + 0.5
  misses = ends - goal[:, :, None]
  cost = np.sum(gaps**2 + scale * (misses**2 + 0.1 * ACTIONS**2), axis=(2, 3))
  np.testing.assert_allclose(prices.cost, cost, rtol=1e-4)
  np.testing.assert_allclose(
    prices.excess[..., 0], ends[..., 0] - 0.3, atol=1e-5
  )
  np.testing.assert_allclose(by_latents, -2.0 * gaps, atol=1e-4)
  slope = (2.0 * gaps + 2.0 * scale * misses) @ PARAMS['control']
  slope = slope + 0.2 * scale * ACTIONS
  np.testing.assert_allclose(by_actions, slope, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize('how', HOW)
def test_a_rollout_has_no_gaps(how):
  task = make_task()
  lift = lifting.make_lift(task, *HOW[how], 0.0)
  path = lifting.follow(task, lift, jnp.asarray(ACTIONS), make_keys())
  lifted = lifting.price(
    task,
    lift,
    jnp.asarray(ACTIONS),
    lifting.latents_of(lift, path),
    path,
    make_keys(),
  )
  straight = task.price(jnp.asarray(ACTIONS), make_keys())
  np.testing.assert_allclose(lifted.cost, straight.cost, rtol=1e-4)
  np.testing.assert_allclose(lifted.excess, straight.excess, atol=1e-5)


# States that hold more than their latent.


def clock_dynamics(params, rng_key, action, state):
  """Pushes harder as time goes by."""
  strength = (1 + state['time']).astype(jnp.bfloat16)
  latent = state['latent'] + jnp.expand_dims(strength, -1) * action
  return {'latent': latent.astype(jnp.bfloat16), 'time': state['time'] + 1}


@pytest.mark.slow
def test_what_is_no_latent_goes_on_by_itself():
  """Integers keep what they are at each step; half precision keeps its type."""
  state, goal = make_root()
  root = Root(
    {'latent': state.astype(jnp.bfloat16), 'time': jnp.arange(B)}, goal
  )

  def latent_cost(params, state, action, goal):
    return problem_sets.effort_cost(params, state['latent'], action, goal)

  task = make_task(
    clock_dynamics, root=root, cost_fn=latent_cost, limits=planning.Limits()
  )
  prices = []
  for functions in (
    (None, None),
    (
      lambda state: state['latent'],
      lambda state, latent: {**state, 'latent': latent},
    ),
  ):
    lift = lifting.make_lift(task, *functions, 1.0)
    path = lifting.follow(task, lift, jnp.asarray(ACTIONS), make_keys())
    latents = lifting.latents_of(lift, path)
    assert {leaf.dtype for leaf in jax.tree.leaves(latents)} == {
      jnp.dtype('float32')
    }
    latents = jax.tree.map(lambda leaf: leaf + 1.0, latents)
    prices.append(
      lifting.price(
        task, lift, jnp.asarray(ACTIONS), latents, path, make_keys()
      )
    )
  np.testing.assert_allclose(prices[0].cost, prices[1].cost, rtol=1e-5)
  assert np.all(np.isfinite(prices[0].cost))


def window_dynamics(params, rng_key, action, state):
  """Looks back on two latents; the window grows to them."""
  older, newest = state[..., 0, :], state[..., -1, :]
  drift = problem_sets.dynamics(params, rng_key, action, newest)
  after = jnp.expand_dims(drift - 0.5 * older, -2)
  return jnp.concatenate([state, after], axis=-2)[..., -2:, :]


def read_newest(state):
  return state[..., -1, :]


def write_newest(state, latent):
  latent = jnp.expand_dims(latent, -2)
  return jnp.concatenate([state[..., :-1, :], latent], axis=-2)


def newest_cost(params, state, action, goal):
  return problem_sets.effort_cost(params, state[..., -1, :], action, goal)


@pytest.mark.slow
def test_a_window_is_one_of_virtual_states():
  state, goal = make_root()
  root = Root(jnp.expand_dims(state, 1), goal)
  task = make_task(
    window_dynamics, root=root, cost_fn=newest_cost, limits=planning.Limits()
  )
  lift = lifting.make_lift(task, read_newest, write_newest, 0.0)
  path = lifting.follow(task, lift, jnp.asarray(ACTIONS), make_keys())
  assert path.shape == (B, N, H, 2)

  def total(actions, latents):
    prices = lifting.price(task, lift, actions, latents, path, make_keys())
    return jnp.sum(prices.cost), prices.cost

  slopes = jax.jit(jax.grad(total, argnums=(0, 1), has_aux=True))
  slopes, prices = slopes(ACTIONS, LATENTS)
  by_actions, by_latents = map(np.asarray, slopes)

  start, goal = (np.asarray(x)[:, None] for x in make_root())
  start = np.repeat(start, N, axis=1)
  passed = [start, *np.moveaxis(LATENTS, 2, 0)]
  weights, cost = planning.step_weights(H, 'linear'), 0.0
  for h in range(H):
    end = passed[h] @ PARAMS['transition'].T - 0.5 * passed[max(h - 1, 0)]
    end = end + ACTIONS[:, :, h] @ PARAMS['control'].T
    gap = (end - passed[h + 1]) * (h < H - 1)
    miss = (end - goal) ** 2 + 0.1 * ACTIONS[:, :, h] ** 2
    cost = cost + np.sum(gap**2 + weights[h] * miss, axis=-1)
    np.testing.assert_allclose(by_latents[:, :, h], -2.0 * gap, atol=1e-4)
    slope = (2.0 * gap + 2.0 * weights[h] * (end - goal)) @ PARAMS['control']
    slope = slope + 0.2 * weights[h] * ACTIONS[:, :, h]
    np.testing.assert_allclose(by_actions[:, :, h], slope, atol=1e-4)
  np.testing.assert_allclose(prices, cost, rtol=1e-4)


# Doors.


@pytest.mark.parametrize(
  ('functions', 'message'),
  [
    ((read_latent, None), 'belong together, got only read_fn'),
    ((None, write_latent), 'belong together, got only write_fn'),
    (
      (lambda state: jnp.zeros((4, 1, 2), jnp.int32), write_latent),
      'read_fn must pick floating-point arrays',
    ),
    ((lambda state: (), write_latent), 'read_fn must pick floating-point'),
    (
      (read_latent, lambda state, latent: latent[..., :1]),
      r'write_fn must return a state .* \[4, 1, 2\], got float32 \[4, 1, 1\]',
    ),
  ],
)
def test_refuses_functions_that_do_not_fit(functions, message):
  with pytest.raises(ValueError, match=message):
    lifting.make_lift(make_task(), *functions, 1.0)


def test_a_state_that_grows_needs_to_be_read():
  state, goal = make_root()
  root = Root(jnp.expand_dims(state, 1), goal)
  task = make_task(
    window_dynamics, root=root, cost_fn=newest_cost, limits=planning.Limits()
  )
  message = 'changes the shapes of the state.* with read_fn and write_fn'
  with pytest.raises(ValueError, match=message):
    lifting.make_lift(task, None, None, 1.0)
