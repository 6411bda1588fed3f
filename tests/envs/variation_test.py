"""Shifts of worlds: one group changes, all stay playable, misuse is named."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm.envs import (
  maze,
  push_t,
  push_t_agents,
  two_room,
  two_room_agents,
  variation,
  worlds,
)

WORLDS = [
  two_room.TwoRoom(image_size=32),
  maze.Maze(image_size=32),
  push_t.PushT(image_size=32),
  two_room_agents.TwoRoomAgents(image_size=32),
  push_t_agents.PushTAgents(image_size=32),
]
_NEVER_VARIED = {'layouts'}


@pytest.fixture(params=range(len(WORLDS)))
def index(request):
  return request.param


@functools.cache
def _varied(world_index, num):
  """Worlds by group; one program, so that they share the draws."""
  world = WORLDS[world_index]
  keys = jax.random.split(jax.random.key(3), num)
  vary_one = lambda key: {
    group: variation.vary(world, group, key) for group in world.variation_groups
  }
  return jax.jit(jax.vmap(vary_one))(keys)


def test_groups_name_every_factor_once(index):
  world = WORLDS[index]
  named = [f for fields in world.variation_groups.values() for f in fields]
  fields = {
    field.name
    for field in dataclasses.fields(world)
    if field.metadata.get('pytree_node', True)
  }
  assert sorted(named) == sorted(fields - _NEVER_VARIED)


@pytest.mark.slow
def test_one_group_changes_and_nothing_else(index):
  world = WORLDS[index]
  for group in world.variation_groups:
    varied = _varied(index, 64)[group]
    for field in dataclasses.fields(world):
      if not field.metadata.get('pytree_node', True):
        continue
      before = np.asarray(jnp.asarray(getattr(world, field.name)))
      after = np.asarray(getattr(varied, field.name))
      assert after.shape == (64, *before.shape), field.name
      changed = bool(np.any(after != before[None]))
      expected = field.name in world.variation_groups[group]
      assert changed == expected, (group, field.name)


def test_varied_worlds_are_passable_and_rendered(index):

  @jax.jit
  @jax.vmap
  def play(world, key):
    state = world.reset(key)
    return world.render(state), world.is_passable(), world.allows(state)

  varied = list(_varied(index, 64).values())
  together = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *varied)
  keys = jax.random.split(jax.random.key(1), 64 * len(varied))
  pictures, passable, allowed = play(together, keys)
  assert pictures.shape == (len(keys), 32, 32, 3)
  assert np.all(passable)
  assert np.all(allowed)


def test_agents_too_large_for_the_door_are_drawn_again():
  radii = np.asarray(_varied(0, 64)['agent_size'].agent_radius)
  # A door of half size 14 takes radii up to 14 / 1.1 of those up to 14.
  assert 11.5 < radii.max() < 14 / 1.1


def test_where_two_room_allows_an_agent():
  world = two_room.TwoRoom()
  wall, door = (112.0, 150.0), (112.0, 49.0)
  cases = {(60.0, 60.0): True, wall: False, door: True, (10.0, 60.0): False}
  for place, expected in cases.items():
    state = world.from_vector(jnp.array(place))
    assert bool(world.allows(state)) == expected, place


@pytest.mark.slow
def test_a_lit_picture_is_dimmer_and_one_changes_no_bit():
  world = two_room.TwoRoom(image_size=32)
  state = world.reset(jax.random.key(0))
  render = jax.jit(lambda world, state: world.render(state))
  plain = np.asarray(world.render(state), int)
  lit = dataclasses.replace(world, light=np.float32(1))
  np.testing.assert_array_equal(plain, render(lit, state))
  half = dataclasses.replace(world, light=np.float32(0.5))
  np.testing.assert_allclose(render(half, state), plain / 2, atol=0.5)


def test_unknown_shifts_are_named():
  world = two_room.TwoRoom(image_size=8)
  with pytest.raises(ValueError, match=r"agent_color.*got 'colour'"):
    variation.vary(world, 'colour', jax.random.key(0))


def test_the_registry_says_what_can_be_shifted():
  for name, world in worlds.WORLDS.items():
    varied = type(world.make(image_size=32)) if not world.on_host else None
    known = {type(world): world.variation_groups for world in WORLDS}
    assert world.variation_groups == known.get(varied, {}), name
