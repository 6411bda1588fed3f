"""A graph of what was seen, in corridors and in Two Room."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm import exports
from jepa_wm.envs import two_room
from jepa_wm.models import heads

BLOCK = 5
SETTINGS = {
  'name': 'landmarks',
  'num_landmarks': 32,
  'num_spare': 8,
  'num_seen': 1,
  'num_near': 2,
  'stride': 3,
}


class Compiled:
  """A head whose functions are compiled once."""

  def __init__(self, head):
    self.steps = jax.jit(head.steps)
    self.subgoals = jax.jit(head.subgoals)
    self.remember = jax.jit(head.remember)
    self.fit = jax.jit(head.fit)
    self.roles, self.init = head.roles, head.init


@functools.cache
def build(dim, **given):
  sizes = heads.Sizes(latent_dim=dim, action_dim=2, action_block=BLOCK)
  return Compiled(heads.from_config(SETTINGS | given, sizes))


def line(start, end):
  """A latent a block, which moves by 1."""
  start, end = np.float32(start), np.float32(end)
  count = round(float(np.abs(end - start).max())) + 1
  return np.linspace(start, end, count, dtype=np.float32)


# Two arms of 10 blocks, 4 apart, that meet at the end alone.
CORRIDOR = np.concatenate(
  [line((0, 0), (10, 0)), line((10, 1), (10, 3)), line((10, 4), (0, 4))]
)
SIDE, OTHER_SIDE = jnp.float32([0, 0]), jnp.float32([0, 4])


def walked(head, path, there_and_back=True):
  """What the head knows of somebody who went a path."""
  path = np.concatenate([path, path[::-1]]) if there_and_back else path
  after = np.minimum(np.arange(len(path)) + 1, len(path) - 1)
  return head.fit(jnp.asarray(path), jnp.asarray(after), jax.random.key(0))


@pytest.fixture(scope='module')
def corridor():
  head = build(2, num_landmarks=len(CORRIDOR))
  return head, *walked(head, CORRIDOR)


def test_the_way_round_is_as_long_as_it_was_walked(corridor):
  head, params, metrics = corridor
  steps = head.steps(params, SIDE, OTHER_SIDE)
  assert steps == BLOCK * (len(CORRIDOR) - 1)
  assert head.steps(params, SIDE, SIDE) == 0.0
  # As prices of planners, of any leading dims.
  prices = head.steps(params, SIDE[None, None], CORRIDOR.reshape(5, -1, 2))
  wanted = BLOCK * np.arange(len(CORRIDOR)).reshape(5, -1)
  np.testing.assert_allclose(prices, wanted, atol=1e-4)
  assert metrics['edges'] == 2 * (len(CORRIDOR) - 1)
  assert metrics['unknown'] == 0.0


def test_what_to_reach_first_lies_on_the_way_and_near_it_is_the_goal(corridor):
  head, params, _ = corridor
  here = jnp.asarray(CORRIDOR)
  found = head.roles.subgoals(
    params, here, jnp.broadcast_to(here[-1], here.shape)
  )
  ahead = np.minimum(np.arange(len(here)) + 3, len(here) - 1)
  np.testing.assert_array_equal(found, here[ahead])


def test_a_way_is_known_in_the_direction_in_which_somebody_went():
  head = build(2, num_landmarks=len(CORRIDOR))
  params, metrics = walked(head, CORRIDOR, there_and_back=False)
  there, back = (SIDE, OTHER_SIDE), (OTHER_SIDE, SIDE)
  assert head.steps(params, *there) == BLOCK * (len(CORRIDOR) - 1)
  # Farther than all that is known, and still told apart by how far it looks.
  assert head.steps(params, *back) > head.steps(params, *there)
  np.testing.assert_array_equal(head.subgoals(params, *back), SIDE)
  assert metrics['unknown'] == pytest.approx(0.5, abs=0.05)


def test_a_shorter_way_that_somebody_went_is_remembered(corridor):
  head, params, _ = corridor
  after = head.remember(params, jnp.asarray(line(SIDE, OTHER_SIDE)))
  assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, params)
  assert after['params']['number'] == params['params']['number'] + 3
  assert head.steps(after, SIDE, OTHER_SIDE) == BLOCK * 4
  np.testing.assert_array_equal(
    head.subgoals(after, SIDE, OTHER_SIDE), jnp.float32([0, 3])
  )
  # Nobody has come back that way.
  assert head.steps(after, OTHER_SIDE, SIDE) == BLOCK * (len(CORRIDOR) - 1)


def test_a_full_memory_leaves_out_what_it_has_no_room_for(corridor):
  head, params, _ = corridor
  far = jnp.asarray(line((0, 0), (0, -20)))
  after = head.remember(params, far)
  assert after['params']['number'] == len(CORRIDOR) + SETTINGS['num_spare']
  np.testing.assert_array_equal(after['params']['latents'][-1], far[8])
  again = head.remember(after, jnp.asarray(line((0, -20), (0, 4))))
  # What lies between was left out, so nothing leads there.
  ends = jnp.float32([0, -8]), jnp.float32([0, 4])
  assert head.steps(again, *ends) == BLOCK * (8 + len(CORRIDOR) - 1)


def test_what_is_not_finite_stands_between_two_paths(corridor):
  head, params, _ = corridor
  gap = np.full((1, 2), np.nan, np.float32)
  there = line((0, 1), OTHER_SIDE)
  after = head.remember(params, np.concatenate([line(SIDE, SIDE), gap, there]))
  assert head.steps(after, SIDE, OTHER_SIDE) == BLOCK * (len(CORRIDOR) - 1)
  assert head.steps(after, there[0], OTHER_SIDE) == BLOCK * 3
  assert np.isfinite(after['params']['latents']).all()


def test_it_starts_from_nothing():
  head = build(2)
  params = head.init(jax.random.key(0))
  np.testing.assert_array_equal(
    head.subgoals(params, SIDE, OTHER_SIDE), OTHER_SIDE
  )
  assert np.isfinite(head.steps(params, SIDE, OTHER_SIDE))
  params = head.remember(params, jnp.asarray(CORRIDOR))
  steps = head.steps(params, SIDE, OTHER_SIDE)
  assert steps == BLOCK * (len(CORRIDOR) - 1)


def test_what_is_near_a_landmark_is_that_landmark():
  head = build(2, radius=0.6)
  jitter = np.random.default_rng(0).uniform(-0.2, 0.2, CORRIDOR.shape)
  twice = np.concatenate([CORRIDOR, (CORRIDOR + jitter)[::-1]])
  params = head.remember(head.init(jax.random.key(0)), jnp.float32(twice))
  assert params['params']['number'] == len(CORRIDOR)
  for ends in ((SIDE, OTHER_SIDE), (OTHER_SIDE, SIDE)):
    assert head.steps(params, *ends) == BLOCK * (len(CORRIDOR) - 1)


def test_there_is_no_shortcut_through_the_wall_of_two_room():
  model = exports.WorldModel.from_checkpoint('two_room_small')
  env = two_room.TwoRoom(image_size=model.image_size)
  # Up along the wall, through the door, and down behind it.
  corners = np.float32([[99, 199], [99, 49], [125, 49], [125, 199]])
  way = np.concatenate(
    [np.linspace(a, b, 12) for a, b in itertools.pairwise(corners)]
  )
  states = jax.vmap(env.from_vector)(jnp.float32(way))
  pixels = jax.jit(jax.vmap(env.render))(states)
  latents = jax.jit(model.encode)(model.params, {'pixels': pixels})
  head = build(model.model.latent_dim, num_landmarks=len(way))
  latents = np.asarray(latents)
  params, _ = walked(head, latents)
  here, there = latents[0], latents[-1]
  others = np.linalg.norm(latents[:12] - there, axis=-1)
  assert others.max() < 1.2 * others.min(), 'straight, all is as far'
  assert head.steps(params, here, there) > 25 * BLOCK
  first = head.subgoals(params, here, there)
  np.testing.assert_array_equal(first, latents[3])


@pytest.mark.parametrize(
  ('given', 'message'),
  [
    ({'num_near': 99}, 'num_near must be at most num_landmarks=32, got 99'),
    ({'stride': 0}, 'stride'),
    ({'num_landmarks': 16_384}, 'at most 16384 together, got 16392'),
  ],
)
def test_settings_out_of_range_are_refused(given, message):
  with pytest.raises(ValueError, match=message):
    build(2, **given)
  with pytest.raises(ValueError, match='without any'):
    heads.from_config(SETTINGS, heads.Sizes(latent_dim=2))


def test_there_are_no_more_landmarks_than_latents():
  with pytest.raises(ValueError, match='there are 24 recorded latents'):
    walked(build(2), CORRIDOR[:24], there_and_back=False)
