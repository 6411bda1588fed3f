"""A point mass in a maze that is pushed about: point maze and diverse mazes.

The task of D4RL's maze2d (arXiv 2004.07219), as PLDM (arXiv 2502.14819) plays
it in many layouts: the force acts for four physics steps, the picture is the
maze from above, the goal is a place. The layout is part of the state, so one
world and one compiled program serve all layouts.
"""

import dataclasses
from typing import ClassVar

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm.envs import maze_layouts, painting, plane, shapes, variation

SUCCESS_DISTANCE = 0.5
"""Cells; PLDM's and DINO-WM's."""

MAX_SIZE = 5

STEP_SECONDS = 0.04

_SUBSTEPS = 4
_TIMESTEP = STEP_SECONDS / _SUBSTEPS


@flax.struct.dataclass
class MazeState:
  """Where the point is, and the maze around it.

  Attributes:
    position: `(x, y)` `[2]` in cells, y down; the upper left cell's corners are
      (0, 0) and (1, 1).
    velocity: `[2]`, cells a second.
    walls: which cells are walls, bool `[size, size]`. So is all around them.
    target: vector of where the expert is going.
  """

  position: jax.Array
  velocity: jax.Array
  walls: jax.Array
  target: jax.Array


@flax.struct.dataclass
class Maze(plane.PlaneWorld):
  """The world; every field but the sizes is a leaf and may be batched.

  The default is the U maze. Lengths are cells, colours are 0..255, actions
  forces.

  Attributes:
    layouts: those that `reset` draws from, `[L]` (`maze_layouts`).
    agent_radius: of the sphere that bumps into walls.
    agent_mass: in kilograms.
    force: of an action of 1, in newtons.
    damping: of the motion, in newton seconds per metre.
    max_speed: along either axis, in cells a second.
    dot_radius: of the dot that is drawn, larger than the sphere to be seen in
      small pictures.
    agent_color, target_color, wall_color, background_color: `[3]`.
    render_target: whether the target is drawn, under the agent.
    light: multiplies the picture.
    size: rows and columns of the maze without the walls around it, static.
    image_size: height and width of the picture, static.

  Raises:
    ValueError: an `image_size` that is not a positive integer, a `size` that is
      not 2 to 5, or layouts that `maze_layouts.check` refuses.

  Source: Gymnasium-Robotics 1.4.2, PointMaze's `point.xml`; PLDM's action
  repeat of 4.
  """

  layouts: jax.Array | np.ndarray = flax.struct.field(
    default_factory=lambda: np.asarray([maze_layouts.U_MAZE], np.int32)
  )
  agent_radius: jax.Array | float = 0.1
  agent_mass: jax.Array | float = 4000.0 / 3.0 * np.pi * 0.1**3
  force: jax.Array | float = 100.0
  damping: jax.Array | float = 1.0
  max_speed: jax.Array | float = 5.0
  dot_radius: jax.Array | float = 0.2
  agent_color: jax.Array = plane.factor(255, 0, 0)
  target_color: jax.Array = plane.factor(0, 255, 0)
  wall_color: jax.Array = plane.factor(60, 60, 70)
  background_color: jax.Array = plane.factor(255, 255, 255)
  render_target: jax.Array | bool = False
  light: jax.Array | float = 1.0
  size: int = flax.struct.field(pytree_node=False, default=3)
  image_size: int = flax.struct.field(pytree_node=False, default=64)

  variation_groups: ClassVar[variation.Groups] = {
    'agent_color': ('agent_color',),
    'agent_size': ('agent_radius', 'dot_radius'),
    'agent_mass': ('agent_mass',),
    'agent_speed': ('force', 'damping', 'max_speed'),
    'wall_color': ('wall_color',),
    'background_color': ('background_color',),
    'target': ('render_target', 'target_color'),
    'lighting': ('light',),
  }

  def __post_init__(self) -> None:
    super().__post_init__()
    if not isinstance(self.size, int) or not 2 <= self.size <= MAX_SIZE:
      raise ValueError(
        f'size must be 2 to {MAX_SIZE} rows and columns, got {self.size!r}.'
      )
    # As somebody gave them; inside a program they are of JAX.
    if isinstance(self.layouts, np.ndarray | list | tuple):
      maze_layouts.check(np.asarray(self.layouts), self.size)

  @classmethod
  def diverse(
    cls,
    *,
    layouts: str = 'train',
    num_layouts: int | None = 40,
    image_size: int = 64,
  ) -> 'Maze':
    """A world of 4 x 4 cells whose layout is drawn anew for every episode.

    Args:
      layouts: 'train' or 'held_out', which have none in common.
      num_layouts: how many of them, always the same; None for all. PLDM trains
        in 5, 10, 20 or 40.
      image_size: height and width of the picture.

    Raises:
      ValueError: see `maze_layouts.diverse`.
    """
    return cls(
      layouts=maze_layouts.diverse(layouts, num_layouts),
      size=maze_layouts.SIZE,
      image_size=image_size,
    )

  @classmethod
  def sample_variation(
    cls, rng_key: jax.Array, *, image_size: int = 64
  ) -> 'Maze':
    """Draws a U maze with every other factor random.

    Masses and forces from half to double, speed limits from half to the
    default, all colours. Layouts are not drawn: held-out ones are a world of
    their own.

    Args:
      rng_key: consumed.
      image_size: static size of the picture.
    """
    keys = jax.random.split(rng_key, 4)
    low = np.array([0.08, -1, -1, 0, 2.5, 0.1, 0.4], np.float32)
    high = np.array([0.2, 1, 1, 3, 5, 0.35, 1], np.float32)
    radius, mass, force, damping, max_speed, dot_radius, light = (
      jax.random.uniform(keys[0], low.shape, minval=low, maxval=high)
    )
    colors = jax.random.randint(keys[1], (4, 3), 0, 256).astype(jnp.float32)
    default = cls()
    return cls(
      agent_radius=radius,
      agent_mass=default.agent_mass * 2.0**mass,
      force=default.force * 2.0**force,
      damping=damping,
      max_speed=max_speed,
      dot_radius=dot_radius,
      agent_color=colors[0],
      target_color=colors[1],
      wall_color=colors[2],
      background_color=colors[3],
      render_target=jax.random.bernoulli(keys[2]),
      light=light,
      image_size=image_size,
    )

  def is_passable(self) -> jax.Array:
    """Always true: every layout is connected, and corridors are wide."""
    return jnp.asarray(True)

  def allows(self, state: MazeState) -> jax.Array:
    """Whether the agent is in an open cell; near a wall it will be pushed."""
    inside = (state.position >= 0.0) & (state.position <= self.size)
    row, column = maze_layouts.cell_of(state.position, self.size)
    return jnp.all(inside) & ~maze_layouts.with_border(state.walls)[row, column]

  def reset(self, rng_key: jax.Array) -> MazeState:
    """Draws a layout, the agent at rest in a cell, the target in another.

    Up to 0.25 cells from the cells' centres, as in Gymnasium-Robotics.

    Args:
      rng_key: consumed.
    """
    keys = jax.random.split(rng_key, 3)
    index = jax.random.randint(keys[0], (), 0, jnp.shape(self.layouts)[0])
    bits = jnp.asarray(self.layouts)[index] >> np.arange(self.size**2)
    walls = (bits & 1).astype(bool).reshape(self.size, self.size)
    position = maze_layouts.sample_place(keys[1], walls)
    column, row = jnp.floor(position).astype(jnp.int32)
    cells = jnp.arange(self.size**2).reshape(walls.shape)
    here = cells == row * self.size + column
    target = maze_layouts.sample_place(keys[2], walls | here)
    still = jnp.zeros([2])
    return MazeState(
      position=position,
      velocity=still,
      walls=walls,
      target=self._vector(target, still, walls),
    )

  def step(self, state: MazeState, action: jax.Array) -> MazeState:
    """Pushes the point for 0.04 s with `action` `[2]`, clipped to [-1, 1].

    Four steps of MuJoCo's Euler integrator with implicit damping, speeds
    clipped first. Walls stop what moves into them at once and without friction,
    where MuJoCo's give way by some hundredths of a cell.

    Raises:
      ValueError: `action` is not `[2]`.

    Source: Gymnasium-Robotics 1.4.2, PointMaze.
    """
    action = plane.pair('action', action)
    push = _TIMESTEP * self.force * jnp.clip(action, -1.0, 1.0)
    inertia = self.agent_mass + _TIMESTEP * self.damping
    position, velocity = state.position, state.velocity
    for _ in range(_SUBSTEPS):
      velocity = jnp.clip(velocity, -self.max_speed, self.max_speed)
      velocity = (self.agent_mass * velocity + push) / inertia
      position = position + _TIMESTEP * velocity
      position, velocity = self._bumped(state.walls, position, velocity)
    return dataclasses.replace(state, position=position, velocity=velocity)

  def render(self, state: MazeState) -> jax.Array:
    """Draws uint8 pixels `[image_size, image_size, 3]`, row = y.

    The maze and the walls around it, one cell thick, each averaged over the
    area of a pixel.
    """
    cells = self.size + 2
    areas = painting.area_matrix(cells, self.image_size)
    wall = jnp.einsum(
      'ij,iy,jx->yx',
      maze_layouts.with_border(state.walls).astype(jnp.float32),
      areas,
      areas,
      precision='highest',
    )
    agent_color, target_color, wall_color, background = (
      jnp.asarray(color, jnp.float32)[None, None]
      for color in (
        self.agent_color,
        self.target_color,
        self.wall_color,
        self.background_color,
      )
    )
    picture = background + wall[..., None] * (wall_color - background)
    if isinstance(self.render_target, jax.core.Tracer) or self.render_target:
      shown = self._dot(state.target[:2]) * self.render_target
      picture = picture + shown[..., None] * (target_color - picture)
    shown = self._dot(state.position)
    picture = picture + shown[..., None] * (agent_color - picture)
    return painting.illuminate((picture + 0.5).astype(jnp.uint8), self.light)

  def proprio(self, state: MazeState) -> jax.Array:
    """Position and velocity, float32 `[4]`."""
    return jnp.concatenate([state.position, state.velocity])

  def vector(self, state: MazeState) -> jax.Array:
    """Position and velocity, float32 `[V]`, and the walls if they vary.

    With several layouts the walls follow row by row, 1 where there is one.
    """
    return self._vector(state.position, state.velocity, state.walls)

  def from_vector(self, vector: jax.Array) -> MazeState:
    """The state that `vector` `[V]` describes, its target there.

    Raises:
      ValueError: `vector` is not `[V]`.
    """
    vector = jnp.asarray(vector, jnp.float32)
    length = len(self.state_names)
    if vector.shape != (length,):
      raise ValueError(
        f'vector must have shape ({length},), {", ".join(self.state_names)}, '
        f'got {vector.shape}; batches go through jax.vmap.'
      )
    if self._is_diverse:
      bits = vector[4:] > 0.5
    else:
      bits = (jnp.asarray(self.layouts)[0] >> np.arange(self.size**2)) & 1
    return MazeState(
      position=vector[:2],
      velocity=vector[2:4],
      walls=bits.astype(bool).reshape(self.size, self.size),
      target=vector,
    )

  @property
  def state_names(self) -> tuple[str, ...]:
    """What the numbers of a vector are."""
    names = ('x', 'y', 'vx', 'vy')
    if not self._is_diverse:
      return names
    cells = [
      (row, column) for row in range(self.size) for column in range(self.size)
    ]
    return names + tuple(f'wall_{row}_{column}' for row, column in cells)

  def distance(self, state: MazeState, goal: MazeState) -> jax.Array:
    """Cells between the agent's positions, as the crow flies."""
    return jnp.linalg.norm(state.position - goal.position)

  def success(self, state: MazeState, goal: MazeState) -> jax.Array:
    """Whether the agent is less than half a cell from the goal's."""
    return self.distance(state, goal) < SUCCESS_DISTANCE

  @property
  def _is_diverse(self) -> bool:
    return jnp.shape(self.layouts)[-1] > 1

  def _vector(
    self, position: jax.Array, velocity: jax.Array, walls: jax.Array
  ) -> jax.Array:
    parts = [position, velocity]
    if self._is_diverse:
      parts.append(walls.ravel().astype(jnp.float32))
    return jnp.concatenate(parts)

  def _bumped(
    self, walls: jax.Array, position: jax.Array, velocity: jax.Array
  ) -> tuple[jax.Array, jax.Array]:
    """Moves the sphere out of the walls and takes the speed into them away.

    A step is shorter than the radius, so the centre is in an open cell, and
    only the three cells nearest to it can be touched.
    """
    row, column = maze_layouts.cell_of(position, self.size)
    centre = jnp.stack([column, row]).astype(jnp.float32) - 0.5
    offset = position - centre
    side = jnp.where(offset >= 0.0, 1, -1)
    closed = maze_layouts.with_border(walls)
    beside = jnp.stack(
      [closed[row, column + side[0]], closed[row + side[1], column]]
    )
    across = closed[row + side[1], column + side[0]] & ~jnp.any(beside)

    reach = 0.5 - self.agent_radius
    stopped = beside & (jnp.abs(offset) > reach)
    offset = jnp.where(stopped, side * reach, offset)
    velocity = jnp.where(stopped & (velocity * side > 0.0), 0.0, velocity)

    corner = 0.5 * side
    away = offset - corner
    length = jnp.maximum(jnp.linalg.norm(away), 1e-6)
    touches = across & (length < self.agent_radius)
    normal = away / length
    inward = jnp.minimum(jnp.sum(velocity * normal), 0.0)
    offset = jnp.where(touches, corner + self.agent_radius * normal, offset)
    velocity = jnp.where(touches, velocity - inward * normal, velocity)
    return centre + offset, velocity

  def _dot(self, position: jax.Array) -> jax.Array:
    """Coverage of the pixels by a dot, `[image_size, image_size]`."""
    cells = self.size + 2
    # Half a cell, because there whole numbers are the cells' centres.
    centres = shapes.pixel_centres(cells, self.image_size)
    distance = shapes.disc_distance(centres, centres, position + 0.5)
    pixel = cells / self.image_size
    return shapes.coverage(distance - self.dot_radius, pixel)


def place(vectors: np.ndarray, *, size: int) -> np.ndarray:
  """Where vectors `[..., V]` are in the picture, as fractions `[..., 2]`."""
  return (np.asarray(vectors)[..., :2] + 1.0) / (size + 2)
