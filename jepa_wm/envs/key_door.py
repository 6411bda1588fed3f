"""A key is found in one room, and its door is one of two in another room.

The key's colour is seen for the first steps only, then the agent carries it out
of sight. Behind the gate is a second room with two doors, one of either colour,
left and right anew in each episode; who is in one room does not see the other.
Through the door of the key's colour it gets on, and the lamp turns green.
"""

import flax.struct
import jax
import jax.numpy as jnp

from jepa_wm.envs import t_maze, t_maze_expert

_BETWEEN = 1.2
_KEY: t_maze.Box = (-2.0, -0.4, -1.0, 0.6)
_FIRST: t_maze.Box = (-2.75, -0.75, 2.75, _BETWEEN)
_SECOND: t_maze.Box = (-2.75, _BETWEEN, 2.75, 3.8)
_DARK = 30.0


@flax.struct.dataclass
class KeyDoor(t_maze.TMaze):
  """A T-maze in two rooms; right is the arm whose colour was seen in the first.

  Its fields are those of `t_maze.TMaze`.
  """

  def draw_doors(self, rng_key: jax.Array) -> jax.Array:
    """Draws which colour is on which side; consumes the key."""
    return jnp.where(jax.random.bernoulli(rng_key), 1.0, -1.0)

  def draw_under(
    self, picture: jax.Array, state: t_maze.TMazeState
  ) -> jax.Array:
    """Paints the ways of both rooms, and the key while it lies there."""
    for box in (t_maze.STEM, t_maze.ARMS):
      picture = self.fill(picture, box, t_maze.FLOOR)
    lies = state.clock < self.cue_steps
    return self.fill(picture, _KEY, self.cue_color(state.cue), lies)

  def draw_over(
    self, picture: jax.Array, state: t_maze.TMazeState
  ) -> jax.Array:
    """Paints the doors, and makes dark the room where the agent is not."""
    for box, side in zip(t_maze.ROOMS, (-1.0, 1.0)):
      color = self.cue_color(side * state.doors)
      picture = self.fill(picture, box, color)
    in_second = state.position[1] > _BETWEEN
    picture = self.fill(picture, _FIRST, _DARK, in_second)
    # Beyond a door there is nothing to be seen of either.
    through = jnp.abs(state.position[0]) > t_maze.ROOM
    return self.fill(picture, _SECOND, _DARK, ~in_second | through)


# Doors are seen from the second room alone, so who enters it looks again.
t_maze_expert.register(
  'key_door', kind=KeyDoor, kin='key_door', receding_horizon=1
)
