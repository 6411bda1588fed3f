"""Who goes first in Two Room for several, and the policy that sees to it."""

import functools
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm.envs import (
  crowds,
  multi_agent,
  rooms,
  two_room,
  two_room_agents,
  two_room_expert,
  worlds,
)

# Pixels: a place counts as reached; a door is in front; what is kept free of a
# door, along the wall and across; where those wait who want through.
_REACHED = 3.0
_IN_FRONT = 16.0
_FREE_ALONG, _FREE_ACROSS = 30.0, 52.0
_WAIT_ALONG, _WAIT_ACROSS = 70.0, 85.0

_MOST_STUCK = 40
_OWNER = 1000.0
_RESTLESS = 0.7


class _Memory(NamedTuple):
  """What is remembered from step to step.

  Attributes:
    places: where the agents were, across and along the wall, `[G, 2]`.
    stuck: steps for which each has not got on, `[G]`.
  """

  places: jax.Array
  stuck: jax.Array


@flax.struct.dataclass
class TwoRoomAgentsExpert:
  """Policy that brings all agents to their targets, one at a time by a door.

  Of those who must cross, the nearest to a door has it: it lines up, crosses,
  and all others keep clear of both sides of the door and of its way, even those
  whose targets are there. Nobody follows until it is through, so nobody meets
  anybody in a door. Within a room agents go straight and pass each other by the
  right; whoever does not get on for a while is made way for as well.

  See `policies.Policy` for the protocol.

  Attributes:
    world: the `TwoRoomAgents` it knows.
    action_noise: standard deviation of the noise added to each component of
      the directions, of length 1 at most, before clipping to [-1, 1].
  """

  world: two_room_agents.TwoRoomAgents
  action_noise: jax.Array | float = 0.0

  def init(
    self, rng_key: jax.Array, state: two_room_agents.TwoRoomAgentsState
  ) -> _Memory:
    """Remembers where all are, and that nobody is stuck."""
    del rng_key
    places = self._turned(self.world.places(state))
    return _Memory(places, jnp.zeros(len(places)))

  def __call__(
    self,
    rng_key: jax.Array,
    state: two_room_agents.TwoRoomAgentsState,
    memory: _Memory,
  ) -> tuple[jax.Array, _Memory]:
    """Joint action `[G * 2]` for `state`, in [-1, 1], and what to remember."""
    world = self.world
    places = self._turned(world.places(state))
    targets = self._turned(state.target.reshape(-1, 2))
    waypoints, owns = self._waypoints(places, targets)
    far = jnp.linalg.norm(waypoints - places, axis=-1) > _REACHED
    moved = jnp.linalg.norm(places - memory.places, axis=-1)
    halted = far & (moved < 0.4 * world.agent_speed)
    stuck = jnp.where(far, memory.stuck + jnp.where(halted, 1.0, -1.0), 0.0)
    stuck = jnp.clip(stuck, 0.0, _MOST_STUCK)
    ranks = jnp.where(owns, _OWNER, 0.0) + stuck
    ways = crowds.steered(places, waypoints, ranks, 2.0 * world.agent_radius)
    actions = ways / world.agent_speed
    lengths = jnp.linalg.norm(actions, axis=-1, keepdims=True)
    actions = self._turned(actions / jnp.maximum(lengths, 1.0))
    # Whom making way does not help, a little chance does.
    scale = self.action_noise + _RESTLESS * (stuck > 2 * crowds.PATIENCE)
    noise = scale[:, None] * jax.random.normal(rng_key, actions.shape)
    actions = jnp.clip(actions + noise, -1.0, 1.0)
    return actions.reshape(-1), _Memory(places, stuck)

  def _turned(self, places: jax.Array) -> jax.Array:
    """`(x, y)` as across and along the wall, or the other way round."""
    is_upright = jnp.asarray(self.world.wall_axis) == 1
    return jnp.where(is_upright, places, places[:, ::-1])

  def _waypoints(
    self, places: jax.Array, targets: jax.Array
  ) -> tuple[jax.Array, jax.Array]:
    """Where each should go next `[G, 2]`, and who has a door `[G]`."""
    world = self.world
    across, along = places[:, 0] - rooms.WALL_CENTRE, places[:, 1]
    side = jnp.where(across > 0, 1.0, -1.0)
    goal_side = jnp.where(targets[:, 0] > rooms.WALL_CENTRE, 1.0, -1.0)
    reach = world.half_thickness() + world.agent_radius
    inside = jnp.abs(across) < reach
    crosses = inside | (side != goal_side)

    doors = jnp.asarray(world.door_positions, jnp.float32)
    middles = jnp.stack(
      [jnp.full_like(doors, rooms.WALL_CENTRE), doors], axis=-1
    )
    near = jnp.linalg.norm(places[:, None] - middles[None], axis=-1)
    far = jnp.linalg.norm(targets[:, None] - middles[None], axis=-1)
    ways = jnp.where(world.usable_doors()[None], near + far, jnp.inf)
    choice = jnp.argmin(ways, axis=-1)
    door = doors[choice]
    rank = near[jnp.arange(len(places)), choice] - 1e3 * inside
    rank = jnp.where(crosses, rank, jnp.inf)
    rivals = (choice[:, None] == choice[None]) & (rank[None] < rank[:, None])
    # Nobody waits for whoever is in the door already and goes the same way.
    rivals &= ~(inside[None] & (goal_side[None] != side[:, None]))
    owns = crosses & ~jnp.any(rivals, axis=-1)

    # Whoever has a door: in front of it, and through.
    before = rooms.WALL_CENTRE + side * (reach + _IN_FRONT / 2)
    after = rooms.WALL_CENTRE + goal_side * (reach + _IN_FRONT / 2)
    lined_up = (jnp.abs(along - door) < _REACHED) & (
      jnp.abs(across) < reach + _IN_FRONT
    )
    through = jnp.stack(
      [jnp.where(inside | lined_up, after, before), door], axis=-1
    )
    # The others: where they are, or their targets, clear of doors in use.
    waiting = jnp.stack(
      [
        rooms.WALL_CENTRE + jnp.clip(across, -_WAIT_ACROSS, _WAIT_ACROSS),
        door + jnp.clip(along - door, -_WAIT_ALONG, _WAIT_ALONG),
      ],
      axis=-1,
    )
    resting = jnp.where(crosses[:, None], waiting, targets)
    in_use = jnp.zeros(len(doors), bool).at[choice].max(owns)
    clear = self._clear_of(resting, doors, in_use)
    return jnp.where(owns[:, None], through, clear), owns

  def _clear_of(
    self, resting: jax.Array, doors: jax.Array, in_use: jax.Array
  ) -> jax.Array:
    """Places `[G, 2]` like those of rest, none in front of a door in use."""
    across = resting[:, 0] - rooms.WALL_CENTRE
    offsets = resting[:, 1, None] - doors[None]
    is_near = in_use[None] & (jnp.abs(offsets) < _FREE_ALONG)
    is_near &= (jnp.abs(across) < _FREE_ACROSS)[:, None]
    side = jnp.where(across > 0, 1.0, -1.0)
    back = rooms.WALL_CENTRE + side * _FREE_ACROSS
    across = jnp.where(jnp.any(is_near, axis=-1), back, resting[:, 0])
    return jnp.stack([across, resting[:, 1]], axis=-1)


