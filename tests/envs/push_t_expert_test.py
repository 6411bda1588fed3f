"""Push-T's experts: one that arrives, and one that stays about."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm.envs import push_t, push_t_expert, worlds


@pytest.mark.slow
def test_the_expert_reaches_its_target():
  world = push_t.PushT()
  expert = push_t_expert.PushTExpert(
    world, pace=1.0, num_samples=64, horizon=20
  )
  keys = jax.random.split(jax.random.key(0), 12)

  @jax.jit
  def play(keys):
    states = jax.vmap(world.reset)(keys)
    goals = jax.vmap(lambda state: world.from_vector(state.target))(states)

    def step(carry, t):
      states, memories = carry
      step_keys = jax.vmap(lambda key: jax.random.fold_in(key, t))(keys)
      actions, memories = jax.vmap(expert)(step_keys, states, memories)
      states = jax.vmap(world.step)(states, actions)
      arrived = jax.vmap(world.success)(states, goals)
      return (states, memories), (arrived, actions)

    carry = states, jax.vmap(expert.init)(keys, states)
    return jax.lax.scan(step, carry, jnp.arange(120))[1]

  arrived, actions = play(keys)
  assert not arrived[0].any()
  # At full pace and with twice the samples: 94 % of 192 within 100 steps.
  assert arrived.any(0).sum() >= 10
  assert np.abs(actions).max() <= 1.0
  # Pushes go in all directions.
  far = np.asarray(actions)[np.abs(actions).max(-1) > 0.3]
  quadrants = np.bincount((far[:, 0] > 0) * 2 + (far[:, 1] > 0), minlength=4)
  assert quadrants.min() > 0.1 * quadrants.sum()


def test_the_weak_policy_is_sent_to_near_the_block():
  world = push_t.PushT()
  weak = push_t_expert.PushTWeak(world)
  keys = jax.random.split(jax.random.key(0), 500)

  @jax.jit
  def act(keys):
    states = jax.vmap(world.reset)(keys)
    return states, *jax.vmap(lambda key, state: weak(key, state, ()))(
      keys, states
    )

  states, actions, memory = act(keys)
  assert memory == ()
  actions = np.asarray(actions)
  assert np.abs(actions).max() <= 1.0
  sent = np.asarray(states.agent_position) + 100 * actions
  off = np.abs(sent - np.asarray(states.block_pose[:, :2]))
  reachable = np.abs(
    np.asarray(states.agent_position) - np.asarray(states.block_pose[:, :2])
  )
  # Nearer than 100 px on each axis, or as near as one action takes it.
  assert np.all((off <= 100.01) | (off <= reachable - 99.9))
  near = reachable.max(1) < 50
  assert actions[near].std() > 0.4


def test_the_world_is_registered():
  world = worlds.get('push_t')
  env = world.make(image_size=16)
  assert {'expert', 'weak', 'random', 'smooth'} <= set(world.policies)
  expert = world.policy('expert', env, 0.3)
  assert expert.action_noise == 0.3 and expert.world is env
  vector = np.array([128.0, 256, 1, 2, 3, 4, 5])
  np.testing.assert_array_equal(world.place(vector), [0.25, 0.5])
  assert len(world.state_names) == 7
