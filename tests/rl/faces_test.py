"""A latent environment as libraries of others call it."""

import copy
import dataclasses

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_model
from gymnasium.utils import env_checker

import jepa_wm
from jepa_wm import envs, rl
from jepa_wm.envs import goal_world
from jepa_wm.rl import brax, gymnax
from jepa_wm.rl import gymnasium as gymnasium_face

KEY = jax.random.key(0)


@pytest.fixture(scope='module')
def made():
  model = small_model.make(jepa_wm.WorldModel, history=1)
  frames = {'pixels': small_model.pixels(4)}
  return rl.from_frames(
    model, frames, low=-1, high=[1, 3], reach=1e-3, max_steps=3
  )


def test_gymnax_is_given_five_values_or_six(made):
  env, params = made
  seen, state = env.reset(KEY, params)
  action = jnp.ones(10)
  found = env.step(KEY, state, action, params)
  five = gymnax.as_gymnax(env, params, steps=5)
  six = gymnax.as_gymnax(env, params, steps=6)
  np.testing.assert_array_equal(five.reset(KEY, params)[0], seen)
  *before, done, info = five.step(KEY, state, action, params)
  after = six.step(KEY, state, action, params)
  assert len(after) == 6 and set(after[-1]) == set(info)
  for mine, theirs, others in zip(found, before, after):
    jax.tree.map(np.testing.assert_array_equal, mine, theirs)
    jax.tree.map(np.testing.assert_array_equal, mine, others)
  assert done == (found.terminated | found.truncated)
  assert 'final_observation' not in six.step_env(KEY, state, action, params)[-1]
  assert params.max_steps_in_episode == 3
  np.testing.assert_array_equal(five.reset(KEY)[0], seen)
  assert five.action_space().shape == (10,)
  assert copy.deepcopy(five) is five
  assert five.name == 'LatentEnvironment'
  with pytest.raises(ValueError, match=r'steps must be 5 .* or 6 .* got 4'):
    gymnax.as_gymnax(env, params, steps=4)


def test_brax_plays_in_its_own_units_and_keeps_what_others_add(made):
  env, params = made
  theirs = brax.as_brax(env, params)
  assert (theirs.observation_size, theirs.action_size) == (6, 10)
  state = theirs.reset(KEY)
  state = state.replace(info={**state.info, 'steps': jnp.float32(4.0)})

  def step(state, action):
    after = theirs.step(state, action)
    return after, after

  actions = jnp.stack([jnp.ones(10), -jnp.ones(10), jnp.zeros(10)])
  _, path = jax.jit(lambda s: jax.lax.scan(step, s, actions))(state)
  np.testing.assert_array_equal(path.done, [0, 0, 1])
  np.testing.assert_array_equal(path.info['truncation'], [0, 0, 1])
  np.testing.assert_array_equal(path.info['steps'], 4.0)
  mine = state.pipeline_state[0]
  for t, raw in enumerate(([1, 3], [-1, -1], [0, 1])):
    found = env.step_env(KEY, mine, jnp.tile(jnp.array(raw, float), 5), params)
    mine = found.state
    np.testing.assert_allclose(path.obs[t], found.observation, rtol=1e-5)
    np.testing.assert_allclose(
      path.metrics['distance'][t], found.info['distance'], rtol=1e-5
    )


def test_brax_learns_from_one_vector_alone():
  room = goal_world.make(envs.TwoRoom(image_size=16))
  with pytest.raises(ValueError, match=r"one vector.*\['goal', 'pixels'\]"):
    _ = brax.as_brax(*room).observation_size
  room = goal_world.make(envs.TwoRoom(), observation='state')
  assert brax.as_brax(*room).observation_size == 4


# Latents have no bounds, which it finds worth a word.
@pytest.mark.filterwarnings('ignore:.*infinity')
def test_gymnasium_finds_nothing_wrong_with_latents(made):
  env, params = made
  # It recommends bounds of one.
  even = dataclasses.replace(env, high=(1.0, 1.0))
  checked = gymnasium_face.as_gymnasium(even, params)
  env_checker.check_env(checked, skip_render_check=True)
  env = gymnasium_face.as_gymnasium(env, params)
  np.testing.assert_array_equal(env.action_space.high, np.tile([1, 3], 5))
  env.reset(seed=1)
  for _ in range(3):
    *_, truncated, info = env.step(env.action_space.sample())
  assert truncated and info['is_success'] is False and env.render() is None


def test_many_latent_worlds_are_one_program(made):
  many = gymnasium_face.as_vector(*made, 5)
  assert many.metadata['autoreset_mode'] is (
    gymnasium.vector.AutoresetMode.SAME_STEP
  )
  first, _ = many.reset(seed=0)
  many.action_space.seed(0)
  for _ in range(3):
    seen, _, _, truncated, info = many.step(many.action_space.sample())
    assert seen.shape == (5, 6) and info['distance'].shape == (5,)
  assert truncated.all()
  # Another goal in the new episode than in the one that ended, mostly.
  assert np.any(seen[:, 3:] != info['final_obs'][:, 3:])
  # Copies: what is written into them changes nothing.
  first[:] = np.nan
  assert np.isfinite(many.reset(seed=0)[0]).all()
