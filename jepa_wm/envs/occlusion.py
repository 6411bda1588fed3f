"""Something rolls behind one of two walls, and is to be found much later.

A ball rolls from between the walls behind the left or the right one and stays
there, out of sight. When the gate opens the agent goes behind either, where it
is not seen; the lamp says whether the ball is there. The goal's picture does
not tell the wall.
"""

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm.envs import t_maze, t_maze_expert

_WALLS: tuple[t_maze.Box, t_maze.Box] = (
  (-2.5, 2.3, -0.8, 3.7),
  (0.8, 2.3, 2.5, 3.7),
)
_WALL_COLOR = np.array([120, 80, 50], np.float32)
_BALL_COLOR = np.array([170, 0, 200], np.float32)
_FIELD: t_maze.Box = (-2.5, -0.5, 2.5, 3.7)
_BALL_SPEED = 0.5


@flax.struct.dataclass
class Occlusion(t_maze.TMaze):
  """A T-maze seen from above its walls; the cue is where something went.

  Its fields are those of `t_maze.TMaze`. Of `cue_steps` the ball rolls half a
  cell in each; then it is behind a wall for good.
  """

  def draw_under(
    self, picture: jax.Array, state: t_maze.TMazeState
  ) -> jax.Array:
    """Paints the field, and the ball on its way."""
    picture = self.fill(picture, _FIELD, t_maze.FLOOR)
    # It is not under the walls once it has stopped, where nobody looks.
    away = state.cue * _BALL_SPEED * jnp.minimum(state.clock, self.cue_steps)
    place = jnp.stack([away, jnp.float32(t_maze.ARM)])
    rolls = state.clock < self.cue_steps
    return self.dot(picture, place, _BALL_COLOR, rolls)

  def draw_over(
    self, picture: jax.Array, state: t_maze.TMazeState
  ) -> jax.Array:
    """Paints the two walls, which hide the ball and whoever goes there."""
    del state
    for box in _WALLS:
      picture = self.fill(picture, box, _WALL_COLOR)
    return picture


t_maze_expert.register('occlusion', kind=Occlusion, kin='occlusion')
