"""The way through the doors of Two Room, and the policy that walks it."""

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm.envs import policies, rooms, two_room, worlds

_DOOR_REACHED = 10.5


@flax.struct.dataclass
class TwoRoomExpert(policies.Forgetful):
  """Policy that walks to the target, through the nearest door that fits.

  See `policies.Policy` for the protocol. With `action_noise` 2.0 it is the
  peers' data collector.

  Attributes:
    world: the `TwoRoom` it knows.
    action_noise: standard deviation of the noise added to each component of the
      unit direction before clipping to [-1, 1].

  Source: stable-worldmodel 0.1.1, TwoRoom's ExpertPolicy.
  """

  world: two_room.TwoRoom
  action_noise: jax.Array | float = 0.0

  def __call__(
    self, rng_key: jax.Array, state: two_room.TwoRoomState, memory: tuple[()]
  ) -> tuple[jax.Array, tuple[()]]:
    """Action `[2]` for `state`, in [-1, 1], and the memory as it was."""
    waypoint = self._waypoint(state)
    heading = waypoint - state.position
    length = jnp.linalg.norm(heading)
    direction = jnp.where(
      length > 1e-8, heading / jnp.maximum(length, 1e-8), 0.0
    )
    noise = self.action_noise * jax.random.normal(rng_key, (2,))
    return jnp.clip(direction + noise, -1.0, 1.0), memory

  def _waypoint(self, state: two_room.TwoRoomState) -> jax.Array:
    world = self.world
    across = world.is_across()
    other_room = jnp.any(
      across
      & (
        (state.position > rooms.WALL_CENTRE)
        != (state.target > rooms.WALL_CENTRE)
      )
    )
    doors, usable = world.doors(), world.usable_doors()
    distances = jnp.where(
      usable, jnp.linalg.norm(doors - state.position[None, :], axis=-1), jnp.inf
    )
    nearest = jnp.argmin(distances)
    # Without a door that fits: the wall, level with the target.
    dead_end = jnp.where(across, float(rooms.WALL_CENTRE), state.target)
    towards_door = jnp.where(
      distances[nearest] > _DOOR_REACHED, doors[nearest], state.target
    )
    other_side = jnp.where(jnp.any(usable), towards_door, dead_end)
    return jnp.where(other_room, other_side, state.target)


def path_length(
  world: rooms.Rooms,
  state: two_room.TwoRoomState,
  goal: two_room.TwoRoomState,
) -> jax.Array:
  """Pixels (of 224) to walk from `state` to `goal`, where the agent is in each.

  Straight within a room, else by the middle of the best door that the agent
  fits through; infinite where there is none.
  """
  here, there = state.position, goal.position
  across = world.is_across()
  doors = world.doors()
  length = lambda place: jnp.linalg.norm(doors - place[None], axis=-1)
  by_door = jnp.where(
    world.usable_doors(), length(here) + length(there), jnp.inf
  )
  other_room = jnp.any(
    across & ((here > rooms.WALL_CENTRE) != (there > rooms.WALL_CENTRE))
  )
  return jnp.where(other_room, jnp.min(by_door), jnp.linalg.norm(here - there))


worlds.register(
  'two_room',
  worlds.World(
    make=two_room.TwoRoom,
    variation_groups=two_room.TwoRoom.variation_groups,
    policies={'expert': TwoRoomExpert},
    place=lambda vectors: (np.asarray(vectors) + 0.5) / rooms.WORLD_SIZE,
    state_names=('x', 'y'),
    unit='px',
    path_length=path_length,
    # In the way of many pairs of `long`; there is a way on either side of it.
    zones={'pond': 'disc:64,100,20'},
    # The peers' data collector: most of it clipped away.
    action_noise=2.0,
  ),
)
