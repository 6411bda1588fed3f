"""The model as a world of its own: an environment on latents, for RL code.

  env, params = rl.from_world(model, world, num=2048, rng_key=key)
  observation, state = env.reset(key, params)
  step = env.step(key, state, env.action_space(params).sample(key), params)

An observation is `[latent, goal latent]`, an action a block of raw actions in
the world's bounds, a step one block of the model. Nothing that learns from it
sees normalised units.
"""

import dataclasses
import functools
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm import exports, world_model
from jepa_wm.envs import episodic
from jepa_wm.models.heads import head
from jepa_wm.rl import reach as reach_lib
from jepa_wm.rl import rewards
from jepa_wm.rl.environment_params import EnvironmentParams
from jepa_wm.types import LatentState


class EnvironmentState(NamedTuple):
  """Where an episode is; of one shape throughout.

  Attributes:
    latent: the model's state.
    goal: `[D]`.
    time: int32 scalar, blocks played.
  """

  latent: LatentState
  goal: jax.Array
  time: jax.Array


@dataclasses.dataclass(frozen=True, eq=False)
class LatentEnvironment(episodic.AutoReset):
  """An `episodic.Episodic` of one model; `starts.from_world` makes one.

  A step that leads to NaN or infinity, by the action, the model or the reward,
  is not taken: the episode is truncated where it was, for no reward, and
  `info['broken']` is true.

  Attributes:
    model: steps the latents. Its `params` and `units` are not looked at: those
      of `EnvironmentParams` are.
    reward_fn: what a step is worth.
    low: lower bounds of a raw action, `[raw]`.
    high: upper bounds.
    reach: how the radius of success came about that its first params had.
    distance_fn: of a latent from the goal, called with
      `EnvironmentParams.distance`; the model's own where None.

  Raises:
    ValueError: a model without dynamics, or bounds that do not fit it.
  """

  model: world_model.WorldModel
  reward_fn: rewards.RewardFn
  low: tuple[float, ...]
  high: tuple[float, ...]
  reach: reach_lib.Reach
  distance_fn: rewards.DistanceFn | None = None

  def __post_init__(self) -> None:
    # Both say what is wrong: no dynamics, other bounds.
    self.model.action_bounds(np.array(self.low), np.array(self.high))
    bounds = np.array([self.low, self.high])
    if not (np.isfinite(bounds).all() and np.all(bounds[0] < bounds[1])):
      raise ValueError(
        'low: expected bounds below high, finite ones, got '
        f'{list(self.low)} and {list(self.high)}.'
      )
    rewards.check_function('reward_fn', self.reward_fn)

  def __deepcopy__(self, memo: Any) -> Self:
    """Itself: nothing of it changes, and programs know it by identity."""
    return self

  def reset(
    self, rng_key: jax.Array, params: EnvironmentParams
  ) -> tuple[jax.Array, EnvironmentState]:
    """Draws a start and a goal.

    Args:
      rng_key: consumed.
      params: see there.

    Returns:
      What is seen, `[2 D]`, and the state.

    Raises:
      ValueError: starts or goals of another latent size than the model's.
    """
    size = self.model.model.latent_dim
    for name, rows in (('starts', params.starts), ('goals', params.goals)):
      if rows.shape[-1] != size:
        raise ValueError(
          f'{name}: expected latents of size {size} of this model, got shape '
          f'{list(rows.shape)}.'
        )
    start_key, goal_key = jax.random.split(rng_key)
    row = jax.random.randint(start_key, (), 0, len(params.starts))
    first, end = params.goal_ranges[row]
    goal = params.goals[jax.random.randint(goal_key, (), first, end)]
    latent = self.model.start_from(
      params.model, params.starts[row], params.start_actions[row]
    )
    state = EnvironmentState(latent, goal, jnp.int32(0))
    return self.observe(state), state

  def step_env(
    self,
    rng_key: jax.Array,
    state: EnvironmentState,
    action: jax.Array,
    params: EnvironmentParams,
  ) -> episodic.Step:
    """Plays a block; nothing is reset.

    Args:
      rng_key: of what the model draws, consumed.
      state: of `reset` or a step.
      action: `[block * raw]`, raw actions one after another, clipped to the
        bounds.
      params: see there.

    Returns:
      What came of it; `info` has `reached`, `distance` of the latent from the
      goal, `discount` of what follows (0 after the end), and `broken`.

    Raises:
      ValueError: an action or a reward of another shape.
    """
    block = params.units.normalize(self.clip(action))
    before = self.model.latent(state.latent)
    latent = self.model.dynamics(params.model, rng_key, block, state.latent)
    after = self.model.latent(latent)
    given = rewards.outcome(
      self.reward_fn, params.weights, before, block, after, state.goal
    )
    is_sound = jnp.all(jnp.isfinite(after)) & jnp.isfinite(given.reward)
    latent = jax.tree.map(
      lambda new, old: jnp.where(is_sound, new, old), latent, state.latent
    )
    moved = EnvironmentState(latent, state.goal, state.time + 1)
    terminated = is_sound & (given.ends >= 0.5)
    is_late = moved.time >= params.max_steps
    distance = self.distance(params, self.model.latent(latent), state.goal)
    return episodic.Step(
      self.observe(moved),
      moved,
      jnp.where(is_sound, given.reward, 0.0),
      terminated,
      ~terminated & (is_late | ~is_sound),
      {
        'reached': distance < params.reach,
        'distance': distance,
        'discount': jnp.where(terminated, 0.0, params.discount),
        'broken': ~is_sound,
      },
    )

  def observe(self, state: EnvironmentState) -> jax.Array:
    """What is seen, `[2 D]`: the newest latent, then the goal's."""
    return jnp.concatenate([self.model.latent(state.latent), state.goal])

  def distance(
    self, params: EnvironmentParams, latents: jax.Array, goal: jax.Array
  ) -> jax.Array:
    """How far latents `[..., D]` are from goals: `[...]`, see `reach`."""
    if self.distance_fn is None:
      return self.model.levels[0].model.distance(latents, goal)
    return rewards.measured(self.distance_fn, params.distance, latents, goal)

  def action_space(self, params: EnvironmentParams) -> episodic.Box:
    """Blocks of raw actions, `[block * raw]`, within the world's bounds."""
    del params
    return self._action_box

  def observation_space(self, params: EnvironmentParams) -> episodic.Box:
    """Two latents, unbounded."""
    size = 2 * params.goals.shape[-1]
    return episodic.Box(-np.inf, np.inf, (size,))

  @property
  def sizes(self) -> head.Sizes:
    """What a head must know that acts or prices here."""
    return exports.head_sizes(
      self.model, np.array(self.low), np.array(self.high)
    )

  def clip(self, action: jax.Array) -> jax.Array:
    """A raw action `[block * raw]` within the bounds.

    Raises:
      ValueError: an action of another shape.
    """
    space = self._action_box
    action = jnp.asarray(action)
    if jnp.shape(action) != space.shape:
      raise ValueError(
        f'action: expected {list(space.shape)}, a block of '
        f'{self.model.action_block} raw actions of {len(self.low)} one after '
        f'another, got {list(jnp.shape(action))}; batches go through jax.vmap.'
      )
    return jnp.clip(action, space.low, space.high)

  @functools.cached_property
  def _action_box(self) -> episodic.Box:
    low, high = (
      np.tile(np.asarray(x, np.float32), self.model.action_block)
      for x in (self.low, self.high)
    )
    return episodic.Box(low, high, low.shape)
