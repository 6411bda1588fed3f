"""Trainers of others, as they are, in latents and in true worlds.

What they need is in the extra `rl`, stable-baselines3 and brax but for that.
"""

import jax
import jax.numpy as jnp
import numpy as np
import peers
import pytest
import small_model

import jepa_wm
from jepa_wm import envs, rl
from jepa_wm.envs import goal_world
from jepa_wm.rl import brax, gymnasium, gymnax

pytestmark = peers.MARKS

WORLDS = ('latent', 'true')


@pytest.fixture(autouse=True)
def _their_broadcasting():
  with jax.numpy_rank_promotion('allow'):
    yield


def made(which, **settings):
  """A world and its params, small enough to be learnt in briefly."""
  if which == 'true':
    world = envs.TwoRoom(image_size=36)
    return goal_world.make(world, max_steps=10, **settings)
  model = small_model.make(jepa_wm.WorldModel, history=1)
  frames = {'pixels': small_model.pixels(8)}
  return rl.from_frames(model, frames, low=-1, high=1, reach=0.1, max_steps=5)


@pytest.mark.parametrize('which', WORLDS)
@pytest.mark.parametrize('name', ['ppo', 'sac'])
def test_rejax_learns(name, which):
  rejax = pytest.importorskip('rejax')
  env, params = made(which, observation='state', reward='dense')
  sizes = {
    'ppo': {'num_steps': 8, 'num_epochs': 1, 'num_minibatches': 2},
    'sac': {'buffer_size': 64, 'fill_buffer': 16, 'batch_size': 8},
  }[name]
  algo = rejax.get_algo(name).create(
    env=gymnax.as_gymnax(env, params, steps=5),
    env_params=params,
    num_envs=4,
    total_timesteps=64,
    eval_freq=32,
    skip_initial_evaluation=True,
    **sizes,
  )
  state, (lengths, returns) = jax.jit(algo.train)(jax.random.key(0))
  assert lengths.shape == (2, 128) and np.isfinite(returns).all()
  before = algo.init_state(jax.random.key(0))
  moved = jax.tree.map(
    lambda x, y: jnp.any(x != y), state.actor_ts.params, before.actor_ts.params
  )
  assert any(jax.tree.leaves(moved))
  observation, _ = env.reset(jax.random.key(1), params)
  action = algo.make_act(state)(observation, jax.random.key(2))
  assert action.shape == env.action_space(params).shape


@pytest.mark.parametrize('which', WORLDS)
def test_stable_baselines_learns(which):
  sb3 = pytest.importorskip('stable_baselines3')
  from stable_baselines3.common import env_checker, monitor

  env = gymnasium.as_gymnasium(*made(which))
  env_checker.check_env(env)
  agent = sb3.SAC(
    'MultiInputPolicy' if which == 'true' else 'MlpPolicy',
    monitor.Monitor(env),
    learning_starts=20,
    buffer_size=100,
    batch_size=8,
    train_freq=5,
    seed=0,
  )
  agent.learn(40)
  assert len(agent.ep_success_buffer) == 40 // (10 if which == 'true' else 5)
  observation, _ = env.reset(seed=0)
  action, _ = agent.predict(observation, deterministic=True)
  assert env.action_space.contains(action)


@pytest.mark.parametrize('which', WORLDS)
def test_brax_wraps_and_resets(which):
  training = pytest.importorskip('brax.envs.wrappers.training')
  env = brax.as_brax(*made(which, observation='state'))
  wrapped = training.wrap(env, episode_length=4)
  state = jax.jit(wrapped.reset)(jax.random.split(jax.random.PRNGKey(0), 3))
  step = jax.jit(wrapped.step)
  first = state.obs
  for count in range(1, 5):
    state = step(state, jnp.zeros((3, env.action_size)))
    assert state.obs.shape == (3, env.observation_size)
    np.testing.assert_array_equal(state.done, count == 4)
  np.testing.assert_allclose(state.obs, first)
