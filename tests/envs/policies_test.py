"""Policies: their bounds, their statistics, and the mixture's constancy."""

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm.envs import policies

_LOW = np.array([-1.0, 0.0, 2.0], np.float32)
_HIGH = np.array([1.0, 4.0, 3.0], np.float32)


@flax.struct.dataclass
class _Constant:
  """Plays `value` and counts its calls in its memory."""

  value: jax.Array

  def init(self, rng_key, state):
    del rng_key, state
    return jnp.zeros([], jnp.int32)

  def __call__(self, rng_key, state, memory):
    del rng_key, state
    return self.value, memory + 1


def _play(policy, rng_key, *, num_episodes, num_steps):
  """Actions `[episodes, steps, A]` and memories after each step."""

  def episode(key):
    init_key, key = jax.random.split(key)

    def step(memory, step_key):
      action, memory = policy(step_key, None, memory)
      return memory, (action, memory)

    keys = jax.random.split(key, num_steps)
    return jax.lax.scan(step, policy.init(init_key, None), keys)[1]

  return jax.jit(jax.vmap(episode))(jax.random.split(rng_key, num_episodes))


def test_uniform_fills_the_bounds(rng_key):
  policy = policies.UniformPolicy(_LOW, _HIGH)
  actions, _ = _play(policy, rng_key, num_episodes=40, num_steps=50)
  flat = np.asarray(actions).reshape(-1, 3)
  assert (flat >= _LOW).all() and (flat <= _HIGH).all()
  np.testing.assert_allclose(
    flat.std(0), (_HIGH - _LOW) / np.sqrt(12), rtol=0.05
  )
  np.testing.assert_allclose(flat.mean(0), (_HIGH + _LOW) / 2, atol=0.1)
  assert abs(np.corrcoef(flat[:-1, 0], flat[1:, 0])[0, 1]) < 0.1


def test_reactive_is_its_function_of_key_and_state(rng_key):
  def act(key, state):
    return state + jax.random.normal(key, (2,))

  policy = policies.ReactivePolicy(act)
  state = jnp.array([5.0, -5.0])
  memory = policy.init(rng_key, state)
  # As a leafless pytree it goes through jit, and the same function is one
  # program.
  play = jax.jit(lambda policy, key: policy(key, state, memory))
  action, after = play(policy, rng_key)
  np.testing.assert_allclose(action, act(rng_key, state), rtol=1e-6)
  assert after == memory == ()
  play(policies.ReactivePolicy(act), rng_key)
  assert play._cache_size() == 1


def test_smooth_walk_is_stationary_and_forgets_at_its_rate(rng_key):
  policy = policies.SmoothRandomPolicy(
    _LOW, _HIGH, correlation_steps=10.0, scale=0.8
  )
  actions, process = _play(policy, rng_key, num_episodes=1500, num_steps=21)
  flat = np.asarray(actions).reshape(-1, 3)
  assert (flat >= _LOW).all() and (flat <= _HIGH).all()
  assert (flat == _LOW).any(0).all() and (flat == _HIGH).any(0).all()
  process = np.asarray(process)
  np.testing.assert_allclose(process.std(axis=(0, 2)), 0.8, rtol=0.08)
  for lag in (1, 10, 20):
    correlation = np.mean(process[:, 0] * process[:, lag]) / 0.8**2
    assert abs(correlation - np.exp(-lag / 10)) < 0.06
  middle, half_range = (_HIGH + _LOW) / 2, (_HIGH - _LOW) / 2
  np.testing.assert_allclose(
    actions, middle + half_range * np.clip(process, -1, 1), atol=1e-5
  )


def test_mixture_keeps_one_policy_an_episode(rng_key):
  mixture = policies.MixturePolicy(
    (_Constant(jnp.zeros(2)), _Constant(jnp.ones(2)), _Constant(-jnp.ones(2))),
    np.array([3.0, 1.0, 0.0], np.float32),
  )
  actions, (choice, calls) = _play(
    mixture, rng_key, num_episodes=400, num_steps=5
  )
  actions = np.asarray(actions)
  assert (actions == actions[:, :1, :1]).all()
  np.testing.assert_array_equal(actions[:, 0, 0], choice[:, 0])
  assert abs(actions[:, 0, 0].mean() - 0.25) < 0.08
  assert actions.min() == 0.0
  np.testing.assert_array_equal(calls[0][0], [1, 2, 3, 4, 5])


def test_mixture_of_different_memories(rng_key):
  mixture = policies.MixturePolicy(
    (
      policies.UniformPolicy(_LOW, _HIGH),
      policies.SmoothRandomPolicy(_LOW, _HIGH),
    ),
    np.ones(2, np.float32),
  )
  actions, (choice, memories) = _play(
    mixture, rng_key, num_episodes=8, num_steps=3
  )
  assert actions.shape == (8, 3, 3)
  assert set(np.asarray(choice).ravel().tolist()) == {0, 1}
  smooth = np.asarray(choice)[:, 0] == 1
  middle, half_range = (_HIGH + _LOW) / 2, (_HIGH - _LOW) / 2
  walked = middle + half_range * np.clip(memories[1], -1, 1)
  np.testing.assert_allclose(actions[smooth], walked[smooth], atol=1e-5)
  assert not np.allclose(actions[~smooth], walked[~smooth], atol=1e-2)


@pytest.mark.parametrize('num_weights', [1, 3])
def test_mixture_needs_a_weight_per_policy(rng_key, num_weights):
  mixture = policies.MixturePolicy(
    (_Constant(jnp.zeros(2)), _Constant(jnp.ones(2))), np.ones(num_weights)
  )
  with pytest.raises(ValueError, match='weights must hold one number per'):
    mixture.init(rng_key, None)


def test_mixture_needs_a_policy(rng_key):
  with pytest.raises(ValueError, match='one at least, got 0 policies'):
    policies.MixturePolicy((), np.ones(0)).init(rng_key, None)
