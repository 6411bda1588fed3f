"""A disc that pushes a block over a table: Push-T.

The `swm/PushT-v1` environment of stable-worldmodel 0.1.1 and the contact solver
below it, state for state, without its Python loop.
"""

import dataclasses
from typing import ClassVar

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm.envs import (
  contacts,
  plane,
  push_t_dynamics,
  push_t_picture,
  push_t_shapes,
  push_t_walls,
  variation,
)

WORLD_SIZE = 512
"""Width and height of the world in its own pixels, whatever is rendered."""

STATE_NAMES = (
  'agent_x',
  'agent_y',
  'block_x',
  'block_y',
  'block_angle',
  'agent_vx',
  'agent_vy',
)
"""What the numbers of a vector are: pixels, radians, pixels a second."""

SUCCESS_DISTANCE = 20.0
SUCCESS_ANGLE = np.pi / 9.0

TEE = push_t_shapes.NAMES.index('T')

_ARC = SUCCESS_DISTANCE / SUCCESS_ANGLE
_AGENT_LOW, _AGENT_HIGH = 50.0, 450.0
_BLOCK_LOW, _BLOCK_HIGH = 100.0, 400.0


@flax.struct.dataclass
class PushTState:
  """Where things are, and what the solver will do next.

  Block positions are those of its frame's origin (for the tee the middle of the
  bar's far side), not of its centre of gravity.

  Attributes:
    agent_position: `(x, y)` `[2]`, pixels of the 512 px world, y down.
    agent_velocity: `[2]`, pixels a second.
    block_pose: `(x, y, angle)` `[3]`, the angle in radians and not wrapped.
    target: vector `[7]` (`STATE_NAMES`), what the expert heads for.
    block_velocity: of the centre of gravity, and turning, `[3]`: how it moves
      in the next substep, after which nothing of it is left.
    block_correction: the same for the speed that undoes overlaps, `[3]`.
    memory: impulses of contacts in the last substeps.
  """

  agent_position: jax.Array
  agent_velocity: jax.Array
  block_pose: jax.Array
  target: jax.Array
  block_velocity: jax.Array
  block_correction: jax.Array
  memory: push_t_dynamics.Memory


