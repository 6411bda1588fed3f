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

from jepa_wm.envs import painting, plane, rooms, variation


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
class TwoRoom(rooms.Rooms):
  """The world; every field but `image_size` is a leaf and may be batched.

  Lengths are pixels of the 224 px world, colours are 0..255.

  Attributes:
    target_radius: of the target's dot.
    agent_color, target_color: `[3]`.
    render_target: whether the target is drawn, under the agent.

  Raises:
    ValueError: an `image_size` that is not a positive integer.
  """

  target_radius: jax.Array | float = 7.0
  agent_color: jax.Array = plane.factor(255, 0, 0)
  target_color: jax.Array = plane.factor(0, 255, 0)
  render_target: jax.Array | bool = False

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
    cls, rng_key: jax.Array, *, image_size: int = rooms.WORLD_SIZE
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
    high = np.array([1, 41, rooms.MAX_DOORS, 1])
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
    positions = jax.random.randint(
      keys[3], (rooms.MAX_DOORS,), 0, rooms.WORLD_SIZE
    )

    # The first of 64 draws that fits; all miss with odds of 5e-10 at worst.
    sizes = jax.random.randint(keys[4], (64, rooms.MAX_DOORS), 1, 22)
    sizes = sizes.astype(jnp.float32)
    is_open = jnp.arange(rooms.MAX_DOORS) < num_doors
    passable = jnp.any(
      is_open[None, :] & rooms.fits(sizes, agent_radius), axis=-1
    )
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

  def allows(self, state: TwoRoomState) -> jax.Array:
    """Whether the agent can be where `state` has it: not in border or wall."""
    return self.allows_place(plane.pair('state.position', state.position))

  def reset(self, rng_key: jax.Array) -> TwoRoomState:
    """Draws the agent outside the wall's band and the target anywhere.

    The target may share the agent's room or lie in the wall, as in the peer.

    Args:
      rng_key: consumed.
    """
    agent_key, target_key = jax.random.split(rng_key)
    position = jax.random.uniform(
      agent_key, (2,), minval=rooms.SPAWN_LOW, maxval=rooms.SPAWN_HIGH
    )
    return TwoRoomState(
      position=self.outside_wall(position),
      target=jax.random.uniform(
        target_key, (2,), minval=rooms.SPAWN_LOW, maxval=rooms.SPAWN_HIGH
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
    return dataclasses.replace(state, position=self.walk(position, action))

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
    picture = self.background()
    dot = functools.partial(painting.blend_dot, world_size=rooms.WORLD_SIZE)
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
    return self.distance(state, goal) < rooms.SUCCESS_DISTANCE
