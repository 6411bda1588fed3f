"""Two Room for several: dots that must not touch and a door for one at a time.

Walls, borders, doors and picture are those of `two_room`; what is new is that
agents stand in each other's way.
"""

import dataclasses
from typing import Any, ClassVar

import flax.struct
import jax
import jax.numpy as jnp

from jepa_wm import palette
from jepa_wm.envs import (
  crowds,
  multi_agent,
  painting,
  plane,
  rooms,
  two_room,
  variation,
)

_NUM_DRAWS = 64
_TARGETS_APART = 1.25


@flax.struct.dataclass
class TwoRoomAgentsState:
  """Where the agents are and where they were told to go.

  Attributes:
    positions: agents' `(x, y)` `[G, 2]`, pixels of the 224 px world, y down.
    target: `(x, y)` of each, one after the other, `[G * 2]`; drawn by `reset`,
      what the expert heads for.
  """

  positions: jax.Array
  target: jax.Array


@flax.struct.dataclass
class TwoRoomAgents(multi_agent.Pushes, rooms.Rooms):
  """The world; every field but `image_size`, `num_agents` may be batched.

  Agents are discs of `agent_radius` to each other and in a door, which lets
  pass who fits in whole: by default one, and no two side by side. Each is drawn
  in its own colour (`palette.AGENT_COLORS`) as Two Room draws its one.

  See `rooms.Rooms` for the other factors.

  Attributes:
    num_agents: how many there are, `G`, 1 to 8; static.

  Raises:
    ValueError: an `image_size` that is not a positive integer, or a number of
      agents that a world cannot hold.
  """

  door_sizes: jax.Array = plane.factor(12, 12, 12)
  num_agents: int = flax.struct.field(pytree_node=False, default=2)

  variation_groups: ClassVar[variation.Groups] = {
    'agent_size': ('agent_radius',),
    'agent_speed': ('agent_speed',),
    'wall_color': ('wall_color',),
    'wall': ('wall_axis', 'wall_thickness'),
    'door': ('num_doors', 'door_positions', 'door_sizes'),
    'door_color': ('door_color',),
    'background_color': ('background_color',),
    'lighting': ('light',),
  }

  def __post_init__(self) -> None:
    super().__post_init__()
    multi_agent.check_num_agents(self.num_agents)

  @classmethod
  def sample_variation(
    cls,
    rng_key: jax.Array,
    *,
    image_size: int = rooms.WORLD_SIZE,
    num_agents: int = 2,
  ) -> 'TwoRoomAgents':
    """Draws a world with every factor random, in the ranges of Two Room.

    Args:
      rng_key: consumed.
      image_size: static size of the picture.
      num_agents: how many there are.
    """
    drawn = two_room.TwoRoom.sample_variation(rng_key, image_size=image_size)
    shared = {
      field.name: getattr(drawn, field.name)
      for field in dataclasses.fields(rooms.Rooms)
    }
    return cls(**shared, num_agents=num_agents)

  def openings(self) -> jax.Array:
    """As `rooms.Rooms.openings`, where a whole dot must fit in, `[3]`."""
    return jnp.asarray(self.door_sizes) - self.agent_radius

  def allows(self, state: TwoRoomAgentsState) -> jax.Array:
    """Whether no agent is in border or wall, nor two in each other."""
    places = self.places(state)
    free = jnp.all(jax.vmap(self.allows_place)(places))
    return free & ~crowds.overlap(places, 2.0 * self.agent_radius)

  def reset(self, rng_key: jax.Array) -> TwoRoomAgentsState:
    """Draws places and targets outside the wall's band, none in another.

    Args:
      rng_key: consumed.
    """
    anywhere = jax.random.uniform(
      rng_key,
      (2 * self.num_agents * _NUM_DRAWS, 2),
      minval=rooms.SPAWN_LOW,
      maxval=rooms.SPAWN_HIGH,
    )
    edge = rooms.BORDER + self.agent_radius
    free = jax.vmap(self.outside_wall)(anywhere)
    free = jnp.clip(free, edge, rooms.WORLD_SIZE - edge)
    free = free.reshape(2, self.num_agents, _NUM_DRAWS, 2)
    # Targets stand a little apart, so that all can be reached at once.
    spacings = 2.0 * self.agent_radius * jnp.array([1.0, _TARGETS_APART])
    positions, targets = jax.vmap(crowds.choose_apart)(free, spacings)
    return TwoRoomAgentsState(positions, targets.reshape(-1))

  def step(
    self, state: TwoRoomAgentsState, action: jax.Array
  ) -> TwoRoomAgentsState:
    """Moves all agents at once, minding the walls and each other.

    Nobody pushes anybody, and nobody comes first: agents keep to their own side
    of the line midway to every other one (`crowds.step_apart`), and those who
    would not, or whom a wall throws to the other side, go along or stay.

    Args:
      state: of one world.
      action: `[G, 2]` or `[G * 2]`, clipped to [-1, 1].

    Raises:
      ValueError: `action` or the positions have another shape.
    """
    actions = multi_agent.joint_action(action, self.num_agents)
    places = self.places(state)
    moved = crowds.step_apart(
      places,
      jnp.clip(actions, -1.0, 1.0) * self.agent_speed,
      2.0 * self.agent_radius,
      jax.vmap(self._go),
    )
    return dataclasses.replace(state, positions=moved)

  def render(self, state: TwoRoomAgentsState) -> jax.Array:
    """Draws uint8 pixels `[image_size, image_size, 3]`, row = y.

    As `two_room.TwoRoom.render`, a dot for each agent, the first undermost.

    Raises:
      ValueError: the positions have another shape.
    """
    picture = self.background()
    for place, color in zip(self.places(state), palette.AGENT_COLORS):
      picture = painting.blend_dot(
        picture,
        place,
        radius=self.agent_radius,
        color=color,
        world_size=rooms.WORLD_SIZE,
      )
    picture = painting.illuminate(picture, self.light)
    return picture.reshape(self.image_size, self.image_size, 3)

  def proprio(self, state: TwoRoomAgentsState) -> jax.Array:
    """What the agents feel, `(x, y)` of each, float32 `[G * 2]`."""
    return self.vector(state)

  def vector(self, state: TwoRoomAgentsState) -> jax.Array:
    """All there is: `(x, y)` of each agent, float32 `[G * 2]`."""
    return self.places(state).reshape(-1)

  def from_vector(self, vector: jax.Array) -> TwoRoomAgentsState:
    """The agents at `vector` `[G * 2]`, already where they were told to go."""
    vector = jnp.asarray(vector, jnp.float32)
    return TwoRoomAgentsState(vector.reshape(self.num_agents, 2), vector)

  def places(self, state: TwoRoomAgentsState) -> jax.Array:
    """Where the agents are, `(x, y)` in pixels of 224, `[G, 2]`.

    Raises:
      ValueError: a state of another number of agents.
    """
    return multi_agent.checked_places(state.positions, self.num_agents)

  def distances(self, state: Any, goal: Any) -> jax.Array:
    """Pixels (of 224) between each agent in `state` and in `goal`, `[G]`."""
    return jnp.linalg.norm(self.places(state) - self.places(goal), axis=-1)

  def successes(self, state: Any, goal: Any) -> jax.Array:
    """Whether each is less than 16 pixels (of 224) from its goal, `[G]`."""
    return self.distances(state, goal) < rooms.SUCCESS_DISTANCE

  def distance(
    self, state: TwoRoomAgentsState, goal: TwoRoomAgentsState
  ) -> jax.Array:
    """The `distances` of who is farthest from where it is in `goal`."""
    return jnp.max(self.distances(state, goal))

  def success(
    self, state: TwoRoomAgentsState, goal: TwoRoomAgentsState
  ) -> jax.Array:
    """Whether all agents have reached `goal`."""
    return jnp.all(self.successes(state, goal))

  def _go(self, place: jax.Array, way: jax.Array) -> jax.Array:
    """Where a dot at `place` `[2]` ends that goes `way` `[2]`, past walls."""
    # Who is in a door goes along its jambs and is not thrown out by them.
    across = self.is_across()
    reach = self.half_thickness() + self.agent_radius
    is_inside = jnp.any(across & (jnp.abs(place - rooms.WALL_CENTRE) < reach))
    along = jnp.sum(jnp.where(across, 0.0, place))
    offsets = jnp.abs(self.door_positions - along)
    is_open = jnp.arange(rooms.MAX_DOORS) < self.num_doors
    door = jnp.argmin(jnp.where(is_open, offsets, jnp.inf))
    middle = jnp.asarray(self.door_positions)[door]
    half = self.openings()[door] + rooms.DOOR_MARGIN
    end = place + way
    held = jnp.where(across, end, jnp.clip(end, middle - half, middle + half))
    way = jnp.where(is_inside, held, end) - place
    return self.walk(place, way / self.agent_speed)
