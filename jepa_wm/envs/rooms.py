"""Two rooms and the wall between them: what Two Room's worlds have in common.

Borders, wall, doors and their picture are those of `swm/TwoRoom-v1` of
stable-worldmodel 0.1.1, bit for bit; who walks there is a world's own.
"""

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm.envs import painting, plane

WORLD_SIZE = 224
"""Width and height of the world in its own pixels, whatever is rendered."""

MAX_DOORS = 3

SUCCESS_DISTANCE = 16.0
"""Whoever is nearer to a goal than that has reached it."""

BORDER = 14
"""Width of the frame in which nobody is."""

WALL_CENTRE = 112
"""Where the wall is, across it."""

DOOR_MARGIN = 1.75
"""How far beside a door a centre may be and still pass."""

_BORDER_LINE = 4
_PUSHBACK = 0.5
SPAWN_LOW, SPAWN_HIGH = 14.0, 209.0
"""Between these both coordinates of a place are drawn."""


@flax.struct.dataclass
class Rooms(plane.PlaneWorld):
  """The rooms; every field but `image_size` is a leaf and may be batched.

  Lengths are pixels of the 224 px world, colours are 0..255.

  Attributes:
    wall_axis: 1 for a vertical wall, 0 for a horizontal one.
    wall_thickness: the wall spans its centre line +- `wall_thickness // 2`.
    num_doors: how many of the three door slots are open, 1..3.
    door_positions: door centres along the wall, `[3]`.
    door_sizes: half extents of the doors, `[3]`.
    agent_radius: of a dot and of its collisions with walls.
    agent_speed: pixels per step and per unit of action.
    wall_color, door_color, background_color: `[3]`.
    light: multiplies the picture.
    image_size: height and width of the picture, static.

  Raises:
    ValueError: an `image_size` that is not a positive integer.
  """

  wall_axis: jax.Array | int = 1
  wall_thickness: jax.Array | int = 10
  num_doors: jax.Array | int = 1
  door_positions: jax.Array = plane.factor(49, 49, 49)
  door_sizes: jax.Array = plane.factor(14, 14, 14)
  agent_radius: jax.Array | float = 7.0
  agent_speed: jax.Array | float = 5.0
  wall_color: jax.Array = plane.factor(0, 0, 0)
  door_color: jax.Array = plane.factor(255, 255, 255)
  background_color: jax.Array = plane.factor(255, 255, 255)
  light: jax.Array | float = 1.0
  image_size: int = flax.struct.field(pytree_node=False, default=WORLD_SIZE)

  def is_passable(self) -> jax.Array:
    """Whether the agent fits through one of the open doors."""
    return jnp.any(self.usable_doors())

  def usable_doors(self) -> jax.Array:
    """Which doors are open and wide enough for an agent, bool `[3]`."""
    is_open = jnp.arange(MAX_DOORS) < self.num_doors
    return is_open & fits(self.door_sizes, self.agent_radius)

  def doors(self) -> jax.Array:
    """The middles of the doors `(x, y)`, `[3, 2]`."""
    return jnp.where(
      self.is_across()[None, :],
      float(WALL_CENTRE),
      jnp.asarray(self.door_positions)[:, None],
    )

  def allows_place(self, position: jax.Array) -> jax.Array:
    """Whether a dot can be at `position` `[2]`: not in border or wall."""
    # As `reset` has it, which leaves the agent's radius to the first step.
    inside = (position >= BORDER) & (position <= WORLD_SIZE - BORDER)
    reach = self.half_thickness() + self.agent_radius
    in_wall = (
      self.is_across()
      & (jnp.abs(position - WALL_CENTRE) < reach)
      & ~self.in_door(position[::-1])
    )
    return jnp.all(inside) & ~jnp.any(in_wall)

  def outside_wall(self, position: jax.Array) -> jax.Array:
    """Maps places `(x, y)` `[2]` drawn anywhere to those outside the wall.

    Args:
      position: uniform between `SPAWN_LOW` and `SPAWN_HIGH`.
    """
    # Drawing on the line with the wall's band cut out is the peer's rejection
    # sampling without its loop.
    fraction = (position - SPAWN_LOW) / (SPAWN_HIGH - SPAWN_LOW)
    reach = self.half_thickness() + self.agent_radius
    low_length = WALL_CENTRE - reach - SPAWN_LOW
    high_length = SPAWN_HIGH - WALL_CENTRE - reach
    along = fraction * (low_length + high_length)
    outside = jnp.where(
      along < low_length,
      SPAWN_LOW + along,
      WALL_CENTRE + reach + (along - low_length),
    )
    return jnp.where(self.is_across(), outside, position)

  def walk(self, position: jax.Array, action: jax.Array) -> jax.Array:
    """Where a dot at `position` `[2]` is after `action` `[2]`, `[2]`.

    Borders first, then the wall, which throws it back to the face of the side
    it came from; a door lets pass whoever's centre is in its span. Equal to the
    peer's arithmetic bit for bit.

    Source: stable-worldmodel 0.1.1, TwoRoom-v1.
    """
    radius = jnp.asarray(self.agent_radius, jnp.float32)
    # Clipping the product and not the action gives the same number and keeps
    # the compiler from fusing product and sum, which would skip a rounding.
    push = jnp.clip(
      action * self.agent_speed, -self.agent_speed, self.agent_speed
    )
    moved = jnp.clip(
      position + push, BORDER + radius, WORLD_SIZE - BORDER - radius
    )
    across = self.is_across()
    # The peer compares in float64. These differences are exact in float32, and
    # the faces are rounded once, as there.
    half = self.half_thickness()
    low_face = WALL_CENTRE - half
    high_face = WALL_CENTRE + half
    from_low = position < WALL_CENTRE
    enters = jnp.where(
      from_low, moved - low_face > -radius, moved - high_face < radius
    )
    thrown_back = jnp.where(
      from_low,
      (low_face - _PUSHBACK) - radius,
      (high_face + _PUSHBACK) + radius,
    )
    along = moved[::-1]
    stopped = across & enters & ~self.in_door(along)
    return jnp.where(stopped, thrown_back, moved)

  def is_across(self) -> jax.Array:
    """Which coordinate crosses the wall: `[True, False]` for a vertical one."""
    return jnp.asarray(self.wall_axis) == np.array([1, 0])

  def half_thickness(self) -> jax.Array:
    """How far the wall reaches to either side of its centre line."""
    return (jnp.asarray(self.wall_thickness) // 2).astype(jnp.float32)

  def openings(self) -> jax.Array:
    """How far from a door's middle a centre may pass, less a margin, `[3]`."""
    return jnp.asarray(self.door_sizes)

  def in_door(self, along: jax.Array) -> jax.Array:
    """Whether coordinates `[2]` along the wall lie in an open door, `[2]`."""
    openings = self.openings()
    low = self.door_positions - openings - DOOR_MARGIN
    high = self.door_positions + openings + DOOR_MARGIN
    is_open = jnp.arange(MAX_DOORS) < self.num_doors
    inside = (low[None, :] <= along[:, None]) & (
      along[:, None] <= high[None, :]
    )
    return jnp.any(is_open[None, :] & inside, axis=-1)

  def background(self) -> jax.Array:
    """All that does not move, uint8 `[size, 3 * size]`.

    Each region is a product of a row and a column of the native grid, so its
    exact area in each pixel is the product of two averaged vectors.
    """
    grid = np.arange(WORLD_SIZE, dtype=np.float32)
    line = np.r_[
      BORDER - _BORDER_LINE : BORDER,
      WORLD_SIZE - BORDER : WORLD_SIZE - BORDER + _BORDER_LINE,
    ]
    inside = np.ones(WORLD_SIZE, np.float32)
    inside[line] = 0.0
    within = jnp.abs(grid - WALL_CENTRE) <= self.half_thickness()
    stripe = inside * within.astype(jnp.float32)
    is_open = jnp.arange(MAX_DOORS) < self.num_doors
    low = self.door_positions - self.door_sizes
    high = self.door_positions + self.door_sizes
    in_door = (low[:, None] <= grid[None, :]) & (grid[None, :] <= high[:, None])
    is_door = jnp.any(is_open[:, None] & in_door, axis=0)
    door = inside * is_door.astype(jnp.float32)

    # Rows: across the wall door and background, along it door and background.
    native = jnp.stack([stripe, inside - stripe, door, jnp.asarray(inside)])
    matrix = painting.area_matrix(WORLD_SIZE, self.image_size)
    areas = jnp.matmul(native, matrix, precision='highest')
    across, along = areas[:2], areas[2:]
    vertical = jnp.asarray(self.wall_axis) == 1
    columns = jnp.where(vertical, across, along)[:, None, :, None]
    rows = jnp.where(vertical, along, across)[:, :, None, None]
    door_area, background_area = rows * columns
    wall_color = jnp.asarray(self.wall_color)[None, None]
    door_color = jnp.asarray(self.door_color)[None, None]
    background_color = jnp.asarray(self.background_color)[None, None]
    picture = (
      wall_color
      + door_area * (door_color - wall_color)
      + background_area * (background_color - wall_color)
    )
    picture = jnp.round(picture).astype(jnp.uint8)
    return picture.reshape(self.image_size, 3 * self.image_size)


def fits(door_sizes: jax.Array, agent_radius: jax.Array | float) -> jax.Array:
  """Whether `size >= 1.1 * radius`, as float64 decides it.

  Written so that float32 is exact; the one tie (11 for 10) is a no, because
  1.1 * 10 exceeds 11 in float64.
  """
  return 10.0 * (door_sizes - agent_radius) > agent_radius
