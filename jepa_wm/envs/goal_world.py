"""True worlds with goals, rewards and a clock: what RL in the world plays.

  env, params = goal_world.make(envs.TwoRoom(image_size=64))
  observation, state = env.reset(key, params)

An `episodic.Episodic`: one raw action a step; a start and its goal are two
resets of the world. The world itself is in the params, so a batch of different
worlds is a `vmap` over them.
"""

import dataclasses
from typing import Any, NamedTuple, Self

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm import fields
from jepa_wm.envs import environment, episodic

REWARDS = ('sparse', 'dense')
"""One at success and zero elsewhere, or minus the distance left, in the world's
unit."""

OBSERVATIONS = ('pixels', 'state')
"""Pictures `pixels` and `goal`, or the true vectors of both, `[2 V]`."""


@flax.struct.dataclass
class GoalWorldParams:
  """The arrays of a `GoalWorld`.

  Attributes:
    world: a JAX world; its factors of variation are leaves.
    max_steps: int32 scalar, steps after which an episode is cut.
  """

  world: Any
  max_steps: jax.Array

  @property
  def max_steps_in_episode(self) -> jax.Array:
    """What gymnax calls `max_steps`, and rejax asks for."""
    return self.max_steps


class GoalWorldState(NamedTuple):
  """Where an episode is.

  Attributes:
    world: the world's state; its target is the goal.
    goal: a state of the world.
    time: int32 scalar, steps played.
  """

  world: environment.State
  goal: environment.State
  time: jax.Array


@dataclasses.dataclass(frozen=True, eq=False)
class GoalWorld(episodic.AutoReset):
  """A world that rewards reaching a goal, and ends there; `make` makes one.

  Attributes:
    reward: one of `REWARDS`.
    observation: one of `OBSERVATIONS`.
    low: lower bounds of a raw action, `[A]`.
    high: upper bounds.

  Raises:
    ValueError: no such reward or observation.
  """

  reward: str
  observation: str
  low: np.ndarray
  high: np.ndarray

  def __post_init__(self) -> None:
    fields.check_choice('reward', self.reward, REWARDS)
    fields.check_choice('observation', self.observation, OBSERVATIONS)

  def __deepcopy__(self, memo: Any) -> Self:
    """Itself: nothing of it changes, and programs know it by identity."""
    return self

  def reset(
    self, rng_key: jax.Array, params: GoalWorldParams
  ) -> tuple[Any, GoalWorldState]:
    """Draws a start and a goal; what is seen, and the state."""
    world = params.world
    start, goal = map(world.reset, jax.random.split(rng_key))
    # Whoever looks at the target sees the goal.
    start = dataclasses.replace(start, target=world.vector(goal))
    state = GoalWorldState(start, goal, jnp.int32(0))
    return self.observe(state, params), state

  def step_env(
    self,
    rng_key: jax.Array,
    state: GoalWorldState,
    action: jax.Array,
    params: GoalWorldParams,
  ) -> episodic.Step:
    """Plays a raw action `[A]`, clipped to the bounds; nothing is reset.

    Args:
      rng_key: not used: worlds are deterministic.
      state: of `reset` or a step.
      action: `[A]`.
      params: see there.

    Returns:
      What came of it; `info` has `reached`, and `distance` in the world's unit.

    Raises:
      ValueError: an action of another shape.
    """
    del rng_key
    if jnp.shape(action) != self.low.shape:
      raise ValueError(
        f'action: expected {list(self.low.shape)}, one raw action, got '
        f'{list(jnp.shape(action))}; batches go through jax.vmap.'
      )
    world = params.world
    after = world.step(state.world, jnp.clip(action, self.low, self.high))
    reached = world.success(after, state.goal)
    distance = jnp.asarray(world.distance(after, state.goal), jnp.float32)
    moved = GoalWorldState(after, state.goal, state.time + 1)
    sparse = self.reward == 'sparse'
    return episodic.Step(
      self.observe(moved, params),
      moved,
      reached.astype(jnp.float32) if sparse else -distance,
      reached,
      ~reached & (moved.time >= params.max_steps),
      {'reached': reached, 'distance': distance},
    )

  def observe(self, state: GoalWorldState, params: GoalWorldParams) -> Any:
    """What is seen; see `OBSERVATIONS`."""
    world = params.world
    if self.observation == 'pixels':
      return {
        'pixels': world.render(state.world),
        'goal': world.render(state.goal),
      }
    vectors = world.vector(state.world), world.vector(state.goal)
    return jnp.concatenate([jnp.asarray(x, jnp.float32) for x in vectors])

  def action_space(self, params: GoalWorldParams) -> episodic.Box:
    """Raw actions `[A]` within the bounds."""
    del params
    return episodic.Box(self.low, self.high, self.low.shape)

  def observation_space(self, params: GoalWorldParams) -> episodic.Space:
    """Two pictures, or two vectors."""
    if self.observation == 'pixels':
      size = params.world.image_size
      picture = episodic.Box(0, 255, (size, size, 3), np.uint8)
      return {'pixels': picture, 'goal': picture}
    seen, _ = jax.eval_shape(self.reset, jax.random.key(0), params)
    return episodic.Box(-np.inf, np.inf, seen.shape)


def make(
  world: environment.Environment,
  *,
  reward: str = 'sparse',
  observation: str = 'pixels',
  max_steps: int = 150,
) -> tuple[GoalWorld, GoalWorldParams]:
  """A JAX world as one that RL code plays.

  Args:
    world: the world.
    reward: one of `REWARDS`.
    observation: one of `OBSERVATIONS`.
    max_steps: steps after which an episode is cut.

  Returns:
    The environment and its params.

  Raises:
    ValueError: no such reward or observation, or no steps.
  """
  environment.check_simulated(world)
  if not 1 <= max_steps < 2**31 or max_steps != int(max_steps):
    raise ValueError(
      'max_steps: expected a whole number of at least 1 and below 2**31, got '
      f'{max_steps}.'
    )
  low, high = (
    np.asarray(x, np.float32) for x in (world.action_low, world.action_high)
  )
  env = GoalWorld(reward, observation, low, high)
  return env, GoalWorldParams(world, jnp.int32(max_steps))
