"""What a step in latents is worth, and whether it ends the episode.

A reward is one function of `(params, latents, action, next_latents, goal)` with
any leading dims. Every array that it needs comes in `params`: radius and
discount, and the arrays of its own (a head's parameters), so that nothing is
baked into programs and a `vmap` over `params` is as many rewards.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jepa_wm.planning import checks
from jepa_wm.types import Params

# What the functions of callers take, for messages.
_STEP = '(params, latents, action, next_latents, goal)'
_PRICE = '(params, latents, goal)'

DistanceFn = Callable[[Params, jax.Array, jax.Array], jax.Array]
"""`(params, latents [..., D], goal [..., D]) -> [...]`, such as the role `cost`
of a head `temporal_distance`; called with `RewardParams.distance`."""

PotentialFn = Callable[['RewardParams', jax.Array, jax.Array], jax.Array]
"""`(params, latents [..., D], goal [..., D]) -> [...]`, high near the goal."""


class RewardParams(NamedTuple):
  """The arrays of a reward.

  Attributes:
    reach: scalar, distance below which a goal counts as reached; see `reach`.
    discount: scalar, what a block later counts, for `shaped`.
    own: pytree of what else the reward reads, a head's parameters say.
    distance: pytree that the distance reads, if it is a head's.
  """

  reach: jax.Array | float
  discount: jax.Array | float = 0.97
  own: Params = ()
  distance: Params = ()


class Outcome(NamedTuple):
  """What a step came to.

  Attributes:
    reward: `[...]` float32.
    ends: `[...]` float32, 1 where the episode ends there and 0 where it goes
      on; between the two for a soft reward, which gradients pass.
  """

  reward: jax.Array
  ends: jax.Array


class Measure(NamedTuple):
  """How far latents are from a goal.

  Attributes:
    distance_fn: says it.
    params: pytree that it reads, a head's parameters say.
    name: of it, for reports.
  """

  distance_fn: DistanceFn
  params: Params = ()
  name: str = 'distance'


RewardFn = Callable[
  [RewardParams, jax.Array, jax.Array, jax.Array, jax.Array], Outcome
]
"""`(params, latents [..., D], action [..., A], next_latents [..., D], goal
[..., D]) -> Outcome`, the action a normalised block."""


def squared_distance(
  params: Params, latents: jax.Array, goal: jax.Array
) -> jax.Array:
  """Sum of squared differences `[...]` of latents `[..., D]`; LeWM's."""
  del params
  return jnp.sum(jnp.square(latents - goal), axis=-1)


def measured(
  distance_fn: DistanceFn, params: Params, latents: jax.Array, goal: jax.Array
) -> jax.Array:
  """How far latents `[..., D]` are from goals by a distance of a caller.

  Raises:
    ValueError: a function of other arguments.
  """
  found: jax.Array = checks.call(
    'distance_fn', _PRICE, distance_fn, params, latents, goal
  )
  return found


def reached(
  *, softness: float = 0.0, distance_fn: DistanceFn = squared_distance
) -> RewardFn:
  """One where the goal is reached, which ends the episode, and zero elsewhere.

  Args:
    softness: 0 for a step at the radius; above 0 for the sigmoid of what is
      left to it, in units of `softness` radii, which has a gradient.
    distance_fn: of a latent from the goal.

  Raises:
    ValueError: a negative softness.
  """
  if not softness >= 0.0:
    raise ValueError(f'softness must be at least 0, got {softness}.')

  def reward(
    params: RewardParams,
    latents: jax.Array,
    action: jax.Array,
    next_latents: jax.Array,
    goal: jax.Array,
  ) -> Outcome:
    del latents, action
    left = params.reach - measured(
      distance_fn, params.distance, next_latents, goal
    )
    if softness:
      there = jax.nn.sigmoid(left / (softness * params.reach))
    else:
      there = (left > 0.0).astype(jnp.float32)
    return Outcome(there, there)

  return reward


def from_cost(
  cost_fn: Callable[[Params, jax.Array, jax.Array], jax.Array],
  *,
  distance_fn: DistanceFn = squared_distance,
) -> RewardFn:
  """Minus a price of where the step led; the episode ends within the radius.

  Args:
    cost_fn: `(params, latents [..., D], goal [..., D]) -> [...]`, a head's role
      `cost`; called with `RewardParams.own`.
    distance_fn: of a latent from the goal, for the radius.
  """
  check_function('cost_fn', cost_fn)

  def role(
    params: Params,
    latents: jax.Array,
    action: jax.Array,
    next_latents: jax.Array,
    goal: jax.Array,
  ) -> jax.Array:
    del latents, action
    return -checks.call('cost_fn', _PRICE, cost_fn, params, next_latents, goal)

  return from_role(role, distance_fn=distance_fn)


def negative_distance(
  *, distance_fn: DistanceFn = squared_distance
) -> RewardFn:
  """Minus the distance left; the episode ends within the radius.

  Args:
    distance_fn: of a latent from the goal.
  """
  arrives = reached(distance_fn=distance_fn)

  def reward(params: RewardParams, *step: jax.Array) -> Outcome:
    *_, next_latents, goal = step
    left = measured(distance_fn, params.distance, next_latents, goal)
    return Outcome(-left, arrives(params, *step).ends)

  return reward


