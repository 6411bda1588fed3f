"""Two rooms, a wall between them, doors in the wall, and a dot that walks.

The `swm/TwoRoom-v1` environment of stable-worldmodel 0.1.1, state for state and
picture for picture, without its Python loop.
"""

import dataclasses
import functools
from typing import ClassVar

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm.envs import painting, plane, variation

WORLD_SIZE = 224
"""Width and height of the world in its own pixels, whatever is rendered."""

SUCCESS_DISTANCE = 16.0
MAX_DOORS = 3

WALL_CENTRE = 112
"""Where the wall is, across it."""

_BORDER = 14
_BORDER_LINE = 4
_DOOR_MARGIN = 1.75
_PUSHBACK = 0.5
_SPAWN_LOW, _SPAWN_HIGH = 14.0, 209.0


@flax.struct.dataclass
class TwoRoomState:
  """Where the agent is and where it was told to go.

  Attributes:
    position: agent `(x, y)` `[2]`, pixels of the 224 px world, y down.
    target: `(x, y)` `[2]` drawn by `reset`, what the expert heads for. The goal
      of a planning problem is the `position` of another state.
  """

  position: jax.Array
  target: jax.Array


@flax.struct.dataclass
class TwoRoom(plane.PlaneWorld):
  """The world; every field but `image_size` is a leaf and may be batched.

  Lengths are pixels of the 224 px world, colours are 0..255.

  Attributes:
    wall_axis: 1 for a vertical wall, 0 for a horizontal one.
    wall_thickness: the wall spans its centre line +- `wall_thickness // 2`.
    num_doors: how many of the three door slots are open, 1..3.
    door_positions: door centres along the wall, `[3]`.
    door_sizes: half extents of the doors, `[3]`.
    agent_radius: of the dot and of its collisions with walls.
    agent_speed: pixels per step and per unit of action.
    target_radius: of the target's dot.
    agent_color, target_color, wall_color, door_color, background_color: `[3]`.
    render_target: whether the target is drawn, under the agent.
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
  target_radius: jax.Array | float = 7.0
  agent_color: jax.Array = plane.factor(255, 0, 0)
  target_color: jax.Array = plane.factor(0, 255, 0)
  wall_color: jax.Array = plane.factor(0, 0, 0)
  door_color: jax.Array = plane.factor(255, 255, 255)
  background_color: jax.Array = plane.factor(255, 255, 255)
  render_target: jax.Array | bool = False
  light: jax.Array | float = 1.0
  image_size: int = flax.struct.field(pytree_node=False, default=WORLD_SIZE)

  variation_groups: ClassVar[variation.Groups] = {
    'agent_color': ('agent_color',),
    'agent_size': ('agent_radius',),
    'agent_speed': ('agent_speed',),
    'wall_color': ('wall_color',),
    'wall': ('wall_axis', 'wall_thickness'),
    'door': ('num_doors', 'door_positions', 'door_sizes'),
    'door_color': ('door_color',),
    'background_color': ('background_color',),
    'target': ('render_target', 'target_color', 'target_radius'),
    'lighting': ('light',),
  }

  @classmethod
  def sample_variation(
    cls, rng_key: jax.Array, *, image_size: int = WORLD_SIZE
  ) -> 'TwoRoom':
    """Draws a world with every factor random, in the peer's ranges.

    Uniform everywhere; the door sizes are drawn again until the agent fits
    through one of the open doors. The light, which the peer does not vary, is
    0.4 to 1.

    Args:
      rng_key: consumed.
      image_size: static size of the picture.
    """
    keys = jax.random.split(rng_key, 5)
    low = np.array([0, 7, 1, 0])
    high = np.array([1, 41, MAX_DOORS, 1])
    wall_axis, wall_thickness, num_doors, render_target = jax.random.randint(
      keys[0], (4,), low, high + 1
    )
    agent_radius, agent_speed, target_radius = jax.random.uniform(
      keys[1],
      (3,),
      minval=np.array([7.0, 1.75, 7.0], np.float32),
      maxval=np.array([14.0, 10.5, 14.0], np.float32),
    )
    colors = jax.random.randint(keys[2], (5, 3), 0, 256).astype(jnp.float32)
    positions = jax.random.randint(keys[3], (MAX_DOORS,), 0, WORLD_SIZE)

    # The first of 64 draws that fits; all miss with odds of 5e-10 at worst.
    sizes = jax.random.randint(keys[4], (64, MAX_DOORS), 1, 22)
    sizes = sizes.astype(jnp.float32)
    is_open = jnp.arange(MAX_DOORS) < num_doors
    passable = jnp.any(is_open[None, :] & fits(sizes, agent_radius), axis=-1)
    door_sizes = jnp.where(jnp.any(passable), sizes[jnp.argmax(passable)], 21.0)
    return cls(
      wall_axis=wall_axis,
      wall_thickness=wall_thickness,
      num_doors=num_doors,
      door_positions=positions.astype(jnp.float32),
      door_sizes=door_sizes,
      agent_radius=agent_radius,
      agent_speed=agent_speed,
      target_radius=target_radius,
      agent_color=colors[0],
      target_color=colors[1],
      wall_color=colors[2],
      door_color=colors[3],
      background_color=colors[4],
      render_target=render_target.astype(bool),
      light=jax.random.uniform(jax.random.fold_in(rng_key, 5), minval=0.4),
      image_size=image_size,
    )

  def is_passable(self) -> jax.Array:
    """Whether the agent fits through one of the open doors."""
    is_open = jnp.arange(MAX_DOORS) < self.num_doors
    return jnp.any(is_open & fits(self.door_sizes, self.agent_radius))

  def allows(self, state: TwoRoomState) -> jax.Array:
    """Whether the agent can be where `state` has it: not in border or wall."""
    position = plane.pair('state.position', state.position)
    # As `reset` has it, which leaves the agent's radius to the first step.
    inside = (position >= _BORDER) & (position <= WORLD_SIZE - _BORDER)
    reach = self._half_thickness() + self.agent_radius
    in_wall = (
      self.is_across()
      & (jnp.abs(position - WALL_CENTRE) < reach)
      & ~self._in_door(position[::-1])
    )
    return jnp.all(inside) & ~jnp.any(in_wall)

  def reset(self, rng_key: jax.Array) -> TwoRoomState:
    """Draws the agent outside the wall's band and the target anywhere.

    The target may share the agent's room or lie in the wall, as in the peer.

    Args:
      rng_key: consumed.
    """
    agent_key, target_key = jax.random.split(rng_key)
    position = jax.random.uniform(
      agent_key, (2,), minval=_SPAWN_LOW, maxval=_SPAWN_HIGH
    )
    # Drawing on the line with the wall's band cut out is the peer's rejection
    # sampling without its loop.
    fraction = (position - _SPAWN_LOW) / (_SPAWN_HIGH - _SPAWN_LOW)
    reach = self._half_thickness() + self.agent_radius
    low_length = WALL_CENTRE - reach - _SPAWN_LOW
    high_length = _SPAWN_HIGH - WALL_CENTRE - reach
    along = fraction * (low_length + high_length)
    outside = jnp.where(
      along < low_length,
      _SPAWN_LOW + along,
      WALL_CENTRE + reach + (along - low_length),
    )
    return TwoRoomState(
      position=jnp.where(self.is_across(), outside, position),
      target=jax.random.uniform(
        target_key, (2,), minval=_SPAWN_LOW, maxval=_SPAWN_HIGH
      ),
    )

  def step(self, state: TwoRoomState, action: jax.Array) -> TwoRoomState:
    """Moves the agent by `action` `[2]`, clipped to [-1, 1], minding the walls.

    Borders first, then the wall, which throws the agent back to the face of
    the side it came from; a door lets pass whoever's centre is in its span.
    Equal to the peer's arithmetic bit for bit.

    Raises:
      ValueError: `action` is not `[2]`.

    Source: stable-worldmodel 0.1.1, TwoRoom-v1.
    """
    action = plane.pair('action', action)
    position = plane.pair('state.position', state.position)
    radius = jnp.asarray(self.agent_radius, jnp.float32)
    # Clipping the product and not the action gives the same number and keeps
    # the compiler from fusing product and sum, which would skip a rounding.
    push = jnp.clip(
      action * self.agent_speed, -self.agent_speed, self.agent_speed
    )
    moved = jnp.clip(
      position + push, _BORDER + radius, WORLD_SIZE - _BORDER - radius
    )
    across = self.is_across()
    # The peer compares in float64. These differences are exact in float32, and
    # the faces are rounded once, as there.
    half = self._half_thickness()
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
    stopped = across & enters & ~self._in_door(along)
    return dataclasses.replace(
      state, position=jnp.where(stopped, thrown_back, moved)
    )

  def render(self, state: TwoRoomState) -> jax.Array:
    """Draws uint8 pixels `[image_size, image_size, 3]`, row = y.

    At 224 the peer's picture. At other sizes walls, doors and borders are the
    peer's picture averaged over each pixel's area, and the dots are evaluated
    at the pixels' centres.

    Raises:
      ValueError: `state.position` or `state.target` is not `[2]`.
    """
    position = plane.pair('state.position', state.position)
    target = plane.pair('state.target', state.target)
    picture = self._background()
    dot = functools.partial(painting.blend_dot, world_size=WORLD_SIZE)
    # A known False saves half of the arithmetic; a conditional would cost a
    # copy of every frame.
    if isinstance(self.render_target, jax.core.Tracer) or self.render_target:
      picture = dot(
        picture,
        target,
        radius=self.target_radius,
        color=self.target_color,
        strength=self.render_target,
      )
    picture = dot(
      picture, position, radius=self.agent_radius, color=self.agent_color
    )
    picture = painting.illuminate(picture, self.light)
    return picture.reshape(self.image_size, self.image_size, 3)

  def proprio(self, state: TwoRoomState) -> jax.Array:
    """The agent's `(x, y)`, float32 `[2]`, pixels of the 224 px world."""
    return state.position

  def vector(self, state: TwoRoomState) -> jax.Array:
    """All there is: the agent's `(x, y)`, float32 `[2]`."""
    return state.position

  def from_vector(self, vector: jax.Array) -> TwoRoomState:
    """The agent at `vector` `[2]`, already where it was told to go."""
    return TwoRoomState(position=vector, target=vector)

  def distance(self, state: TwoRoomState, goal: TwoRoomState) -> jax.Array:
    """Pixels (of 224) between the agent's positions in `state` and `goal`."""
    return jnp.linalg.norm(state.position - goal.position)

  def success(self, state: TwoRoomState, goal: TwoRoomState) -> jax.Array:
    """Whether the agent is less than 16 pixels (of 224) from the goal's."""
    return self.distance(state, goal) < SUCCESS_DISTANCE

  def is_across(self) -> jax.Array:
    """Which coordinate crosses the wall: `[True, False]` for a vertical one."""
    return jnp.asarray(self.wall_axis) == np.array([1, 0])

  def _half_thickness(self) -> jax.Array:
    return (jnp.asarray(self.wall_thickness) // 2).astype(jnp.float32)

  def _in_door(self, along: jax.Array) -> jax.Array:
    """Whether coordinates `[2]` along the wall lie in an open door, `[2]`."""
    low = self.door_positions - self.door_sizes - _DOOR_MARGIN
    high = self.door_positions + self.door_sizes + _DOOR_MARGIN
    is_open = jnp.arange(MAX_DOORS) < self.num_doors
    inside = (low[None, :] <= along[:, None]) & (
      along[:, None] <= high[None, :]
    )
    return jnp.any(is_open[None, :] & inside, axis=-1)

  def _background(self) -> jax.Array:
    """All that does not move, uint8 `[size, 3 * size]`.

    Each region is a product of a row and a column of the native grid, so its
    exact area in each pixel is the product of two averaged vectors.
    """
    grid = np.arange(WORLD_SIZE, dtype=np.float32)
    line = np.r_[
      _BORDER - _BORDER_LINE : _BORDER,
      WORLD_SIZE - _BORDER : WORLD_SIZE - _BORDER + _BORDER_LINE,
    ]
    inside = np.ones(WORLD_SIZE, np.float32)
    inside[line] = 0.0
    within = jnp.abs(grid - WALL_CENTRE) <= self._half_thickness()
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
