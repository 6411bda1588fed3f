import dataclasses

import jax
import numpy as np
import pytest

from jepa_wm.envs import two_room
from jepa_wm.evaluation.planning import (
  baselines,
  pairs,
  protocol,
  shifts,
)

WORLD = two_room.TwoRoom()


@pytest.fixture(scope='module')
def many():
  return pairs.load_pairs(protocol.SHORT, 200)


def _fields(worlds):
  return {
    field.name
    for field in dataclasses.fields(WORLD)
    if field.metadata.get('pytree_node', True)
    and not np.array_equal(
      *np.broadcast_arrays(
        getattr(worlds, field.name), getattr(WORLD, field.name)
      )
    )
  }


@pytest.mark.parametrize('group', ['wall', 'door', 'agent_color'])
def test_one_group_changes_and_every_problem_has_its_own(many, group):
  moved = shifts.apply(many, WORLD, group)
  own = jax.tree.leaves(moved.worlds)
  assert all(len(leaf) == len(moved) for leaf in own)
  changed = _fields(moved.worlds)
  assert changed and changed <= set(WORLD.variation_groups[group])
  assert moved.num_invalid == 200 - len(moved) < 150
  assert moved.manifest_sha256 == many.manifest_sha256


def test_the_draw_of_a_problem_is_its_own(many):
  whole = shifts.apply(many, WORLD, 'agent_color')
  turned = shifts.apply(many.take(np.arange(200)[::-1]), WORLD, 'agent_color')
  np.testing.assert_array_equal(
    turned.worlds.agent_color, whole.worlds.agent_color[::-1]
  )
  other = shifts.apply(many, WORLD, 'agent_color', seed=1)
  assert np.any(other.worlds.agent_color != whole.worlds.agent_color)


def test_nothing_starts_or_ends_in_a_wall(many):
  moved = shifts.apply(many, WORLD, 'wall')
  assert moved.num_invalid > 0
  half = moved.worlds.wall_thickness // 2
  across = np.where(moved.worlds.wall_axis == 1, 0, 1)
  for states in (moved.starts, moved.goals):
    where = np.take_along_axis(states.position, across[:, None], 1)[:, 0]
    along = np.take_along_axis(states.position, 1 - across[:, None], 1)[:, 0]
    in_band = np.abs(where - 112) < half + 7 - 1e-3
    assert np.all(np.abs(along[in_band] - 49) < 16)
  kept = {int(i): row for row, i in enumerate(many.ids)}
  rows = [kept[int(i)] for i in moved.ids]
  np.testing.assert_array_equal(
    moved.starts.position, many.starts.position[rows]
  )


@pytest.mark.slow
def test_floor_and_ceiling_are_those_of_the_shifted_worlds(many):
  slow = dataclasses.replace(WORLD, agent_speed=0.01)
  own = jax.tree.map(
    lambda leaf: np.repeat(np.asarray(leaf)[None], len(many), axis=0), slow
  )
  stuck = dataclasses.replace(many, worlds=own)
  assert baselines.expert_ceiling(protocol.SHORT, stuck) == 0.0
  assert baselines.random_floor(protocol.SHORT, stuck, num_repeats=1) == 0.0
  moved = shifts.apply(many, WORLD, 'agent_color')
  floors = [
    baselines.random_floor(protocol.SHORT, found, num_repeats=1)
    for found in (moved, many)
  ]
  assert floors[0] == floors[1]  # Colours move nobody.


def test_unknown_shifts_and_impossible_ones(many):
  with pytest.raises(ValueError, match="got 'gravity'"):
    shifts.apply(many, WORLD, 'gravity')
  inside = np.repeat(np.asarray([[112.0, 150.0]], np.float32), 200, axis=0)
  walled = two_room.TwoRoomState(inside, inside)
  lost = pairs.Pairs(many.ids, walled, walled)
  with pytest.raises(ValueError, match='leaves none of 200 pairs'):
    shifts.apply(lost, WORLD, 'agent_color')