@flax.struct.dataclass
class PushT(plane.PlaneWorld):
  """The world; every field but `image_size` is a leaf and may be batched.

  Lengths are pixels of the 512 px world, colours are 0..255. The agent is a
  disc that nothing stops; the peer's other agents are not built. An action says
  where the agent is sent, in 100 px from it.

  Attributes:
    agent_radius: of the disc.
    block_shape: index into `push_t_shapes.NAMES`, 1 for the tee.
    block_scale: size of its unit. The peer's 0.1.1 draws it and ignores it for
      the tee, which has 30.
    agent_color, block_color, goal_color, background_color: `[3]`.
    goal_pose: `(x, y, angle)` `[3]` at which the block's outline is drawn. It
      is scenery, as in the peer's world: success is judged by another state.
    render_goal: whether it is drawn.
    light: multiplies the picture.
    image_size: height and width of the picture, static.

  Raises:
    ValueError: an `image_size` that is not a positive integer.
  """

  agent_radius: jax.Array | float = 15.0
  block_shape: jax.Array | int = TEE
  block_scale: jax.Array | float = 30.0
  agent_color: jax.Array = plane.factor(65, 105, 225)
  block_color: jax.Array = plane.factor(119, 136, 153)
  goal_color: jax.Array = plane.factor(144, 238, 144)
  background_color: jax.Array = plane.factor(255, 255, 255)
  goal_pose: jax.Array = plane.factor(256, 256, np.pi / 4)
  render_goal: jax.Array | bool = True
  light: jax.Array | float = 1.0
  image_size: int = flax.struct.field(pytree_node=False, default=224)

  variation_groups: ClassVar[variation.Groups] = {
    'agent_color': ('agent_color',),
    'agent_size': ('agent_radius',),
    'block_color': ('block_color',),
    'block_shape': ('block_shape',),
    'block_size': ('block_scale',),
    'goal_color': ('goal_color',),
    'goal_pose': ('goal_pose',),
    'goal_hidden': ('render_goal',),
    'background_color': ('background_color',),
    'lighting': ('light',),
  }

  @property
  def block_rectangles(self) -> jax.Array:
    """What the block is made of, `(x, y, half_x, half_y)` `[R, 4]`.

    In its own frame. Three rows where the shape is not known while tracing, and
    fillers far away among them; else as many as there are.
    """
    rows = jnp.asarray(push_t_shapes.RECTANGLES, jnp.float32)
    if self._shape_is_known:
      shape = push_t_shapes.SHAPES[push_t_shapes.NAMES[int(self.block_shape)]]
      return rows[int(self.block_shape), : len(shape.rectangles)] * (
        self.block_scale
      )
    return rows[self.block_shape] * self.block_scale

  @classmethod
  def sample_variation(
    cls, rng_key: jax.Array, *, image_size: int = 224
  ) -> 'PushT':
    """Draws a world with every factor random, in the peer's ranges.

    Uniform everywhere. Left out: the agent's shape, and scales of agent and
    goal apart from what they change (the agent's radius; nothing). The light,
    which the peer does not vary, is 0.4 to 1.

    Args:
      rng_key: consumed.
      image_size: static size of the picture.
    """
    keys = jax.random.split(rng_key, 6)
    agent_scale, block_scale = jax.random.uniform(
      keys[0], (2,), minval=20.0, maxval=60.0
    )
    colors = jax.random.randint(keys[1], (4, 3), 0, 256).astype(jnp.float32)
    return cls(
      agent_radius=0.375 * agent_scale,
      block_shape=jax.random.randint(keys[2], (), 0, len(push_t_shapes.NAMES)),
      block_scale=block_scale,
      agent_color=colors[0],
      block_color=colors[1],
      goal_color=colors[2],
      background_color=colors[3],
      goal_pose=jnp.append(
        jax.random.uniform(keys[3], (2,), minval=50.0, maxval=450.0),
        jax.random.uniform(
          keys[4], (), minval=-2.0 * np.pi, maxval=2.0 * np.pi
        ),
      ),
      render_goal=jax.random.bernoulli(keys[5]),
      light=jax.random.uniform(jax.random.fold_in(rng_key, 6), minval=0.4),
      image_size=image_size,
    )

  def is_passable(self) -> jax.Array:
    """Always true: there is nothing to pass."""
    return jnp.asarray(True)

  def allows(self, state: PushTState) -> jax.Array:
    """Whether agent and block are in the picture; they may overlap."""
    places = jnp.concatenate([state.agent_position, state.block_pose[:2]])
    return jnp.all((places >= 0.0) & (places <= WORLD_SIZE))

  def reset(self, rng_key: jax.Array) -> PushTState:
    """Draws agent, block and target, each by itself and uniformly.

    Agents from 50..450 px, blocks from 100..400 px at any angle; they may
    overlap, and the solver then pushes the block away during the first steps.
    At rest: the peer runs one physics step of 0.01 s here, which moves nothing
    that does not overlap.

    Args:
      rng_key: consumed.

    Source: stable-worldmodel 0.1.1, PushT-v1.
    """
    keys = jax.random.split(rng_key, 6)

    def draw(agent: jax.Array, block: jax.Array, angle: jax.Array) -> jax.Array:
      uniform = jax.random.uniform
      return jnp.concatenate(
        [
          uniform(agent, (2,), minval=_AGENT_LOW, maxval=_AGENT_HIGH),
          uniform(block, (2,), minval=_BLOCK_LOW, maxval=_BLOCK_HIGH),
          uniform(angle, (1,), minval=0.0, maxval=2.0 * np.pi),
          jnp.zeros([2]),
        ]
      )

    state = self.from_vector(draw(*keys[:3]))
    return dataclasses.replace(state, target=draw(*keys[3:]))

  def step(self, state: PushTState, action: jax.Array) -> PushTState:
    """Sends the agent up to 100 px away for a tenth of a second.

    A spring and a damper pull it there; it gets a quarter of the way. Actions
    out of [-1, 1] are clipped, which the peer does not do.

    Args:
      state: what is now; float64 is computed in float64.
      action: `[2]`, x and y. In float32 the agent is steered in float32, as in
        the peer's world, also where all else is float64.

    Raises:
      ValueError: `action` is not `[2]`.

    Source: stable-worldmodel 0.1.1, PushT-v1, and pymunk 7.3.1.
    """
    action = plane.pair('action', action, None)
    if not jnp.issubdtype(action.dtype, jnp.floating):
      action = action.astype(jnp.float32)
    return self.push(self.body(), state, jnp.clip(action, -1.0, 1.0))

  def push(
    self,
    body: push_t_walls.Body,
    state: PushTState,
    action: jax.Array,
    *,
    walls: bool = True,
  ) -> PushTState:
    """What `step` does, of a `body` at hand and an action within its bounds."""
    agent, agent_velocity, pose, velocity, correction, memory = (
      push_t_dynamics.advance(
        body,
        self.agent_radius,
        state.agent_position,
        state.agent_velocity,
        state.block_pose,
        state.block_velocity,
        state.block_correction,
        state.memory,
        action,
        walls=walls,
      )
    )
    return PushTState(
      agent, agent_velocity, pose, state.target, velocity, correction, memory
    )

  def render(self, state: PushTState) -> jax.Array:
    """Draws uint8 pixels `[image_size, image_size, 3]`, row = y."""
    return push_t_picture.render(self, state)

  def proprio(self, state: PushTState) -> jax.Array:
    """The agent's `(x, y)` and velocity, float32 `[4]`."""
    return jnp.concatenate([state.agent_position, state.agent_velocity]).astype(
      jnp.float32
    )

  def vector(self, state: PushTState) -> jax.Array:
    """What `STATE_NAMES` says, float32 `[7]`, the angle in 0..2 pi."""
    pose = state.block_pose.at[2].set(jnp.mod(state.block_pose[2], 2.0 * np.pi))
    return jnp.concatenate(
      [state.agent_position, pose, state.agent_velocity]
    ).astype(jnp.float32)

  def from_vector(self, vector: jax.Array) -> PushTState:
    """The state `vector` `[7]` describes, its target there, the block at rest.

    Exactly that state. The peer's `_set_state` runs one physics step of 0.01 s
    afterwards, in which the agent moves on by its velocity and a block that
    overlaps something begins to leave it.

    Raises:
      ValueError: `vector` is not `[7]`.
    """
    vector = jnp.asarray(vector)
    if vector.shape != (len(STATE_NAMES),):
      raise ValueError(
        f'vector must have shape ({len(STATE_NAMES)},), '
        f'{", ".join(STATE_NAMES)}, got {vector.shape}; batches go through '
        'jax.vmap.'
      )
    if vector.dtype != jnp.float64:
      vector = vector.astype(jnp.float32)
    return PushTState(
      agent_position=vector[:2],
      agent_velocity=vector[5:],
      block_pose=vector[2:5],
      target=vector.astype(jnp.float32),
      block_velocity=jnp.zeros([3], vector.dtype),
      block_correction=jnp.zeros([3], vector.dtype),
      memory=push_t_dynamics.Memory.empty(vector.dtype),
    )

  def distance(self, state: PushTState, goal: PushTState) -> jax.Array:
    """How far `state` is from `goal`, in pixels; velocities do not count.

    The larger of the two that `success` judges: the length of the differences
    of agent and block together, and the difference in angle, at the scale at
    which 20 degrees are 20 px. Success is a distance below 20.
    """
    away = jnp.concatenate(
      [
        state.agent_position - goal.agent_position,
        state.block_pose[:2] - goal.block_pose[:2],
      ]
    )
    turned = angle_difference(state.block_pose[2], goal.block_pose[2])
    return jnp.maximum(jnp.linalg.norm(away), _ARC * jnp.abs(turned))

  def success(self, state: PushTState, goal: PushTState) -> jax.Array:
    """Whether agent and block are where they are in `goal`.

    Together less than 20 px off, and the block turned by less than 20 degrees,
    whatever whole turns the two angles differ by. The peers take
    `min(d, 2 pi - d)` of the difference, which is negative, and so always small
    enough, for angles more than a turn apart.

    Source: stable-worldmodel 0.1.1, PushT-v1, but for the angle.
    """
    return self.distance(state, goal) < SUCCESS_DISTANCE

  @property
  def _shape_is_known(self) -> bool:
    return not isinstance(self.block_shape, jax.core.Tracer) and (
      np.ndim(self.block_shape) == 0
    )

  def body(self) -> push_t_walls.Body:
    """The block as contacts know it: rectangles, centre of mass and moment."""
    scale = self.block_scale
    if self._shape_is_known and not isinstance(scale, jax.core.Tracer):
      # Plain numbers, which the compiler folds.
      shape = push_t_shapes.SHAPES[push_t_shapes.NAMES[int(self.block_shape)]]
      scale = float(scale)
      return push_t_walls.Body(
        rectangles=tuple(
          contacts.Rectangle(*(scale * side for side in rectangle))
          for rectangle in shape.rectangles
        ),
        centre=(scale * shape.centre[0], scale * shape.centre[1]),
        moment=scale**2 * shape.moment,
      )
    centre = jnp.asarray(push_t_shapes.CENTRES, jnp.float32)[self.block_shape]
    moments = jnp.asarray(push_t_shapes.MOMENTS, jnp.float32)
    return push_t_walls.Body(
      rectangles=tuple(
        contacts.Rectangle(*rectangle) for rectangle in self.block_rectangles
      ),
      centre=tuple(centre * scale),
      moment=moments[self.block_shape] * scale**2,
    )


def angle_difference(
  angle: jax.typing.ArrayLike, other: jax.typing.ArrayLike
) -> jax.Array:
  """How far to turn from `other` to `angle`, the short way, in [-pi, pi)."""
  return jnp.mod(jnp.asarray(angle) - other + np.pi, 2.0 * np.pi) - np.pi