def path_length(
  world: two_room_agents.TwoRoomAgents,
  state: two_room_agents.TwoRoomAgentsState,
  goal: two_room_agents.TwoRoomAgentsState,
) -> jax.Array:
  """Pixels (of 224) that the agent with the longest way walks to `goal`.

  As if it were alone, see `two_room_expert.path_length`.
  """

  def alone(place: jax.Array, other: jax.Array) -> jax.Array:
    ends = (two_room.TwoRoomState(x, x) for x in (place, other))
    return two_room_expert.path_length(world, *ends)

  ways = jax.vmap(alone)(world.places(state), world.places(goal))
  return jnp.max(ways)


def _world(num_agents: int) -> worlds.World:
  """The world of so many agents."""
  multi_agent.check_num_agents(num_agents)
  make = functools.partial(two_room_agents.TwoRoomAgents, num_agents=num_agents)
  return worlds.World(
    make=make,
    variation_groups=two_room_agents.TwoRoomAgents.variation_groups,
    policies={'expert': TwoRoomAgentsExpert},
    place=lambda vectors: (
      (np.asarray(vectors)[..., :2] + 0.5) / rooms.WORLD_SIZE
    ),
    state_names=multi_agent.state_names(num_agents),
    unit='px',
    path_length=path_length,
    action_noise=0.5,
    kin='two_room_agents',
    num_agents=num_agents,
  )


worlds.register('two_room_agents', _world(2))
worlds.register_family('two_room_agents', _world)
