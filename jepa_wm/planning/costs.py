"""What a step costs: distances to a goal, what they are made of, and when.

The distances take the latent itself as the state. A state that holds more is
read first (`reading`), a goal of several parts is priced part by part
(`per_part`), and of several goals the nearest counts (`nearest_goal`). Each of
these takes `CostFn`s and returns one, so they nest.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm.planning import moments
from jepa_wm.types import CostFn, LatentState, Params


def squared_distance(
  params: Params, latent: jax.Array, action: jax.Array, goal: jax.Array
) -> jax.Array:
  """Sum of squared differences to the goal's latent.

  Args:
    params: not used.
    latent: `[B, N, ...]`; its trailing axes are read as one vector.
    action: not used.
    goal: `[B, 1, ...]`, the same trailing shape as `latent`.

  Returns:
    `[B, N]` float32.

  Raises:
    ValueError: the trailing shapes of `latent` and `goal` differ.

  Source: LeWM (stable-worldmodel's `get_cost`): a sum, not a mean, over D.
  """
  del params, action
  latent, goal = _vectors(latent, goal)
  return jnp.sum((latent - goal) ** 2, axis=-1)


def l1_distance(
  params: Params, latent: jax.Array, action: jax.Array, goal: jax.Array
) -> jax.Array:
  """Sum of absolute differences; arguments as for `squared_distance`.

  Source: V-JEPA 2-AC (arXiv 2506.09985), whose mean over all entries is this
    sum divided by their number: the same ranking, another scale.
  """
  del params, action
  latent, goal = _vectors(latent, goal)
  return jnp.sum(jnp.abs(latent - goal), axis=-1)


def l2_distance(
  params: Params, latent: jax.Array, action: jax.Array, goal: jax.Array
) -> jax.Array:
  """Euclidean distance; arguments as for `squared_distance`.

  Its gradient at the goal itself is zero.
  """
  square = squared_distance(params, latent, action, goal)
  apart = square > 0.0
  # Both branches of a `where` have a gradient, and the root's is infinite at 0.
  return jnp.where(apart, jnp.sqrt(jnp.where(apart, square, 1.0)), 0.0)


def cosine_distance(
  params: Params, latent: jax.Array, action: jax.Array, goal: jax.Array
) -> jax.Array:
  """One minus the cosine of the angle; arguments as for `squared_distance`.

  From 0 to 2, and 1 where one of the two is zero.
  """
  del params, action
  latent, goal = _vectors(latent, goal)
  squares = jnp.sum(latent**2, axis=-1) * jnp.sum(goal**2, axis=-1)
  product = jnp.sum(latent * goal, axis=-1)
  positive = squares > 0.0
  return 1.0 - jnp.where(
    positive, product / jnp.sqrt(jnp.where(positive, squares, 1.0)), 0.0
  )


DISTANCES: Mapping[str, Callable[..., jax.Array]] = {
  'squared': squared_distance,
  'l1': l1_distance,
  'l2': l2_distance,
  'cosine': cosine_distance,
}
"""The distances by name."""


def reading(
  read_fn: Callable[[LatentState], Any],
  cost_fn: CostFn,
  *,
  read_goal_fn: Callable[[Any], Any] | None = None,
) -> CostFn:
  """Prices what is read from a state.

  Args:
    read_fn: state, leaves `[B, N, ...]`, to what `cost_fn` takes for one.
    cost_fn: of that.
    read_goal_fn: the same for the goal, leaves `[B, 1, ...]`, which is handed
      on as it is by default.
  """

  def cost(
    params: Params, state: LatentState, action: jax.Array, goal: Any
  ) -> Any:
    goal = goal if read_goal_fn is None else read_goal_fn(goal)
    return cost_fn(params, read_fn(state), action, goal)

  return cost


def weighted_sum(*terms: tuple[float, CostFn]) -> CostFn:
  """Adds up prices of the same state.

  Args:
    *terms: `(weight, cost_fn)`.

  Raises:
    ValueError: no terms.
  """
  if not terms:
    raise ValueError('weighted_sum needs at least one (weight, cost_fn).')

  def cost(
    params: Params, state: LatentState, action: jax.Array, goal: Any
  ) -> Any:
    return sum(
      weight * cost_fn(params, state, action, goal) for weight, cost_fn in terms
    )

  return cost


def per_part(
  cost_fns: Mapping[str, CostFn], weights: Mapping[str, float] | None = None
) -> CostFn:
  """Prices the parts of a state against those of the goal, and adds up.

  State and goal are mappings with (at least) the keys of `cost_fns`, such as
  'latent' and 'proprio'; `reading` makes one of a state that is none.

  Args:
    cost_fns: by the name of the part.
    weights: what a part counts, 1 where not given.

  Raises:
    ValueError: no parts, or a weight for none of them; and when it prices, a
      state or goal that lacks one.
  """
  cost_fns, weights = dict(cost_fns), dict(weights or {})
  if not cost_fns:
    raise ValueError('cost_fns must name at least one part, got none.')
  if unknown := weights.keys() - cost_fns.keys():
    raise ValueError(
      f'weights must be of the parts {sorted(cost_fns)}, got one for'
      f' {sorted(unknown)}.'
    )

  def cost(
    params: Params, state: LatentState, action: jax.Array, goal: Any
  ) -> Any:
    for name, tree in (('state', state), ('goal', goal)):
      parts = sorted(tree) if isinstance(tree, Mapping) else type(tree).__name__
      if not isinstance(tree, Mapping) or not cost_fns.keys() <= tree.keys():
        raise ValueError(
          f'the {name} must hold the parts {sorted(cost_fns)}, got {parts}.'
        )
    return sum(
      weights.get(part, 1.0) * cost_fn(params, state[part], action, goal[part])
      for part, cost_fn in cost_fns.items()
    )

  return cost


def nearest_goal(cost_fn: CostFn) -> CostFn:
  """Prices the cheapest of several goals, whichever that is at each step.

  Args:
    cost_fn: of one goal, leaves `[B, 1, ...]`.

  Returns:
    A `CostFn` for M goals, leaves `[B, 1, M, ...]`; when it prices, it raises
    ValueError where they disagree about M.
  """
  return functools.partial(_over_goals, cost_fn, jnp.min)


def mean_over_goals(cost_fn: CostFn) -> CostFn:
  """Prices the mean over several goals; otherwise as `nearest_goal`."""
  return functools.partial(_over_goals, cost_fn, jnp.mean)


def _over_goals(
  cost_fn: CostFn,
  reduce_fn: Callable[..., jax.Array],
  params: Params,
  state: LatentState,
  action: jax.Array,
  goal: Any,
) -> jax.Array:
  shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(goal)]
  numbers = {shape[2] if len(shape) > 2 else None for shape in shapes}
  if len(numbers) != 1 or None in numbers:
    raise ValueError(
      'every leaf of several goals must be [B, 1, M, ...], with the same number'
      f' of goals M, got shapes {[list(shape) for shape in shapes]}.'
    )
  price: Any = jax.vmap(cost_fn, in_axes=(None, None, None, 2))
  return reduce_fn(price(params, state, action, goal), axis=0)


STEP_WEIGHTS: Mapping[str, Callable[[int], np.ndarray]] = {
  'last': lambda horizon: np.eye(horizon)[-1],
  'all': lambda horizon: np.full(horizon, 1.0 / horizon),
  'linear': lambda horizon: (
    np.arange(1, horizon + 1) / (horizon * (horizon + 1) / 2)
  ),
}
"""The kinds of `step_weights` by name."""


def step_weights(horizon: int, kind: str = 'last') -> np.ndarray:
  """How much the cost of each step counts, summing to one.

  A planner takes any other array of this shape as well.

  Args:
    horizon: H, the number of steps.
    kind: 'last' counts only where the sequence ends; 'all' is the mean over
      steps, which prefers reaching the goal early; 'linear' lies between: the
      weights grow by the same amount from step to step.

  Returns:
    `[H]` float32, NumPy, because a rollout looks at it while tracing.

  Raises:
    ValueError: there is no such kind, or the horizon is empty.
  """
  if horizon < 1:
    raise ValueError(f'horizon must be at least 1, got {horizon}.')
  if kind not in STEP_WEIGHTS:
    raise ValueError(
      f'kind must be one of {", ".join(map(repr, STEP_WEIGHTS))}, got {kind!r}.'
    )
  return STEP_WEIGHTS[kind](horizon).astype(np.float32)


def over_steps(
  kind: str, horizon: int, cost_fn: CostFn
) -> tuple[CostFn, np.ndarray | None]:
  """A cost, and its step weights, by a name of `COSTS`.

  Args:
    kind: one of `step_weights`, or 'soonest': the least of all steps.
    horizon: H.
    cost_fn: the price of a step.
  """
  if kind == 'soonest':
    return moments.soonest(cost_fn), None
  return cost_fn, step_weights(horizon, kind)


COSTS = (*STEP_WEIGHTS, 'soonest')
"""What of a rollout can count, by name."""


def _vectors(latent: jax.Array, goal: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Latents `[B, N, ...]` and goals `[B, 1, ...]` as float32 vectors.

  Raises:
    ValueError: no goal, or their trailing shapes differ.
  """
  if goal is None:
    raise ValueError(
      'a distance needs a goal, and the root has none: give it one, or a '
      'cost_fn that looks at no goal.'
    )
  if latent.shape[2:] != goal.shape[2:]:
    raise ValueError(
      'the goal must have the shape of the latent it is compared with,'
      f' {list(latent.shape[2:])} after the leading axes, got'
      f' {list(goal.shape[2:])}.'
    )
  # Half precision would round costs of close candidates to ties.
  latent, goal = (
    x.reshape(*x.shape[:2], -1).astype(jnp.float32) for x in (latent, goal)
  )
  return latent, goal
