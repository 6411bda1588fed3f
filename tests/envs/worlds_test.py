import dataclasses

import jax
import numpy as np
import pytest

from jepa_wm.envs import worlds


@pytest.fixture(
  params=sorted(n for n, w in worlds.WORLDS.items() if not w.on_host),
  scope='module',
)
def world(request):
  return worlds.get(request.param)


@pytest.fixture(scope='module')
def start(world):
  """The world made, and five of its states."""
  env = world.make(image_size=24)
  keys = jax.random.split(jax.random.key(0), 5)
  return env, jax.jit(jax.vmap(env.reset))(keys)


def test_a_vector_describes_its_state(world, start):
  env, states = start
  state = jax.tree.map(lambda x: x[0], states)
  vector = env.vector(state)
  again = env.from_vector(vector)
  assert vector.shape == (len(world.state_names),)
  np.testing.assert_allclose(env.vector(again), vector, atol=1e-4)
  np.testing.assert_allclose(again.target, vector, atol=1e-4)
  assert state.target.shape == vector.shape
  assert env.distance(again, again) == 0 and env.success(again, again)
  assert jax.tree.structure(again) == jax.tree.structure(state)
  shapes = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)
  assert shapes(jax.tree.map(np.asarray, again)) == shapes(
    jax.tree.map(np.asarray, state)
  )


def test_a_vector_has_a_place_in_the_picture(world, start):
  env, states = start
  places = world.place(np.asarray(jax.vmap(env.vector)(states)))
  assert places.shape == (5, 2)
  assert np.all(places > 0) and np.all(places < 1)


def test_every_policy_acts_within_bounds(world, start):
  env, states = start
  state = jax.tree.map(lambda x: x[0], states)
  assert {'expert', 'random', 'smooth'} <= set(world.policies)
  for name in world.policies:
    policy = world.policy(name, env, world.action_noise)

    @jax.jit
    def act(state, policy=policy):
      memory = policy.init(jax.random.key(1), state)
      return policy(jax.random.key(2), state, memory)

    action, _ = act(state)
    assert action.shape == (env.action_dim,)
    assert np.all(action >= env.action_low) and np.all(
      action <= env.action_high
    )


def test_unknown_names_are_answered_by_the_known(world):
  with pytest.raises(ValueError, match=r'one of .*expert.*, random, smooth'):
    world.policy('experts', world.make())
  with pytest.raises(ValueError, match=r"two_room.*, got 'three_room'"):
    worlds.get('three_room')
  with pytest.raises(ValueError, match=r"whole number.*t_maze_5, got 'nan'"):
    worlds.get('t_maze_nan')


def test_a_world_is_registered_once():
  world = worlds.get('two_room')
  with pytest.raises(ValueError, match="'two_room' already"):
    worlds.register('two_room', world)
  with pytest.raises(ValueError, match=r"hold an 'expert'.*got none"):
    dataclasses.replace(world, policies={})


@pytest.mark.parametrize('name', ['reacher', 'cube'])
def test_worlds_on_the_host_name_their_numbers(name):
  world = worlds.get(name)
  count = len(world.state_names)
  vectors = np.random.default_rng(0).uniform(0.1, 0.3, (5, count))
  assert world.place(vectors).shape == (5, 2)
  assert {'expert', 'wanderer', 'random', 'smooth'} == set(world.policies)
  with pytest.raises(ValueError, match=f"'{name}' steps outside JAX"):
    worlds.get_simulated(name)
