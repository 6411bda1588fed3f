"""The arrays of a latent environment, and what is wrong with them."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm import world_model
from jepa_wm.models import acting
from jepa_wm.rl import rewards
from jepa_wm.types import Params
from jepa_wm.units import ActionStatistics


@flax.struct.dataclass
class EnvironmentParams:
  """Every array of a `LatentEnvironment`: none is baked into its programs.

  New ones compile nothing anew, and a `vmap` over stacked ones is an ensemble.

  Attributes:
    model: the world model's variables.
    units: of its actions.
    starts: `[M, L, D]`, latents of the frames that an episode starts from,
      newest last; drawn uniformly.
    start_actions: `[M, L - 1, A]`, normalised blocks between them.
    goals: `[G, D]`, latents to reach.
    goal_ranges: int32 `[M, 2]`, of each start the first of `goals` that may be
      its goal and the one behind the last; drawn uniformly between the two.
    reach: scalar, distance below which a goal counts as reached.
    discount: scalar, what a block later counts.
    max_steps: int32 scalar, blocks after which an episode is cut.
    reward: pytree that the reward reads besides (`rewards.RewardParams.own`).
    distance: pytree that the distance reads, a head's parameters say.
  """

  model: Params
  units: ActionStatistics
  starts: jax.Array
  start_actions: jax.Array
  goals: jax.Array
  goal_ranges: jax.Array
  reach: jax.Array
  discount: jax.Array
  max_steps: jax.Array
  reward: Params = ()
  distance: Params = ()

  @property
  def weights(self) -> rewards.RewardParams:
    """What a reward is given of them."""
    return rewards.RewardParams(
      self.reach, self.discount, self.reward, self.distance
    )

  @property
  def max_steps_in_episode(self) -> jax.Array:
    """What gymnax calls `max_steps`, and rejax asks for."""
    return self.max_steps


def make(
  model: world_model.WorldModel,
  starts: Any,
  goals: Any,
  *,
  start_actions: Any = None,
  goal_ranges: Any = None,
  reach: float,
  discount: float = 0.97,
  max_steps: int = 30,
  reward: Params = (),
  distance: Params = (),
) -> EnvironmentParams:
  """The arrays of an environment, checked; see `EnvironmentParams`.

  Args:
    model: whose latents they are.
    starts: `[M, D]` or `[M, L, D]`.
    goals: `[G, D]`.
    start_actions: `[M, L - 1, A]`, left out where `L` is 1.
    goal_ranges: all goals for every start if left out.
    reach: above 0.
    discount: 0..1.
    max_steps: at least 1.
    reward: what the reward reads besides.
    distance: what the distance reads.

  Raises:
    ValueError: arrays of another size than the model's, empty or with NaN in
      them, or numbers out of their range.
  """
  level = model.levels[0]
  starts = np.asarray(starts, np.float32)
  starts = starts[:, None] if starts.ndim == 2 else starts
  goals = np.asarray(goals, np.float32)
  _check_latents('starts', starts, '[M, L, D]', level.model.latent_dim)
  _check_latents('goals', goals, '[G, D]', level.model.latent_dim)
  if start_actions is None:
    start_actions = np.zeros((len(starts), 0, level.model.action_spec.size))
  # Says what does not fit.
  jax.eval_shape(
    lambda *given: acting.start(level.model, *given),
    model.params,
    starts,
    start_actions,
  )
  _check_finite('start_actions', start_actions)
  if goal_ranges is None:
    goal_ranges = np.tile([0, len(goals)], (len(starts), 1))
  _check_ranges(np.asarray(goal_ranges), len(starts), len(goals))
  check_numbers(reach=reach, discount=discount, max_steps=max_steps)
  return EnvironmentParams(
    model=model.params,
    units=jax.tree.map(jnp.asarray, level.units),
    starts=jnp.asarray(starts),
    start_actions=jnp.asarray(start_actions, jnp.float32),
    goals=jnp.asarray(goals),
    goal_ranges=jnp.asarray(goal_ranges, jnp.int32),
    reach=jnp.float32(reach),
    discount=jnp.float32(discount),
    max_steps=jnp.int32(max_steps),
    reward=reward,
    distance=distance,
  )


def check_numbers(
  *, reach: float = 1.0, discount: float = 1.0, max_steps: int = 1
) -> None:
  """Refuses numbers of an environment that are out of their range.

  Args:
    reach: above 0.
    discount: 0..1.
    max_steps: at least 1, of 31 bits.

  Raises:
    ValueError: names the first.
  """
  for name, number, wanted, is_in in (
    ('reach', reach, 'a distance above 0', lambda x: 0.0 < x < np.inf),
    ('discount', discount, '0 to 1', lambda x: 0.0 <= x <= 1.0),
    (
      'max_steps',
      max_steps,
      'a whole number of at least 1 block and below 2**31',
      lambda x: 1 <= x < 2**31 and x == int(x),
    ),
  ):
    if np.ndim(number) or isinstance(number, str) or not is_in(number):
      raise ValueError(f'{name}: expected {wanted}, got {number!r}.')


def _check_latents(name: str, value: np.ndarray, axes: str, size: int) -> None:
  if value.ndim != axes.count(',') + 1 or value.shape[-1] != size:
    raise ValueError(
      f'{name}: expected {axes}, latents of size {size} as this model has '
      f'them, got shape {list(value.shape)}.'
    )
  if not len(value):
    raise ValueError(f'{name}: expected at least one row, got none.')
  _check_finite(name, value)


def _check_finite(name: str, value: Any) -> None:
  rows = np.isfinite(np.reshape(value, (len(value), -1)))
  sound = np.asarray(rows.all(axis=-1))
  if not sound.all():
    raise ValueError(
      f'{name}: expected finite numbers, got NaN or infinity in '
      f'{np.sum(~sound)} of {len(sound)} rows, the first of them row '
      f'{np.argmin(sound)}.'
    )


def _check_ranges(ranges: np.ndarray, num_starts: int, num_goals: int) -> None:
  fits = ranges.shape == (num_starts, 2)
  if fits:
    first, end = ranges.T
    fits = bool(np.all((first >= 0) & (first < end) & (end <= num_goals)))
  if not fits:
    raise ValueError(
      f'goal_ranges: expected [{num_starts}, 2], for every start a range that '
      f'is not empty within the {num_goals} goals, got shape '
      f'{list(ranges.shape)}{" with others" if ranges.size else ""}.'
    )
