"""Push-T for several: a block too heavy for one, pushed by discs together.

The table and the picture are those of `push_t`; the block is a square and
nothing has momentum (`pushing`).
"""

import dataclasses
from typing import Any, ClassVar

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm import palette
from jepa_wm.envs import (
  crowds,
  multi_agent,
  plane,
  push_t_picture,
  pushing,
  variation,
)

SUCCESS_DISTANCE = 20.0
"""How near the block must be to its place."""

SUCCESS_ANGLE = np.pi / 9.0
"""How near to its angle, radians."""

AGENT_DISTANCE = 40.0
"""How near an agent must be to its own place."""

QUARTER = np.pi / 2.0
"""After such a turn the block is as before."""

_EDGE = 7.0
_SUBSTEPS = 4
_NUM_DRAWS = 64
_AGENTS_LOW, _AGENTS_HIGH = 30.0, 482.0
_BLOCK_LOW, _BLOCK_HIGH = 150.0, 362.0


@flax.struct.dataclass
class PushTAgentsState:
  """Where all are.

  Attributes:
    positions: agents' `(x, y)` `[G, 2]`, pixels of the 512 px world, y down.
    block_pose: `(x, y, angle)` `[3]` of the block's middle, the angle in
      radians and not wrapped.
    target: vector `[G * 2 + 3]`, what the expert heads for.
  """

  positions: jax.Array
  block_pose: jax.Array
  target: jax.Array


