"""Push-T's picture against the peer, area averages and closed forms."""

import golden_files
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm.envs import push_t_picture, shapes

_TEE = np.array([[0, 15, 60, 15], [0, 75, 15, 45]], np.float32)
_LOOK = {
  'agent_radius': np.float32(15),
  'agent_color': np.float32([65, 105, 225]),
  'block_rectangles': _TEE,
  'block_color': np.float32([119, 136, 153]),
  'goal_pose': np.float32([256, 256, np.pi / 4]),
  'goal_color': np.float32([144, 238, 144]),
  'background_color': np.float32([255, 255, 255]),
}
_FAR = np.float32([-500, -500, 0])

_paint = jax.jit(push_t_picture.paint, static_argnums=0)


def _floats(image_size, agent, block, **changes):
  picture = _paint(
    image_size,
    agent_position=jnp.asarray(agent),
    block_pose=jnp.asarray(block),
    **{**_LOOK, **changes},
  )
  assert picture.dtype == jnp.uint8
  return np.asarray(picture, np.float64)


def test_frames_are_the_peers():
  golden, _ = golden_files.load('push_t')
  states, goal_poses = golden['frame_full_states'], golden['frame_goal_pose']
  for frame, state, goal_pose in zip(golden['frames'], states, goal_poses):
    ours = _floats(len(frame), state[:2], state[2:5], goal_pose=goal_pose)
    assert np.abs(ours - frame).mean() < 0.5


def test_every_shape_size_and_colour_is_the_peers():
  golden, _ = golden_files.load('push_t_shapes')
  for row, frame in enumerate(golden['frames']):
    look = {
      name: golden[name][row].astype(np.float32)
      for name in _LOOK
      if name != 'block_rectangles'
    }
    pose = golden['poses'][row]
    rectangles = golden['rectangles'][row]
    ours = _floats(224, pose[:2], pose[2:], block_rectangles=rectangles, **look)
    # Colours are further apart here than in the default picture.
    assert np.abs(ours - frame).mean() < 1.0, row


@pytest.mark.parametrize('image_size', [16, 64, 128])
def test_small_pictures_are_area_averages_of_large_ones(image_size):
  agent, block = np.float32([160, 290]), np.float32([300, 230, 0.7])
  large = _floats(512, agent, block)
  span = 512 // image_size
  shape = (image_size, span, image_size, span, 3)
  average = large.reshape(shape).mean(axis=(1, 3))
  assert np.abs(_floats(image_size, agent, block) - average).mean() < 0.8


def test_areas_are_those_of_disc_and_tee():
  empty = _floats(512, _FAR[:2], _FAR, render_goal=np.bool_(False))
  assert (empty[100, 100] == 255).all()
  disc = _floats(512, [200.0, 300.0], _FAR, render_goal=np.bool_(False))
  area = (empty - disc)[..., 0].sum()
  rim = np.pi * (15**2 - 11**2) * (255 - 65)
  inside = np.pi * 11**2 * (255 - 78)
  np.testing.assert_allclose(area, rim + inside, rtol=0.01)
  goal = _floats(512, _FAR[:2], _FAR)
  area = (empty - goal)[..., 0].sum() / (255 - 144)
  spread = 0.4 * (2 * 120 + 2 * 120)
  np.testing.assert_allclose(area, 120 * 30 + 30 * 90 + spread, rtol=0.005)


def test_parts_that_touch_leave_no_seam():
  picture = _floats(64, _FAR[:2], _FAR, goal_pose=np.float32([256, 256, 0]))
  # The column of pixels through the middle of the goal, over bar and stem.
  column = picture[33:45, 32]
  np.testing.assert_array_equal(column, np.tile([144.0, 238, 144], (12, 1)))


def test_agent_covers_block_and_walls_cover_all():
  picture = _floats(512, [255.5, 5.0], [255.0, 5.0, 0.0])
  np.testing.assert_array_equal(picture[5, 255], [211, 211, 211])
  np.testing.assert_array_equal(picture[12, 255], [78, 126, 255])
  np.testing.assert_array_equal(picture[24, 225], [142, 163, 183])


def test_light_dims_and_one_changes_no_bit():
  agent, block = np.float32([160, 290]), np.float32([300, 230, 0.7])
  plain = _floats(64, agent, block)
  same = _floats(64, agent, block, light=np.float32(1))
  np.testing.assert_array_equal(plain, same)
  half = _floats(64, agent, block, light=np.float32(0.5))
  assert np.abs(half - plain / 2).max() <= 1.0
  bright = _floats(64, agent, block, light=np.float32(3))
  assert np.abs(bright - np.minimum(3 * plain, 255)).max() <= 2.0


def test_a_batch_is_the_pictures_one_by_one():
  agents = np.float32([[100, 100], [300, 200]])
  blocks = np.float32([[200, 200, 1], [300, 100, -2]])
  paint = lambda agent, block: push_t_picture.paint(
    32, agent_position=agent, block_pose=block, **_LOOK
  )
  together = jax.jit(jax.vmap(paint))(agents, blocks)
  for row in range(2):
    alone = _floats(32, agents[row], blocks[row])
    assert np.abs(np.asarray(together[row], int) - alone).max() <= 1


def test_distances_are_euclidean():
  centres = shapes.pixel_centres(512, 512)
  np.testing.assert_array_equal(centres, np.arange(512))
  pose = jnp.array([10.0, 20.0, jnp.pi / 2])
  # Turned by 90 degrees, x of the body is y of the world.
  (distance,) = shapes.rectangle_distances(
    centres, centres, pose, jnp.array([[0.0, 0.0, 5.0, 3.0]])
  )
  expected = {(20, 10): -3.0, (20, 17): 4.0, (29, 17): np.hypot(4, 4)}
  for (y, x), value in expected.items():
    np.testing.assert_allclose(distance[y, x], value, atol=1e-4)
