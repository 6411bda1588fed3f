"""Painting against plain formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm.envs import painting


@pytest.mark.parametrize('size', [224, 112, 64, 48, 300])
def test_area_matrix_averages(size):
  matrix = painting.area_matrix(224, size)
  assert matrix.shape == (224, size)
  np.testing.assert_allclose(matrix.sum(axis=0), 1.0, atol=1e-5)
  # Every cell has the same weight in the picture as a whole.
  np.testing.assert_allclose(matrix.sum(axis=1), size / 224, rtol=1e-5)
  if size == 224:
    np.testing.assert_array_equal(matrix, np.eye(224))
  if size == 112:
    np.testing.assert_array_equal(matrix[:4, 0], [0.5, 0.5, 0.0, 0.0])


@pytest.mark.parametrize('size', [40, 16])
def test_dot_is_the_formula(size):
  position, radius, world_size = np.array([11.3, 24.8]), 3.0, 40
  color = np.array([250.0, 7.0, 60.0], np.float32)
  picture = np.random.default_rng(0).integers(0, 256, [size, size, 3])
  picture = picture.astype(np.uint8)
  painted = jax.jit(
    lambda picture, position: painting.blend_dot(
      picture, position, radius=radius, color=color, world_size=world_size
    )
  )(picture.reshape(size, 3 * size), jnp.asarray(position, jnp.float32))

  centres = (np.arange(size) + 0.5) * world_size / size - 0.5
  squared = (centres[None, :] - position[0]) ** 2 + (
    centres[:, None] - position[1]
  ) ** 2
  nearest = ((np.round(position) - position) ** 2).sum()
  alpha = np.exp((nearest - squared) / (2 * radius**2))[:, :, None]
  assert alpha.max() <= 1.0
  expected = np.floor(picture * (1 - alpha) + color * alpha + 1e-4)
  difference = painted.reshape(size, size, 3) - expected
  # Where the blend is a whole number, float32 may fall on either side.
  assert np.abs(difference).max() <= 1
  assert (difference != 0).mean() < 0.1
  seen = np.argmax(np.asarray(alpha)[:, :, 0]), np.argmin(squared)
  assert seen[0] == seen[1]


def test_strength_zero_paints_nothing():
  picture = np.random.default_rng(0).integers(0, 256, [8, 24], np.uint8)
  paint = lambda strength: painting.blend_dot(
    jnp.asarray(picture),
    jnp.array([3.0, 4.0]),
    radius=2.0,
    color=np.array([255.0, 0.0, 0.0], np.float32),
    world_size=8,
    strength=strength,
  )
  np.testing.assert_array_equal(paint(0.0), picture)
  assert not np.array_equal(paint(1.0), picture)
