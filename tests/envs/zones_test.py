"""Forbidden zones: how deep a state lies in them, and what is none."""

import numpy as np
import pytest

from jepa_wm.envs import worlds, zones


@pytest.mark.parametrize(
  'spec, inside, outside',
  [
    ('disc:75,100,25', [75, 120], [75, 126]),
    ('box:10,20,30,40', [20, 39], [20, 41]),
    ('outside:10,20,30,40', [31, 30], [29, 30]),
  ],
)
def test_a_place_is_as_deep_as_its_edge_is_far(spec, inside, outside):
  zone = zones.parse(spec, 'two_room')
  depth = zone.margin(np.array([[inside, outside]]))
  assert depth.shape == (1, 2) and depth.dtype == np.float32
  assert depth[0, 0] > 0 > depth[0, 1]
  if spec.startswith('disc'):
    np.testing.assert_allclose(depth, [[5, -1]])
  edge = zone.outline(np.array([1.0, 2.0]))
  np.testing.assert_allclose(zone.margin(edge), 0, atol=1e-4)


def test_a_speed_is_of_the_velocity_alone():
  zone = zones.parse('speed:2', 'point_maze')
  names = worlds.get('point_maze').state_names
  vectors = np.zeros((2, len(names)), np.float32)
  vectors[1, names.index('vx')] = 3
  vectors[:, names.index('x')] = 9
  np.testing.assert_allclose(zone.margin(vectors), [-2, 1])
  assert zone.outline(vectors[0]) is None


def test_agents_are_as_deep_as_the_nearest_two_are_close():
  zone = zones.parse('apart:20', 'two_room_agents_3')
  far = [50, 50, 90, 50, 50, 85]
  vectors = np.array([far, [*far[:4], 90, 38]], np.float32)
  np.testing.assert_allclose(zone.margin(vectors), [-15, 8])
  assert zone.outline(vectors[0]) is None


def test_every_name_of_a_world_is_a_zone():
  for name, world in worlds.WORLDS.items():
    for zone in world.zones:
      assert zones.parse(zone, name).spec == world.zones[zone]
  assert 'workspace' in worlds.get('push_t').zones


@pytest.mark.parametrize(
  'spec, world, message',
  [
    ('', 'two_room', "must be one of pond, disc:x,y,radius, .* got ''"),
    ('pool', 'two_room', "zone must be one of pond, .* got 'pool'"),
    ('disc:1,2', 'two_room', 'must be disc:x,y,radius with a number for each'),
    ('disc:1,2,nan', 'two_room', 'a number for each'),
    ('disc:1,2,0', 'two_room', "above 0, got 'disc:1,2,0'"),
    ('box:5,5,1,9', 'two_room', 'each high above its low'),
    ('speed:2', 'two_room', "a state of 'two_room' has no vx, vy or agent_vx"),
    ('speed:-1', 'point_maze', 'above 0'),
    ('disc:1,2,3', 'three_room', 'environment must be one of'),
    ('apart:9', 'two_room', 'nobody to keep apart from'),
    ('apart:0', 'two_room_agents', 'above 0'),
  ],
)
def test_nonsense_is_a_sentence(spec, world, message):
  with pytest.raises(ValueError, match=message):
    zones.parse(spec, world)
