"""What does not fit a latent environment is named before anything is spent."""

import host_two_room
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_model

import jepa_wm
from jepa_wm import envs, rl
from jepa_wm.envs import goal_world
from jepa_wm.rl import environment_params, rewards

KEY = jax.random.key(0)


@pytest.fixture(scope='module')
def model():
  return small_model.make(jepa_wm.WorldModel, history=1)


def of_world(world=None, **changes):
  world = envs.TwoRoom() if world is None else world
  return lambda m: rl.from_world(
    m, world, **{'num': 8, 'rng_key': KEY, **changes}
  )


def of_frames(frames, **changes):
  given = {'low': -1, 'high': 1, 'reach': 1.0, **changes}
  return lambda m: rl.from_frames(m, frames, **given)


@pytest.mark.parametrize(
  ('call', 'message'),
  [
    (of_world('two_room'), r"world: expected a world in JAX.*'two_room'"),
    (of_world(envs.TwoRoom), r'world: .*such as envs.TwoRoom\(\), got <class'),
    (
      of_world(host_two_room.make()),
      r'world: .*rl\.from_episodes',
    ),
    (of_world(num=10**12), 'num: expected at most 16777216'),
    (of_world(num=1.5), 'num: expected a whole number, got 1.5'),
    (of_world(max_steps=10**12), r'max_steps: .* below 2\*\*31, got 1000000'),
    (of_world(max_steps=1.5), 'max_steps: expected a whole number.*1.5'),
    (of_world(discount=1.5), 'discount: expected 0 to 1, got 1.5'),
    (of_world(reach='near'), "reach: expected a distance above 0, got 'near'"),
    (of_world(discont=0.5), "no field 'discont'. Did you mean 'discount'"),
    (of_world(reach=1.0, reward_fn=3), 'reward_fn: expected a function, got 3'),
    (of_frames({}), "'pixels' is missing"),
    (of_frames({'pixel': small_model.pixels(2)}), "'pixels' is missing"),
    (
      of_frames({'pixels': small_model.pixels(2)[0]}),
      r'starts and goals: .* \[\]',
    ),
    (of_frames({'pixels': small_model.pixels(2)[:0]}), 'at least one frame'),
    (
      of_frames({'pixels': small_model.pixels(2)}, low=-np.inf),
      'low: expected bounds below high, finite ones',
    ),
    (
      of_frames({'pixels': small_model.pixels(2)}, low=-np.ones((5, 2))),
      r'low and high: expected numbers or \[2\].*\[5, 2\]',
    ),
  ],
)
def test_a_start_that_cannot_be_made(model, call, message):
  with pytest.raises(ValueError, match=message):
    call(model)


@pytest.mark.parametrize(
  ('reward_fn', 'message'),
  [
    (lambda *s: None, 'reward must be numbers, got None'),
    (lambda *s: 'good', "reward must be numbers, got 'good'"),
    (lambda z, *s: 1j * z[..., 0], 'reward must be numbers, got Array'),
  ],
)
def test_a_reward_that_is_no_number(reward_fn, message):
  step = (
    jnp.zeros((4, 3)),
    jnp.zeros((4, 10)),
    jnp.ones((4, 3)),
    jnp.ones((4, 3)),
  )
  given = rewards.RewardParams(1.0)
  with pytest.raises(ValueError, match=message):
    rewards.outcome(rewards.from_function(reward_fn), given, *step)
  with pytest.raises(ValueError, match='got NoneType'):
    rewards.outcome(rewards.shaped(lambda *s: None), given, *step)
  with pytest.raises(ValueError, match='role: expected a function, got None'):
    rewards.from_role(None)


def test_a_true_world_that_is_none():
  with pytest.raises(ValueError, match=r"world in JAX.*'two_room'"):
    goal_world.make('two_room')
  with pytest.raises(ValueError, match=r'max_steps: .*1000000000000'):
    goal_world.make(envs.TwoRoom(), max_steps=10**12)


def test_numbers_of_an_environment_are_checked_alone():
  environment_params.check_numbers(reach=0.5, discount=0.0, max_steps=2**31 - 1)
  with pytest.raises(ValueError, match='reach'):
    environment_params.check_numbers(reach=float('nan'))