def from_function(
  function: Callable[[jax.Array, jax.Array, jax.Array, jax.Array], jax.Array],
  *,
  ends_within_reach: bool = True,
  distance_fn: DistanceFn = squared_distance,
) -> RewardFn:
  """A function of one's own of latents, action, next latents and goal.

  Args:
    function: `(latents, action, next_latents, goal) -> [...]`.
    ends_within_reach: whether reaching the goal ends the episode; if not, the
      clock alone does.
    distance_fn: of a latent from the goal, for the radius.
  """
  signature = '(latents, action, next_latents, goal)'
  return from_role(
    lambda params, *step: checks.call('function', signature, function, *step),
    ends_within_reach=ends_within_reach,
    distance_fn=distance_fn,
  )


def from_role(
  role: Callable[..., jax.Array],
  *,
  ends_within_reach: bool = True,
  distance_fn: DistanceFn = squared_distance,
) -> RewardFn:
  """What a head says of a step.

  Args:
    role: `(params, latents, action, next_latents, goal) -> [...]`, a head's
      role `reward`; called with `RewardParams.own`.
    ends_within_reach: see `from_function`.
    distance_fn: of a latent from the goal, for the radius.
  """
  check_function('role', role)
  arrives = reached(distance_fn=distance_fn)

  def reward(params: RewardParams, *step: jax.Array) -> Outcome:
    given = checks.call('role', _STEP, role, params.own, *step)
    ends = arrives(params, *step).ends
    if not ends_within_reach:
      ends = jnp.zeros_like(ends)
    return Outcome(given, ends)

  return reward


def root_potential(
  params: RewardParams, latents: jax.Array, goal: jax.Array
) -> jax.Array:
  """Minus the distance in units of what unit Gaussian latents are apart.

  `-|z - g| / sqrt(2 D)`: about -1 of latents that have nothing to do with each
  other, 0 at the goal.
  """
  del params
  # The root's gradient is infinite at 0.
  distance = jnp.sqrt(squared_distance((), latents, goal) + 1e-6)
  return -distance / (2.0 * latents.shape[-1]) ** 0.5


def shaped(
  reward_fn: RewardFn, potential_fn: PotentialFn = root_potential
) -> RewardFn:
  """A reward plus what the step gains in potential.

  `r + discount * phi(z') - phi(z)`, with `phi = 0` after the end: which policy
  is best does not change (Ng, Harada and Russell, ICML 1999, theorem 1).

  Args:
    reward_fn: what counts.
    potential_fn: `phi`; how near the goal is, by default.
  """

  def reward(
    params: RewardParams,
    latents: jax.Array,
    action: jax.Array,
    next_latents: jax.Array,
    goal: jax.Array,
  ) -> Outcome:
    step = latents, action, next_latents, goal
    given = outcome(reward_fn, params, *step)
    potential = functools.partial(
      checks.call, 'potential_fn', _PRICE, potential_fn, params
    )
    later = (1.0 - given.ends) * potential(next_latents, goal)
    gain = params.discount * later - potential(latents, goal)
    return given._replace(reward=given.reward + gain)

  return reward


def outcome(
  reward_fn: RewardFn,
  params: RewardParams,
  latents: jax.Array,
  action: jax.Array,
  next_latents: jax.Array,
  goal: jax.Array,
) -> Outcome:
  """What `reward_fn` gives for a step, checked and in float32.

  Raises:
    ValueError: a function of other arguments, no `Outcome`, or one of another
      shape than the latents have before their last axis.
  """
  step = params, latents, action, next_latents, goal
  found: Any = checks.call('reward_fn', _STEP, reward_fn, *step)
  name = getattr(reward_fn, '__qualname__', type(reward_fn).__name__)
  if not isinstance(found, Outcome):
    raise ValueError(
      f'reward_fn {name} must return a rewards.Outcome of reward and ends, got '
      f'{type(found).__name__}; rewards.from_function makes one of a function '
      'that gives the reward alone.'
    )
  lead = next_latents.shape[:-1]
  for field, value in found._asdict().items():
    if not _are_numbers(value):
      raise ValueError(
        f'reward_fn {name}: {field} must be numbers, got {value!r:.60}.'
      )
    if jnp.shape(value) != lead:
      raise ValueError(
        f'reward_fn {name}: {field} must be one number for each latent, shape '
        f'{list(lead)}, got {list(jnp.shape(value))}.'
      )
  return Outcome(*(jnp.asarray(x, jnp.float32) for x in found))


def check_function(name: str, function: Any) -> None:
  """Refuses what cannot be called, such as a role that a head has not.

  Raises:
    ValueError: it cannot.
  """
  if not callable(function):
    raise ValueError(
      f'{name}: expected a function, got {function!r:.60}; a head has the '
      'roles that docs/heads.md says, and None for the others.'
    )


def _are_numbers(value: Any) -> bool:
  """Whether arrays can be made of it that are no complex numbers."""
  try:
    kind = jnp.asarray(value).dtype
  except (TypeError, ValueError):
    return False
  return not jnp.issubdtype(kind, jnp.complexfloating)
