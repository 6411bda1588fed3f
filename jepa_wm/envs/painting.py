"""Pictures of worlds at any size: area averages and Gaussian dots.

A picture is `[size, 3 * size]` while it is painted: with colours interleaved
with columns the inner loop is one long contiguous row, which a CPU vectorises.
"""

import jax
import jax.numpy as jnp
import numpy as np


def area_matrix(world_size: int, image_size: int) -> np.ndarray:
  """Averages unit cells of a world over each pixel's span.

  Args:
    world_size: cells along one axis of the world.
    image_size: pixels along the same axis.

  Returns:
    `[world_size, image_size]`, columns sum to 1; the identity if equal.
  """
  edges = np.arange(image_size + 1) * (world_size / image_size)
  cells = np.arange(world_size)[:, None]
  overlap = np.minimum(edges[1:], cells + 1) - np.maximum(edges[:-1], cells)
  shares = np.maximum(overlap, 0.0) * (image_size / world_size)
  return shares.astype(np.float32)


def blend_dot(
  picture: jax.Array,
  position: jax.Array,
  *,
  radius: jax.Array | float,
  color: jax.Array | float,
  world_size: int,
  strength: jax.Array | float = 1.0,
) -> jax.Array:
  """Blends a Gaussian dot, evaluated at the pixels' centres, into `picture`.

  The dot is an outer product of two vectors, divided by its value at the cell
  of the world nearest to `position`.

  Args:
    picture: uint8 `[size, 3 * size]`.
    position: `(x, y)` `[2]` in cells; whole numbers are cells' centres.
    radius: standard deviation, in cells.
    color: `[3]`, 0..255.
    world_size: cells along either axis.
    strength: multiplies the dot's opacity, 0..1.

  Source: stable-worldmodel 0.1.1, TwoRoom-v1's dots, when `size` is
  `world_size`.
  """
  size = picture.shape[0]
  rows = (np.arange(size) + 0.5) * (world_size / size) - 0.5
  # Repeated before the exponential: a gather after it would keep the loop over
  # pixels from using vector instructions.
  columns = np.repeat(rows, 3)

  def profile(centres: np.ndarray, middle: jax.Array) -> jax.Array:
    nearest = jnp.clip(jnp.round(middle), 0, world_size - 1) - middle
    offsets = centres.astype(np.float32) - middle
    exponents = (nearest**2 - offsets**2) / (2.0 * radius**2)
    return jnp.minimum(jnp.exp(exponents), 1.0)

  row_alpha = strength * profile(rows, position[1])
  alpha = row_alpha[:, None] * profile(columns, position[0])[None, :]
  colors = jnp.tile(jnp.asarray(color), size)[None, :]
  # The minima change nothing but keep products and sum from being fused, which
  # would leave 255 where the peer's rounding leaves 254. Truncated, not
  # rounded, like the peer.
  below = picture.astype(jnp.float32)
  blended = jnp.minimum(below * (1.0 - alpha), below) + jnp.minimum(
    colors * alpha, colors
  )
  return blended.astype(jnp.uint8)


def illuminate(picture: jax.Array, light: jax.Array | float) -> jax.Array:
  """Multiplies a picture by `light`; 1.0 changes no bit.

  Args:
    picture: uint8, any shape.
    light: scalar, at least 0; what gets brighter than white stays white.
  """
  # A known 1.0 costs nothing.
  if not isinstance(light, jax.core.Tracer) and light == 1.0:
    return picture
  lit = jnp.round(picture.astype(jnp.float32) * light)
  return jnp.clip(lit, 0.0, 255.0).astype(jnp.uint8)


def box_area(
  box: tuple[float, float, float, float],
  extent: tuple[float, float, float],
  image_size: int,
) -> np.ndarray:
  """Share of each pixel that a box covers, float32 `[size, size, 1]`.

  Args:
    box: its edges `(x_low, y_low, x_high, y_high)`, in the world's unit.
    extent: what a picture shows: `(x, y)` of its upper left corner, and width.
    image_size: height and width of the picture.
  """
  left, top, width = extent
  pixel = width / image_size
  lows = np.arange(image_size) * pixel

  def share(low: float, high: float) -> np.ndarray:
    covered = np.minimum(lows + pixel, high) - np.maximum(lows, low)
    return np.clip(covered / pixel, 0.0, 1.0)

  across = share(box[0] - left, box[2] - left)
  down = share(box[1] - top, box[3] - top)
  return np.outer(down, across)[..., None].astype(np.float32)
