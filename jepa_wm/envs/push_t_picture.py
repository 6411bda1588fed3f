"""The picture of Push-T: a goal, four walls, a block of rectangles, a disc.

What the peer draws on 512 x 512 cells and scales down, drawn at the wanted size
at once, from distances. Left out: rounding of vertices to whole cells, and the
red dots by which the peer's debug drawing marks contacts.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm.envs import painting, shapes

WORLD_SIZE = 512
"""Width and height of the world, whatever is rendered."""

# What whole cells and their inclusive ends add to a shape, fitted to the peer's
# pictures at 512.
_SPREAD = 0.4
_HALF_LINE = 2.0 + _SPREAD
_DISC_SHIFT = -0.25
_RIM = 4.0
_LIGHTER = 1.2
_WALL_LOW, _WALL_HIGH = 5.0, 506.0
_WALL_COLOR = 211.0


def render(world: Any, state: Any) -> jax.Array:
  """Draws a `PushTState` of a `PushT`, see `paint`."""
  return paint(
    world.image_size,
    agent_position=state.agent_position,
    agent_radius=world.agent_radius,
    agent_color=world.agent_color,
    block_pose=state.block_pose,
    block_rectangles=world.block_rectangles,
    block_color=world.block_color,
    goal_pose=world.goal_pose,
    goal_color=world.goal_color,
    background_color=world.background_color,
    render_goal=world.render_goal,
    light=world.light,
  )


def paint(
  image_size: int,
  *,
  agent_position: jax.Array,
  agent_radius: jax.Array | float,
  agent_color: jax.Array,
  block_pose: jax.Array,
  block_rectangles: jax.Array,
  block_color: jax.Array,
  goal_pose: jax.Array,
  goal_color: jax.Array,
  background_color: jax.Array,
  render_goal: jax.Array | bool = True,
  light: jax.Array | float = 1.0,
) -> jax.Array:
  """Draws Push-T, from back to front: goal, block, agent, walls.

  Lengths are cells of the 512 cells wide world, angles radians, colours 0..255.

  Args:
    image_size: height and width of the picture.
    agent_position: `(x, y)` `[2]`.
    agent_radius: of the disc.
    agent_color: of its rim `[3]`; the inside is lighter.
    block_pose: `(x, y, angle)` `[3]` of the block's frame.
    block_rectangles: `(x, y, half_x, half_y)` in that frame, `[R, 4]`.
    block_color: of the outline `[3]`; the inside is lighter.
    goal_pose: where the block's shape is drawn flat, `[3]`.
    goal_color: `[3]`.
    background_color: `[3]`.
    render_goal: whether the goal is drawn.
    light: multiplies the picture.

  Returns:
    uint8 `[image_size, image_size, 3]`, row = y. Mean absolute difference to
    the peer's picture at 224: about 0.5 grey levels.

  Source: stable-worldmodel 0.1.1, PushT-v1.
  """
  pixel = WORLD_SIZE / image_size
  cells = shapes.pixel_centres(WORLD_SIZE, image_size)
  cover = functools.partial(shapes.coverage, pixel=pixel)
  agent_color, block_color, goal_color, background = (
    jnp.asarray(color, jnp.float32)[None, None]
    for color in (agent_color, block_color, goal_color, background_color)
  )
  rims = _lighter(agent_color)
  rectangles = jnp.asarray(block_rectangles, jnp.float32)

  # What no state changes comes first: under a vmap over states it is drawn
  # once. Weights stay `[S, S]` and colours are last, which XLA makes one loop.
  picture = jnp.broadcast_to(background, (image_size, image_size, 3))
  if isinstance(render_goal, jax.core.Tracer) or render_goal:
    goal = shapes.rectangle_distances(
      cells, cells, jnp.asarray(goal_pose, jnp.float32), rectangles
    )
    is_shown = jnp.asarray(render_goal, jnp.float32)
    shown = _union([cover(d - _SPREAD) for d in goal]) * is_shown
    picture = picture + shown[..., None] * (goal_color - picture)

  picture = add_block(picture, block_pose, rectangles, block_color)

  centre = agent_position + _DISC_SHIFT
  disc = shapes.disc_distance(cells, cells, centre) - agent_radius
  picture = picture + cover(disc)[..., None] * (agent_color - picture)
  picture = picture + cover(disc + _RIM)[..., None] * (rims - agent_color)

  return finish(picture, light)


def add_block(
  picture: jax.Array, pose: jax.Array, rectangles: jax.Array, color: jax.Array
) -> jax.Array:
  """Draws a block with its outline over `picture`, see `paint`.

  Args:
    picture: float `[size, size, 3]`.
    pose: `(x, y, angle)` `[3]`.
    rectangles: `[R, 4]`.
    color: of the outline, `[1, 1, 3]`; the inside is lighter.
  """
  cells = shapes.pixel_centres(WORLD_SIZE, picture.shape[0])
  cover = functools.partial(
    shapes.coverage, pixel=WORLD_SIZE / picture.shape[0]
  )
  block = shapes.rectangle_distances(cells, cells, pose, rectangles)
  outside = _union([cover(d - _HALF_LINE) for d in block])
  inside = _union([cover(d + _HALF_LINE) for d in block])
  picture = picture + outside[..., None] * (color - picture)
  return picture + inside[..., None] * (_lighter(color) - color)


def add_disc(
  picture: jax.Array,
  centre: jax.Array,
  radius: jax.Array | float,
  color: jax.Array,
) -> jax.Array:
  """Draws a disc of one colour over `picture`.

  Args:
    picture: float `[size, size, 3]`.
    centre: `(x, y)` `[2]`, cells.
    radius: cells.
    color: `[3]`.
  """
  cells = shapes.pixel_centres(WORLD_SIZE, picture.shape[0])
  distance = shapes.disc_distance(cells, cells, centre) - radius
  share = shapes.coverage(distance, WORLD_SIZE / picture.shape[0])
  return picture + share[..., None] * (color[None, None] - picture)


def finish(picture: jax.Array, light: jax.Array | float = 1.0) -> jax.Array:
  """Draws the walls over a float picture `[size, size, 3]`; uint8."""
  wall = _wall_coverage(picture.shape[0])[..., None]
  picture = picture * (1.0 - wall) + _WALL_COLOR * wall
  return painting.illuminate((picture + 0.5).astype(jnp.uint8), light)


def _union(covered: list[jax.Array]) -> jax.Array:
  """Coverage by shapes that touch but do not overlap, without a seam."""
  return jnp.minimum(functools.reduce(jnp.add, covered), 1.0)


def _lighter(color: jax.Array) -> jax.Array:
  return jnp.minimum(jnp.floor(_LIGHTER * color), 255.0)


def _wall_coverage(image_size: int) -> np.ndarray:
  """Share of each pixel under the walls, `[size, size]`."""
  pixel = WORLD_SIZE / image_size
  cells = shapes.pixel_centres(WORLD_SIZE, image_size)
  half_line = 2.0 + 0.5

  def within(reach: float) -> np.ndarray:
    beyond = np.maximum(_WALL_LOW - reach - cells, cells - _WALL_HIGH - reach)
    share = np.clip(0.5 - beyond / pixel, 0.0, 1.0)
    return share[:, None] * share[None, :]

  return (within(half_line) - within(-half_line)).astype(np.float32)
