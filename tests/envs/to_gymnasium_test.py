"""True worlds as RL code plays them, by pure functions and in Gymnasium."""

import subprocess
import sys

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.utils import env_checker

from jepa_wm import envs
from jepa_wm.envs import goal_world, to_gymnasium

KEY = jax.random.key(0)


def small_room(**settings):
  return goal_world.make(envs.TwoRoom(image_size=16), **settings)


def test_a_step_is_the_worlds_own_with_a_reward_and_a_clock():
  env, params = small_room(observation='state', reward='dense', max_steps=3)
  world = params.world
  actions = np.array([[1, 0.5], [5, -5], [0, 1]], np.float32)

  @jax.jit
  def play(key):
    seen, first = env.reset(key, params)

    def step(state, action):
      found = env.step_env(key, state, action, params)
      return found.state, found

    return seen, first, jax.lax.scan(step, first, actions)[1]

  seen, first, found = play(KEY)
  state = first.world
  np.testing.assert_array_equal(seen[:2], state.position)
  for t, action in enumerate(actions):
    # What the expert heads for is the goal.
    state = world.step(state, action)
    np.testing.assert_allclose(found.observation[t, :2], state.position, 1e-6)
    distance = world.distance(state, first.goal)
    np.testing.assert_allclose(found.reward[t], -distance, rtol=1e-6)
  np.testing.assert_array_equal(first.world.target, first.goal.position)
  np.testing.assert_array_equal(found.observation[0, 2:], first.goal.position)
  np.testing.assert_array_equal(found.truncated, [0, 0, 1])
  assert not found.terminated.any()


def test_reaching_the_goal_is_rewarded_and_ends_the_episode():
  env, params = small_room()
  seen, state = jax.jit(env.reset)(KEY, params)
  assert seen['pixels'].shape == seen['goal'].shape == (16, 16, 3)
  there = state._replace(goal=state.world)
  found = jax.jit(env.step)(KEY, there, jnp.zeros(2), params)
  assert found.reward == 1.0 and found.terminated and not found.truncated
  # A fresh episode, and what was seen at the end of the old one.
  assert found.state.time == 0
  np.testing.assert_array_equal(
    found.info['final_observation']['pixels'], seen['pixels']
  )
  assert np.any(found.observation['pixels'] != seen['pixels'])


@pytest.fixture
def _registered():
  to_gymnasium.register()
  to_gymnasium.register()  # Nothing more, and no warning.
  yield
  for name in to_gymnasium.ids():
    del gymnasium.registry[name]


@pytest.mark.usefixtures('_registered')
def test_gymnasium_finds_nothing_wrong_with_a_world():
  env = gymnasium.make(
    'jepa_wm/TwoRoom-v0', image_size=16, render_mode='rgb_array'
  )
  env_checker.check_env(env.unwrapped)
  env.reset(seed=3)
  seen, reward, *flags, info = env.step(env.action_space.sample())
  np.testing.assert_array_equal(env.render(), seen['pixels'])
  assert reward == 0.0 and flags == [False, False]
  assert set(info) == {'reached', 'distance', 'is_success'}
  again, _ = env.reset(seed=3)
  np.testing.assert_array_equal(again['goal'], seen['goal'])
  assert set(to_gymnasium.ids()) >= {
    *('jepa_wm/TwoRoom-v0', 'jepa_wm/PushT-v0', 'jepa_wm/PointMaze-v0'),
    'jepa_wm/DiverseMaze-v0',
  }


@pytest.mark.usefixtures('_registered')
def test_many_worlds_are_one_program():
  settings = {'observation': 'state', 'max_steps': 2}
  many = gymnasium.make_vec(
    'jepa_wm/TwoRoom-v0',
    3,
    vectorization_mode='vector_entry_point',
    **settings,
  )
  first, _ = many.reset(seed=7)
  one = gymnasium.make('jepa_wm/TwoRoom-v0', **settings)
  assert many.single_observation_space == one.observation_space
  many.action_space.seed(0)
  actions = many.action_space.sample()
  for count in range(1, 5):
    seen, reward, terminated, truncated, info = many.step(actions)
    assert seen.shape == (3, 4) and reward.shape == (3,)
    done = terminated | truncated
    np.testing.assert_array_equal(info['_final_obs'], done)
    kept = np.where(done[:, None], seen != info['final_obs'], True)
    assert kept.all() and done.all() == (count % 2 == 0)
  again, _ = many.reset(seed=[7, 8, 9])
  np.testing.assert_array_equal(first, again)
  with pytest.raises(ValueError, match=r'seed: .* 3 of them.*\[1, 2\]'):
    many.reset(seed=[1, 2])
  for seed in (-1, 2**40, [1, -2, 3], 'abc', 1.5):
    with pytest.raises(ValueError, match='seed: expected'):
      many.reset(seed=seed)
  np.testing.assert_array_equal(first, many.reset(seed=np.int64(7))[0])
  with pytest.raises(ValueError, match=r'action: expected \[3, 2\], got \[2\]'):
    many.step(actions[0])


def test_settings_and_actions_that_make_no_sense():
  with pytest.raises(ValueError, match='reward must be one'):
    small_room(reward='shaped')
  with pytest.raises(ValueError, match='observation must be one of'):
    small_room(observation='latents')
  with pytest.raises(ValueError, match=r'max_steps: .* at least 1 .*got 0'):
    small_room(max_steps=0)
  with pytest.raises(ValueError, match=r'reacher.*steps outside JAX'):
    to_gymnasium.make_env('reacher')
  with pytest.raises(ValueError, match='render_mode must be one of rgb_array'):
    to_gymnasium.make_env('two_room', render_mode='human')
  with pytest.raises(ValueError, match='num_envs: expected at least 1, got 0'):
    to_gymnasium.make_vec('two_room', num_envs=0)
  env = to_gymnasium.EpisodicEnv(*small_room())
  with pytest.raises(ValueError, match='call reset before step'):
    env.step(np.zeros(2))
  env.reset(seed=0)
  with pytest.raises(ValueError, match=r'action: expected \[2\], got \[3\]'):
    env.step(np.zeros(3))
  with pytest.raises(ValueError, match='NaN or infinity in 1 of 2; the pol'):
    env.step(np.array([0, np.nan]))
  with pytest.raises(ValueError, match=r"expected numbers .* got 'left'"):
    env.step('left')


def test_an_episode_that_has_ended_is_begun_anew():
  env = to_gymnasium.make_env(
    'two_room', observation='state', max_steps=1, render_mode='rgb_array'
  )
  with pytest.raises(ValueError, match='call reset before render'):
    env.render()
  env.reset(seed=0)
  assert env.step(np.zeros(2))[3]
  with pytest.raises(ValueError, match='has ended: call reset before step'):
    env.step(np.zeros(2))
  assert env.render().shape == (64, 64, 3)
  env.reset()
  env.step(np.zeros(2))


def test_importing_us_tells_gymnasium_nothing():
  code = (
    'import sys, jepa_wm, jepa_wm.envs, jepa_wm.rl\n'
    'assert "gymnasium" not in sys.modules\n'
    'import jepa_wm.envs.to_gymnasium, gymnasium\n'
    'assert not [x for x in gymnasium.registry if "jepa_wm" in x]'
  )
  subprocess.run([sys.executable, '-c', code], check=True)
