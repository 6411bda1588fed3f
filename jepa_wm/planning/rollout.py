"""Dynamics over action sequences, the cost added up on the way."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm import sharding
from jepa_wm.planning import costs, keys, limits, moments
from jepa_wm.types import CostFn, DynamicsFn, LatentState, Params, Root


class Prices(NamedTuple):
  """What candidates cost, and how far they pass their guardrails.

  Attributes:
    cost: `[B, N]` float32, the weighted sum of the step costs.
    excess: `[B, N, H, G]` float32, by how much each of the G guardrails is
      passed at each step; negative where there is room.
  """

  cost: jax.Array
  excess: jax.Array


def broadcast_root(root: Root, num_samples: int) -> tuple[LatentState, Any]:
  """Repeats the start of every problem for its candidates.

  Args:
    root: `state` and `goal` leaves `[B, ...]`.
    num_samples: N, how many candidates share a start.

  Returns:
    State leaves `[B, N, ...]` and goal leaves `[B, 1, ...]`.
  """

  def repeat(leaf: jax.Array) -> jax.Array:
    shape = (leaf.shape[0], num_samples, *leaf.shape[1:])
    leaf = jnp.broadcast_to(jnp.expand_dims(leaf, 1), shape)
    return sharding.constrain(leaf, 'data', 'samples')

  state = jax.tree.map(repeat, root.state)
  # No goal stays none.
  goal = jax.tree.map(lambda leaf: jnp.expand_dims(leaf, 1), root.goal)
  return state, goal


def rollout(
  params: Params,
  rng_keys: jax.Array,
  state: LatentState,
  actions: jax.Array,
  goal: Any,
  dynamics_fn: DynamicsFn,
  cost_fn: CostFn,
  *,
  step_weights: np.ndarray | jax.Array | None = None,
  guardrails: Sequence[limits.Guardrail] = (),
) -> Prices:
  """Prices action sequences; no state outlives the step after it.

  The memory is that of one state and one step, whatever the horizon. Steps
  that change the state's shapes (a history window that fills, a cache) are
  unrolled, those after them are one `lax.scan`.

  Args:
    params: first argument of `dynamics_fn` and `cost_fn`.
    rng_keys: `[B]`, one key per problem; step h hands `fold_in(key, h)` on.
    state: leaves `[B, N, ...]`, see `broadcast_root`.
    actions: `[B, N, H, A]`.
    goal: leaves `[B, 1, ...]`, handed to `cost_fn` as they are.
    dynamics_fn: one latent step.
    cost_fn: the price of one step, or what `moments` makes of such.
    step_weights: `[H]`, what the cost of each step counts (see
      `costs.step_weights`); a step of weight zero counts nothing even where
      its cost is NaN. By default the last step alone counts, and `cost_fn`
      is then called once. Numbers that are not traced are looked at.
    guardrails: G prices that are looked at after every step.

  Returns:
    The costs of the candidates, and what they have left of each guardrail.

  Raises:
    ValueError: what `dynamics_fn`, `cost_fn` or a guardrail returned is not
      `[B, N]`, or `step_weights` is not `[H]`.
  """
  batch, horizon = actions.shape[:2], actions.shape[2]
  weights = weigh(step_weights, horizon, cost_fn)
  is_soonest = isinstance(cost_fn, moments.Soonest)
  one_fn = moments.of_one(cost_fn)
  # What sees whence a step came is priced on the way.
  price_all = isinstance(one_fn, moments.Timed) or is_soonest
  price_all = price_all or not _is_last_alone(weights)

  def price(price_fn: CostFn, moment: moments.Moment) -> jax.Array:
    cost = moments.price(price_fn, params, moment, goal)
    _check_cost(cost, batch, price_fn)
    return cost.astype(jnp.float32)

  def step(carry: Any, h: jax.Array) -> Any:
    before, total = carry
    action = jax.lax.dynamic_index_in_dim(actions, h, axis=2, keepdims=False)
    state = _step(params, rng_keys, action, before, dynamics_fn, h)
    number = jnp.asarray(h, jnp.int32)
    moment = moments.Moment(
      before, action, state, number, number == horizon - 1
    )
    if is_soonest:
      total = jnp.minimum(total, price(one_fn, moment))
    elif price_all:
      weight = jnp.asarray(weights, jnp.float32)[h]
      # Not weight * cost alone: zero times NaN is NaN.
      cost = weight * price(one_fn, moment)
      total = total + jnp.where(weight == 0.0, 0.0, cost)
    passed = [
      price(guardrail.cost_fn, moment) - guardrail.bound
      for guardrail in guardrails
    ]
    return (state, total), passed

  total = jnp.full(batch, jnp.inf if is_soonest else 0.0, jnp.float32)
  (state, total), passed = scan_growing(step, (state, total), horizon)
  if not price_all:
    last = moments.Moment(
      None, actions[:, :, -1], state, jnp.int32(horizon - 1), jnp.bool_(True)
    )
    total = weights[-1] * price(one_fn, last)
  if not guardrails:
    return Prices(total, jnp.zeros((*batch, horizon, 0), jnp.float32))
  excess = [jnp.concatenate(steps) for steps in zip(*passed)]
  return Prices(total, jnp.moveaxis(jnp.stack(excess), (0, 1), (3, 2)))


def rollout_path(
  params: Params,
  rng_keys: jax.Array,
  state: LatentState,
  actions: jax.Array,
  dynamics_fn: DynamicsFn,
  *,
  read_fn: Callable[[LatentState], Any] = lambda state: state,
) -> Any:
  """Follows one action sequence per problem and keeps what it passes.

  Args:
    params: first argument of `dynamics_fn`.
    rng_keys: `[B]`, one key per problem.
    state: leaves `[B, ...]`, a root's state.
    actions: `[B, H, A]`, a plan's actions.
    dynamics_fn: one latent step.
    read_fn: picks from a state (leaves `[B, 1, ...]`) what to keep, by
      default everything. A state that grows needs one, because only leaves
      of one shape can be stacked.

  Returns:
    What `read_fn` picked after each step, leaves `[B, H, ...]`; the root
    itself is not part of it.

  Raises:
    ValueError: what `read_fn` picks changes its shape on the way, or
      `dynamics_fn` returned a leaf that is not `[B, 1, ...]`.
  """

  def step(state: LatentState, h: jax.Array) -> Any:
    action = jax.lax.dynamic_index_in_dim(actions, h, axis=1)
    state = _step(params, rng_keys, action, state, dynamics_fn, h)
    return state, read_fn(state)

  state = jax.tree.map(lambda leaf: jnp.expand_dims(leaf, 1), state)
  _, parts = scan_growing(step, state, actions.shape[1])
  if any(_avals(part, 1) != _avals(parts[0], 1) for part in parts):
    raise ValueError(
      f'read_fn {_name(read_fn)} must pick arrays of one shape at every step,'
      ' but the state grows on the way: pick the part that does not grow.'
    )
  path = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)
  return jax.tree.map(lambda leaf: jnp.moveaxis(leaf[:, :, 0], 0, 1), path)


def scan_growing(
  step: Callable[[Any, Any], tuple[Any, Any]], carry: Any, length: int
) -> tuple[Any, list[Any]]:
  """Steps `carry` one by one while its shapes change, then in one `lax.scan`.

  Args:
    step: `(carry, number) -> (carry, output)`; no later step changes shapes
      once one has not.
    carry: any pytree.
    length: number of steps.

  Returns:
    The last carry, and the outputs in order as parts of `[steps, ...]` each;
    their other axes may differ from part to part.
  """
  parts: list[Any] = []
  # Traced once, to look at the shapes and to be scanned.
  traced = jax.jit(step, inline=True)
  for number in range(length):
    after, _ = jax.eval_shape(traced, carry, np.int32(number))
    if _avals(after) == _avals(carry):
      carry, rest = jax.lax.scan(traced, carry, jnp.arange(number, length))
      return carry, [*parts, rest]
    carry, output = step(carry, number)
    parts.append(jax.tree.map(lambda leaf: jnp.expand_dims(leaf, 0), output))
  return carry, parts


def _step(
  params: Params,
  rng_keys: jax.Array,
  action: jax.Array,
  state: LatentState,
  dynamics_fn: DynamicsFn,
  h: jax.Array,
) -> LatentState:
  """Calls `dynamics_fn` with the keys of step `h` and checks its answer."""
  after = dynamics_fn(params, keys.fold_keys(rng_keys, h), action, state)
  batch = action.shape[:2]
  for path, leaf in jax.tree_util.tree_leaves_with_path(after):
    if jnp.shape(leaf)[:2] != batch:
      raise ValueError(
        f'dynamics_fn {_name(dynamics_fn)} must return leaves with leading'
        f' [B, N] = {list(batch)}, but state{jax.tree_util.keystr(path)} has'
        f' shape {list(jnp.shape(leaf))}.'
      )
  return after


def _avals(tree: Any, first_axis: int = 0) -> Any:
  """Structure, shapes (from `first_axis`) and dtypes, to compare."""
  leaves, structure = jax.tree.flatten(tree)
  return structure, [(x.shape[first_axis:], x.dtype) for x in leaves]


def weigh(
  step_weights: np.ndarray | jax.Array | None, horizon: int, cost_fn: CostFn
) -> Any:
  """Step weights `[H]` float32: as given, or as the cost has them.

  Every step of a timed cost counts 1, by default the last step alone of any
  other. Those of `soonest` are not looked at.

  Raises:
    ValueError: not one for each step, not finite or all zero; or weights
      beside `soonest`.
  """
  if isinstance(cost_fn, moments.Soonest):
    if step_weights is not None:
      raise ValueError(
        'step_weights would do nothing: soonest takes the least cost of all '
        'steps; leave one of the two out.'
      )
    return np.zeros(horizon, np.float32)
  if step_weights is None:
    if isinstance(cost_fn, moments.Timed):
      return np.ones(horizon, np.float32)
    return costs.step_weights(horizon)
  if np.shape(step_weights) != (horizon,):
    raise ValueError(
      f'step_weights must have one weight for each of the {horizon} steps of'
      f' the horizon, got shape {list(np.shape(step_weights))}.'
    )
  if isinstance(step_weights, jax.core.Tracer):
    return step_weights.astype(jnp.float32)
  weights = np.asarray(step_weights, np.float32)
  if not np.all(np.isfinite(weights)) or not np.any(weights):
    raise ValueError(
      'step_weights must be finite and at least one of them not zero, got'
      f' {weights.tolist()}.'
    )
  return weights


def _is_last_alone(weights: Any) -> bool:
  """Whether all weights but the last are known to be zero."""
  if isinstance(weights, jax.core.Tracer):
    return False
  return not np.any(weights[:-1])


def _check_cost(
  cost: jax.Array, batch: tuple[int, ...], cost_fn: CostFn
) -> None:
  shape = getattr(cost, 'shape', None)
  if shape != batch:
    got = type(cost).__name__ if shape is None else f'shape {list(shape)}'
    raise ValueError(
      f'cost_fn {_name(cost_fn)} must return one cost per candidate,'
      f' [B, N] = {list(batch)}, got {got}.'
    )
  if jnp.issubdtype(cost.dtype, jnp.complexfloating):
    raise ValueError(
      f'cost_fn {_name(cost_fn)} must return real costs, got {cost.dtype}.'
    )


def _name(fn: Callable[..., Any]) -> str:
  """How a user would call this function."""
  while isinstance(fn, functools.partial):
    fn = fn.func
  return getattr(fn, '__qualname__', type(fn).__name__)
