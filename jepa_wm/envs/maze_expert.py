"""Policies that walk through mazes by shortest paths."""

import dataclasses
import functools
from collections.abc import Callable

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm.envs import maze, maze_layouts, policies, worlds

_FAR = 1e6


@flax.struct.dataclass
class MazeExpert(policies.Forgetful):
  """Heads for the next cell on a shortest path, as fast as it can stop.

  See `policies.Policy` for the protocol.

  Attributes:
    world: the `Maze` it knows.
    action_noise: standard deviation of the noise added to each component of
      the action before clipping to [-1, 1].
    cruising_speed: in cells a second, along the path.
    gain: wanted speed per cell of distance to the target, per second.
  """

  world: maze.Maze
  action_noise: jax.Array | float = 0.0
  cruising_speed: jax.Array | float = 2.0
  gain: jax.Array | float = 6.0

  def __call__(
    self, rng_key: jax.Array, state: maze.MazeState, memory: tuple[()]
  ) -> tuple[jax.Array, tuple[()]]:
    """Action `[2]` for `state`, in [-1, 1], and the memory as it was."""
    world = self.world
    waypoint, is_last = self._waypoint(state)
    heading = waypoint - state.position
    length = jnp.maximum(jnp.linalg.norm(heading), 1e-6)
    speed = jnp.minimum(self.cruising_speed, world.max_speed)
    speed = jnp.where(is_last, jnp.minimum(self.gain * length, speed), speed)
    wanted = speed * heading / length
    # What an action of 1 changes the speed by in one step.
    reach = maze.STEP_SECONDS * world.force / world.agent_mass
    noise = self.action_noise * jax.random.normal(rng_key, (2,))
    action = (wanted - state.velocity) / reach + noise
    return jnp.clip(action, -1.0, 1.0), memory

  def _waypoint(self, state: maze.MazeState) -> tuple[jax.Array, jax.Array]:
    """Where to go in a straight line, `[2]`, and whether it is the target."""
    closed = maze_layouts.with_border(state.walls)
    target = state.target[:2]
    row, column = maze_layouts.cell_of(state.position, self.world.size)
    lengths = path_lengths(
      closed, *maze_layouts.cell_of(target, self.world.size)
    )
    rows = row + jnp.array([0, 0, -1, 1])
    columns = column + jnp.array([-1, 1, 0, 0])
    best = jnp.argmin(lengths[rows, columns])
    corner = jnp.stack([columns[best], rows[best]])
    next_cell = corner.astype(jnp.float32) - 0.5
    is_last = lengths[row, column] <= 1.0
    return jnp.where(is_last, target, next_cell), is_last


@flax.struct.dataclass
class MazeWanderer:
  """Walks like the expert, and on to another place whenever it has arrived.

  Its first target is the state's. Episodes of any length are full of motion, as
  those of D4RL.

  Attributes:
    expert: how it walks.

  Source: D4RL's maze2d data (arXiv 2004.07219).
  """

  expert: MazeExpert

  def init(self, rng_key: jax.Array, state: maze.MazeState) -> jax.Array:
    """Where it is going, a vector `[V]`."""
    del rng_key
    return state.target

  def __call__(
    self, rng_key: jax.Array, state: maze.MazeState, memory: jax.Array
  ) -> tuple[jax.Array, jax.Array]:
    """Action `[2]` for `state`, in [-1, 1], and where it is going."""
    target_key, expert_key = jax.random.split(rng_key)
    place = maze_layouts.sample_place(target_key, state.walls)
    away = jnp.linalg.norm(memory[:2] - state.position)
    arrived = away < maze.SUCCESS_DISTANCE
    memory = jnp.where(arrived, memory.at[:2].set(place), memory)
    heading = dataclasses.replace(state, target=memory)
    action, _ = self.expert(expert_key, heading, ())
    return action, memory


