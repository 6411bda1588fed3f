"""Signed distances to simple shapes, and how much of a pixel they cover.

A distance is negative inside. Columns and rows are kept apart until the last
moment, so a picture of distances is a few fused operations per pixel.
"""

import jax
import jax.numpy as jnp
import numpy as np


def pixel_centres(world_size: float, image_size: int) -> np.ndarray:
  """Where the pixels' centres are along one axis of the world.

  Args:
    world_size: cells along the axis; whole numbers are cells' centres.
    image_size: pixels along the same axis.

  Returns:
    `[image_size]`, cells.
  """
  cells = (np.arange(image_size) + 0.5) * (world_size / image_size) - 0.5
  return cells.astype(np.float32)


def coverage(distance: jax.Array, pixel: jax.Array | float) -> jax.Array:
  """Share of each pixel that a shape covers, 0..1.

  Exact for straight edges along the axes, and within a few percent of the area
  for others.

  Args:
    distance: signed distance of the pixels' centres, any shape.
    pixel: width of a pixel in the same unit.
  """
  return jnp.clip(0.5 - distance * (1.0 / pixel), 0.0, 1.0)


def disc_distance(
  columns: np.ndarray, rows: np.ndarray, centre: jax.Array
) -> jax.Array:
  """Distance of every pixel to a point, `[height, width]`; less its radius.

  Args:
    columns: x of the pixels, `[width]`.
    rows: y of the pixels, `[height]`.
    centre: `(x, y)` `[2]`.
  """
  squares_x, squares_y = (columns - centre[0]) ** 2, (rows - centre[1]) ** 2
  return jnp.sqrt(squares_x[None, :] + squares_y[:, None])


def rectangle_distances(
  columns: np.ndarray, rows: np.ndarray, pose: jax.Array, rectangles: jax.Array
) -> list[jax.Array]:
  """Signed distances of every pixel to the rectangles of one body.

  Args:
    columns: x of the pixels, `[width]`.
    rows: y of the pixels, `[height]`.
    pose: the body's `(x, y, angle)` `[3]`, radians.
    rectangles: centre and half extents `(x, y, half_x, half_y)` in the body's
      frame, `[R, 4]`; one that is not there has very negative extents.

  Returns:
    `R` arrays `[height, width]`.
  """
  cosine, sine = jnp.cos(pose[2]), jnp.sin(pose[2])
  x, y = columns - pose[0], rows - pose[1]
  along = (cosine * x)[None, :] + (sine * y)[:, None]
  across = (cosine * y)[:, None] - (sine * x)[None, :]
  distances = []
  for centre_x, centre_y, half_x, half_y in rectangles:
    beyond_x = jnp.abs(along - centre_x) - half_x
    beyond_y = jnp.abs(across - centre_y) - half_y
    corner = jnp.sqrt(
      jnp.maximum(beyond_x, 0.0) ** 2 + jnp.maximum(beyond_y, 0.0) ** 2
    )
    side = jnp.minimum(jnp.maximum(beyond_x, beyond_y), 0.0)
    distances.append(corner + side)
  return distances
