"""Worlds and who plays in them, where JAX promotes no dtypes by itself."""

import jax
import jax.numpy as jnp
import pytest

from jepa_wm.envs import worlds

WORLDS = ['two_room', 'push_t', 'point_maze', 'diverse_maze']


@pytest.mark.parametrize('name', WORLDS)
def test_worlds_promote_nothing(name):
  env = worlds.get(name).make(image_size=16)

  def play(rng_key):
    state = env.reset(rng_key)
    after = env.step(state, jnp.zeros(env.action_dim))
    return env.render(after), env.distance(state, after)

  with jax.numpy_dtype_promotion('strict'):
    jax.eval_shape(play, jax.random.key(0))


@pytest.mark.parametrize('name', WORLDS)
def test_policies_promote_nothing(name):
  world = worlds.get(name)
  env = world.make(image_size=16)

  def act(rng_key, policy):
    state = env.reset(rng_key)
    return policy(rng_key, state, policy.init(rng_key, state))

  with jax.numpy_dtype_promotion('strict'):
    for policy in world.policies:
      made = world.policy(policy, env, 1.0)
      jax.eval_shape(lambda key, x=made: act(key, x), jax.random.key(0))