def path_lengths(
  closed: jax.Array, row: jax.Array, column: jax.Array
) -> jax.Array:
  """Cells to walk from every cell to one, `[size, size]`; walls are far away.

  Args:
    closed: which cells are walls, bool `[size, size]`; the border is.
    row: of the cell to walk to.
    column: of it.
  """
  start = jnp.full(closed.shape, _FAR).at[row, column].set(0.0)

  def relax(_: int, lengths: jax.Array) -> jax.Array:
    # Rolled over an edge there is only border.
    steps = [
      jnp.roll(lengths, shift, axis) for shift in (-1, 1) for axis in (0, 1)
    ]
    nearest = functools.reduce(jnp.minimum, steps) + 1.0
    return jnp.where(closed, _FAR, jnp.minimum(lengths, nearest))

  inside = (closed.shape[0] - 2) * (closed.shape[1] - 2)
  return jax.lax.fori_loop(0, inside - 1, relax, start)


def path_length(
  world: maze.Maze, state: maze.MazeState, goal: maze.MazeState
) -> jax.Array:
  """Cells to walk from `state` to `goal`, where the agent is in each.

  Straight to the same cell or the next one, else by the centres of the cells
  between. Infinite where they lie in different layouts.
  """
  closed = maze_layouts.with_border(state.walls)
  here, there = (
    maze_layouts.cell_of(x.position, world.size) for x in (state, goal)
  )
  to_goal, to_start = (path_lengths(closed, *cell) for cell in (there, here))
  steps = to_goal[here]
  ends = (
    _first_stretch(lengths, cell, x.position)
    for lengths, cell, x in (
      (to_goal, here, state),
      (to_start, there, goal),
    )
  )
  way = sum(ends) + steps - 2.0
  straight = jnp.linalg.norm(state.position - goal.position)
  length = jnp.where(steps <= 1.0, straight, way)
  return jnp.where(jnp.all(state.walls == goal.walls), length, jnp.inf)


def _first_stretch(
  lengths: jax.Array, cell: tuple[jax.Array, jax.Array], position: jax.Array
) -> jax.Array:
  """From a place in `cell` to the centre of the best next one, in cells."""
  rows = cell[0] + jnp.array([0, 0, -1, 1])
  columns = cell[1] + jnp.array([-1, 1, 0, 0])
  centres = jnp.stack([columns, rows], axis=-1).astype(jnp.float32) - 0.5
  away = jnp.linalg.norm(centres - position[None], axis=-1)
  is_best = lengths[rows, columns] < lengths[cell]
  return jnp.min(jnp.where(is_best, away, jnp.inf))


# Two layouts are as good as all to tell what numbers a state is.
_ONE, _MANY = (
  maze.Maze(),
  maze.Maze(layouts=np.array([0, 1], np.int32), size=maze_layouts.SIZE),
)
_MAZES: dict[str, tuple[Callable[..., maze.Maze], maze.Maze]] = {
  'point_maze': (maze.Maze, _ONE),
  # PLDM's 40 layouts, all of those to train in, and all that are held out.
  'diverse_maze': (maze.Maze.diverse, _MANY),
  'diverse_maze_all': (
    functools.partial(maze.Maze.diverse, num_layouts=None),
    _MANY,
  ),
  'diverse_maze_held_out': (
    functools.partial(maze.Maze.diverse, layouts='held_out', num_layouts=None),
    _MANY,
  ),
}

# By the size of the maze: half of a corridor, or where four cells meet.
_PONDS = {3: 'box:2.5,1.2,3,1.8', maze_layouts.SIZE: 'disc:2,2,0.3'}

for _name, (_make, _like) in _MAZES.items():
  worlds.register(
    _name,
    worlds.World(
      make=_make,
      variation_groups=maze.Maze.variation_groups,
      policies={
        'expert': MazeExpert,
        'wanderer': lambda env, noise: MazeWanderer(MazeExpert(env, noise)),
      },
      place=functools.partial(maze.place, size=_like.size),
      state_names=_like.state_names,
      unit='cells',
      body=('x', 'y'),
      zones={'pond': _PONDS[_like.size], 'slow': 'speed:2'},
      path_length=path_length,
      kin='diverse_maze' if _name.startswith('diverse_maze_') else None,
      action_noise=0.5,
      recording={'policy': 'wanderer', 'ends_at_success': False},
    ),
  )