@flax.struct.dataclass
class PushTAgents(multi_agent.Pushes, plane.PlaneWorld):
  """The world; every field but `image_size`, `num_agents` may be batched.

  Lengths are pixels of the 512 px world, colours are 0..255. Agents are drawn
  in their own colours (`palette.AGENT_COLORS`).

  Attributes:
    agent_radius: of the discs.
    agent_speed: pixels per step and per unit of action.
    block_size: half a side of the block.
    block_weight: what it takes to move it, in full pushes of one agent. Above
      sqrt(2) no one moves or turns it alone, wherever it pushes.
    block_color, background_color: `[3]`.
    light: multiplies the picture.
    image_size: height and width of the picture, static.
    num_agents: how many there are, `G`, 1 to 8; static.

  Raises:
    ValueError: an `image_size` that is not a positive integer, or a number of
      agents that a world cannot hold.
  """

  agent_radius: jax.Array | float = 18.0
  agent_speed: jax.Array | float = 24.0
  block_size: jax.Array | float = 56.0
  block_weight: jax.Array | float = 1.45
  block_color: jax.Array = plane.factor(119, 136, 153)
  background_color: jax.Array = plane.factor(255, 255, 255)
  light: jax.Array | float = 1.0
  image_size: int = flax.struct.field(pytree_node=False, default=224)
  num_agents: int = flax.struct.field(pytree_node=False, default=2)

  variation_groups: ClassVar[variation.Groups] = {
    'agent_size': ('agent_radius',),
    'agent_speed': ('agent_speed',),
    'block_size': ('block_size',),
    'block_weight': ('block_weight',),
    'block_color': ('block_color',),
    'background_color': ('background_color',),
    'lighting': ('light',),
  }

  def __post_init__(self) -> None:
    super().__post_init__()
    multi_agent.check_num_agents(self.num_agents)

  @classmethod
  def sample_variation(
    cls, rng_key: jax.Array, *, image_size: int = 224, num_agents: int = 2
  ) -> 'PushTAgents':
    """Draws a world with every factor random.

    Uniform everywhere: radii of 12 to 22, speeds of 15 to 30, blocks of half
    sides of 40 to 66 and weights of 1.42 to 1.7, all colours, and the light
    from 0.4 to 1.

    Args:
      rng_key: consumed.
      image_size: static size of the picture.
      num_agents: how many there are.
    """
    number_key, color_key = jax.random.split(rng_key)
    numbers = jax.random.uniform(
      number_key,
      (5,),
      minval=np.array([12.0, 15.0, 40.0, 1.42, 0.4], np.float32),
      maxval=np.array([22.0, 30.0, 66.0, 1.7, 1.0], np.float32),
    )
    colors = jax.random.randint(color_key, (2, 3), 0, 256).astype(jnp.float32)
    return cls(
      agent_radius=numbers[0],
      agent_speed=numbers[1],
      block_size=numbers[2],
      block_weight=numbers[3],
      light=numbers[4],
      block_color=colors[0],
      background_color=colors[1],
      image_size=image_size,
      num_agents=num_agents,
    )

  def is_passable(self) -> jax.Array:
    """Always true: there is nothing to pass."""
    return jnp.asarray(True)

  def allows(self, state: PushTAgentsState) -> jax.Array:
    """Whether all is on the table and nothing in another."""
    places = self.places(state)
    gaps, _ = pushing.sides(self.block_size, places, state.block_pose)
    middle = state.block_pose[:2]
    inside = jnp.all((places >= _EDGE) & (places <= push_t_picture.WORLD_SIZE))
    inside &= jnp.all((middle >= 0.0) & (middle <= push_t_picture.WORLD_SIZE))
    clear = jnp.all(gaps > self.agent_radius - 0.5)
    return inside & clear & ~crowds.overlap(places, 2.0 * self.agent_radius)

  def reset(self, rng_key: jax.Array) -> PushTAgentsState:
    """Draws places of all and targets of all, nothing in anything else.

    Blocks from 150..362 px at any angle, agents from 30..482 px.

    Args:
      rng_key: consumed.
    """
    block_key, agent_key = jax.random.split(rng_key)
    low = jnp.array([_BLOCK_LOW, _BLOCK_LOW, 0.0])
    high = jnp.array([_BLOCK_HIGH, _BLOCK_HIGH, QUARTER])
    poses = jax.random.uniform(block_key, (2, 3), minval=low, maxval=high)
    drawn = jax.random.uniform(
      agent_key,
      (2, self.num_agents, _NUM_DRAWS, 2),
      minval=_AGENTS_LOW,
      maxval=_AGENTS_HIGH,
    )

    def place(drawn: jax.Array, pose: jax.Array) -> jax.Array:
      gaps, _ = pushing.sides(self.block_size, drawn.reshape(-1, 2), pose)
      free = (gaps > 1.5 * self.agent_radius).reshape(drawn.shape[:-1])
      return crowds.choose_apart(drawn, 2.5 * self.agent_radius, free)

    places = jax.vmap(place)(drawn, poses)
    target = jnp.append(places[1].reshape(-1), poses[1])
    return PushTAgentsState(places[0], poses[0], target)

  def step(
    self, state: PushTAgentsState, action: jax.Array
  ) -> PushTAgentsState:
    """Moves all agents at once, and the block as far as they push together.

    See `pushing.step`, of which four make one step.

    Args:
      state: of one world.
      action: `[G, 2]` or `[G * 2]`, clipped to [-1, 1].

    Raises:
      ValueError: `action` or the positions have another shape.
    """
    actions = multi_agent.joint_action(action, self.num_agents)
    stride = self.agent_speed / _SUBSTEPS
    ways = jnp.clip(actions, -1.0, 1.0) * stride
    table = pushing.Table(
      radius=self.agent_radius,
      half=self.block_size,
      friction=self.block_weight * stride,
      low=_EDGE,
      high=push_t_picture.WORLD_SIZE - _EDGE,
    )

    def substep(_: int, now: tuple[jax.Array, jax.Array]) -> Any:
      return pushing.step(table, now[0], now[1], ways)

    places, pose = jax.lax.fori_loop(
      0, _SUBSTEPS, substep, (self.places(state), state.block_pose)
    )
    # Whoever keeps apart from what is no place would stay where it is.
    places = jnp.where(jnp.isnan(actions), jnp.nan, places)
    return dataclasses.replace(state, positions=places, block_pose=pose)

  def render(self, state: PushTAgentsState) -> jax.Array:
    """Draws uint8 pixels `[image_size, image_size, 3]`, row = y."""
    shape = (self.image_size, self.image_size, 3)
    background = jnp.asarray(self.background_color, jnp.float32)[None, None]
    half = jnp.asarray(self.block_size, jnp.float32)
    square = jnp.stack([jnp.zeros(()), jnp.zeros(()), half, half])[None]
    picture = push_t_picture.add_block(
      jnp.broadcast_to(background, shape),
      state.block_pose,
      square,
      jnp.asarray(self.block_color, jnp.float32)[None, None],
    )
    for place, color in zip(self.places(state), palette.AGENT_COLORS):
      picture = push_t_picture.add_disc(
        picture, place, self.agent_radius, color
      )
    return push_t_picture.finish(picture, self.light)

  def proprio(self, state: PushTAgentsState) -> jax.Array:
    """What the agents feel, `(x, y)` of each, float32 `[G * 2]`."""
    return self.places(state).reshape(-1)

  def vector(self, state: PushTAgentsState) -> jax.Array:
    """`(x, y)` of each agent, then the block's pose, float32 `[G * 2 + 3]`.

    The angle in 0..pi / 2, after which the block looks the same.
    """
    pose = state.block_pose.at[2].set(jnp.mod(state.block_pose[2], QUARTER))
    return jnp.append(self.places(state).reshape(-1), pose)

  def from_vector(self, vector: jax.Array) -> PushTAgentsState:
    """The state that `vector` `[G * 2 + 3]` describes, its target there."""
    vector = jnp.asarray(vector, jnp.float32)
    places = vector[:-3].reshape(self.num_agents, 2)
    return PushTAgentsState(places, vector[-3:], vector)

  def places(self, state: PushTAgentsState) -> jax.Array:
    """Where the agents are, `(x, y)` in pixels of 512, `[G, 2]`.

    Raises:
      ValueError: a state of another number of agents.
    """
    return multi_agent.checked_places(state.positions, self.num_agents)

  def distances(self, state: Any, goal: Any) -> jax.Array:
    """How far each agent is from its goal, `[G]`, pixels of 512.

    The largest of what `successes` judges, at the scale at which each is 20 px:
    half its way to its own place, the block's way, and the block's turn.
    """
    own = jnp.linalg.norm(self.places(state) - self.places(goal), axis=-1)
    away, turn = block_errors(state.block_pose, goal.block_pose)
    block = jnp.maximum(
      jnp.linalg.norm(away), jnp.abs(turn) * SUCCESS_DISTANCE / SUCCESS_ANGLE
    )
    return jnp.maximum(own * SUCCESS_DISTANCE / AGENT_DISTANCE, block)

  def successes(self, state: Any, goal: Any) -> jax.Array:
    """Whether each has reached its goal, bool `[G]`.

    It is less than 40 px from its own place, and the block, which they share,
    less than 20 px and 20 degrees from its.
    """
    return self.distances(state, goal) < SUCCESS_DISTANCE

  def distance(
    self, state: PushTAgentsState, goal: PushTAgentsState
  ) -> jax.Array:
    """The largest of the `distances`."""
    return jnp.max(self.distances(state, goal))

  def success(
    self, state: PushTAgentsState, goal: PushTAgentsState
  ) -> jax.Array:
    """Whether all agents have reached `goal`."""
    return jnp.all(self.successes(state, goal))


def block_errors(
  pose: jax.Array, goal: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """What a block at `pose` `[3]` lacks to `goal` `[3]`.

  Returns:
    The way `[2]`, and the turn, the short one of four that look the same, in
    [-pi / 4, pi / 4).
  """
  turn = jnp.mod(goal[2] - pose[2] + QUARTER / 2, QUARTER) - QUARTER / 2
  return goal[:2] - pose[:2], turn
