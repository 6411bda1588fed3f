"""Imagined rollouts and returns, against a loop and NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_model

import jepa_wm
from jepa_wm.rl import imagination


@pytest.fixture(scope='module')
def model():
  return small_model.make(jepa_wm.WorldModel, history=1)


def policy(params, rng_key, latents, goal, steps):
  """Pushes towards the goal, and tells the time in its last number."""
  drawn = 0.0 if rng_key is None else jax.random.normal(rng_key, (2, 10))
  action = jnp.tile(params * (goal - latents), (1, 4))[:, :10] + drawn
  return action.at[:, -1].set(steps)


@pytest.mark.parametrize('seed', [None, 0])
def test_a_rollout_is_one_step_after_the_other(model, seed):
  key = None if seed is None else jax.random.key(seed)
  latents, goals = jnp.ones((2, 3)), jnp.arange(6.0).reshape(2, 3)
  state = model.start_from(model.params, latents[:, None])

  @jax.jit
  def imagine(scale):
    return imagination.imagine(
      model, model.params, policy, scale, key, state, goals, horizon=3
    )

  found = imagine(0.1)
  assert found.latents.shape == (4, 2, 3)
  assert found.actions.shape == (3, 2, 10)
  np.testing.assert_array_equal(found.actions[:, 0, -1], [15.0, 10.0, 5.0])
  for h in range(3):
    step_key = None if key is None else jax.random.fold_in(key, h)
    steps = found.actions[h, :, -1]
    action = policy(0.1, step_key, model.latent(state), goals, steps)
    np.testing.assert_allclose(found.actions[h], action, atol=1e-6)
    state = model.dynamics(model.params, jax.random.key(0), action, state)
    np.testing.assert_allclose(
      found.latents[h + 1], model.latent(state), atol=1e-5
    )


def test_a_rollout_has_the_gradient_of_the_policy(model):
  state = model.start_from(model.params, jnp.ones((2, 1, 3)))

  @jax.jit
  def end(scale):
    goals = jnp.zeros((2, 3))
    found = imagination.imagine(
      model, model.params, policy, scale, None, state, goals, horizon=2
    )
    return jnp.sum(found.latents[-1])

  step = 1e-2
  slope = (end(0.1 + step) - end(0.1 - step)) / (2 * step)
  assert abs(slope) > 1e-3
  np.testing.assert_allclose(jax.grad(end)(0.1), slope, rtol=2e-2)


@pytest.mark.parametrize('mix', [0.0, 0.7, 1.0])
def test_returns_are_those_of_a_loop(mix):
  rng = np.random.default_rng(0)
  rewards, values = rng.normal(size=(2, 5, 3))
  discounts = rng.uniform(size=(5, 3))
  # Of the mixture of all n-step returns, not of the recursion.
  wanted = np.zeros((5, 3))
  for h in range(5):
    total, weight, left = np.zeros(3), np.ones(3), 1.0
    for n in range(h, 5):
      total = total + weight * rewards[n]
      weight = weight * discounts[n]
      share = left if n == 4 else left * (1.0 - mix)
      wanted[h] += share * (total + weight * values[n])
      left *= mix
  found = imagination.lambda_returns(
    jnp.asarray(rewards), jnp.asarray(discounts), jnp.asarray(values), mix
  )
  np.testing.assert_allclose(found, wanted, atol=1e-5)
