"""Steps that each start from a state of their own, not from the one before.

A rollout is lifted where the states between its steps are variables: a step
ends where it ends, and how far that is from where the next one starts is part
of the price.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm.planning import moments, rollout
from jepa_wm.planning.task import Task
from jepa_wm.types import CostFn, DynamicsFn, LatentState, Params

ReadFn = Callable[[LatentState], Any]
"""`state -> latent`: the part of a state that is optimised."""

WriteFn = Callable[[LatentState, Any], LatentState]
"""`(state, latent) -> state`: the state with another latent."""


class _Walker(NamedTuple):
  """The state of a lifted step, leaves `[B, N, ...]`."""

  state: LatentState
  before: LatentState  # where the last step started; None if nobody asks
  step: jax.Array  # [B, N], number of the next step
  scale: jax.Array  # [B, N], what the cost of the last step counts
  gap: jax.Array  # [B, N], how far it ended from the next virtual state


class Lift(NamedTuple):
  """How states are lifted.

  Attributes:
    read_fn: picks latents from states.
    write_fn: puts them back.
    at_once: whether all steps are one call of the dynamics.
    scale: `[H]`, what the cost of each step counts.
  """

  read_fn: ReadFn
  write_fn: WriteFn
  at_once: bool
  scale: Any


def price(
  task: Task,
  lift: Lift,
  actions: jax.Array,
  latents: Any,
  path: Any,
  rng_keys: jax.Array,
) -> rollout.Prices:
  """What actions and virtual states cost, gaps between the states included.

  Args:
    task: the problems.
    lift: how states are lifted.
    actions: `[B, N, H, A]`.
    latents: leaves `[B, N, H, ...]`, the virtual states after each step.
    path: what `follow` returned; where all steps are one call, what is no
      latent is taken from it.
    rng_keys: `[B]`, the model's.

  Returns:
    The costs of the steps, scaled, plus the squared gaps, and what is left of
    each guardrail. No gradient passes from a step to the one before.
  """
  batch, horizon = actions.shape[:2], task.problem.horizon
  state, goal = rollout.broadcast_root(task.problem.root, batch[1])
  first = lift.read_fn(state)
  starts = jax.tree.map(
    lambda leaf, like: _shift(leaf.astype(like.dtype), like), latents, first
  )
  scale = jnp.broadcast_to(lift.scale.reshape(1, 1, -1), (*batch, horizon))
  # After the last step nothing starts, so that it may end anywhere.
  counts = jnp.broadcast_to(
    (np.arange(horizon) < horizon - 1).reshape(1, 1, -1), (*batch, horizon)
  )
  number = jnp.zeros((*batch, 1), jnp.int32)
  if lift.at_once:
    state = jax.tree.map(_fold, jax.tree.map(_shift, path, state))
    actions = jnp.expand_dims(_fold(actions), 2)
    number = number + jnp.arange(horizon).reshape(1, 1, -1)

  cost_fn = moments.of_one(task.problem.cost_fn)
  priced = [cost_fn, *(rail.cost_fn for rail in task.guardrails)]
  is_timed = any(isinstance(price_fn, moments.Timed) for price_fn in priced)
  before = state if is_timed else None
  zeros = jnp.zeros(actions.shape[:2], jnp.float32)
  prices = rollout.rollout(
    task.params,
    rng_keys,
    _Walker(state, before, _fold(number), zeros, zeros),
    actions,
    goal,
    _lifted_dynamics(task, lift, (starts, latents, scale, counts)),
    _lifted_cost(task),
    step_weights=np.ones(actions.shape[2]),
    guardrails=[
      dataclasses.replace(rail, cost_fn=_lifted_price(rail.cost_fn, horizon))
      for rail in task.guardrails
    ],
  )
  if not lift.at_once:
    return prices
  return rollout.Prices(
    jnp.sum(prices.cost.reshape(*batch, horizon), axis=2),
    prices.excess.reshape(*batch, horizon, -1),
  )


def _lifted_dynamics(task: Task, lift: Lift, virtual: Any) -> DynamicsFn:
  """Steps from virtual states, the gap behind each priced.

  Args:
    task: the problems.
    lift: how states are lifted.
    virtual: starts, targets, scales and which gaps count, `[B, N, H, ...]`.
  """

  def now(step: jax.Array) -> Any:
    if lift.at_once:
      return jax.tree.map(_fold, virtual)
    return jax.tree.map(
      lambda leaf: jax.lax.dynamic_index_in_dim(leaf, step, 2, keepdims=False),
      virtual,
    )

  def dynamics(
    params: Params, rng_key: jax.Array, action: jax.Array, state: LatentState
  ) -> LatentState:
    walker: _Walker = state
    start, target, scale, counts = now(walker.step[0, 0])
    before = jax.lax.stop_gradient(lift.write_fn(walker.state, start))
    state = task.problem.dynamics_fn(params, rng_key, action, before)
    gaps = jax.tree.map(
      lambda x, y: jnp.sum((x - y) ** 2, axis=tuple(range(2, y.ndim))),
      lift.read_fn(state),
      target,
    )
    gap = jnp.where(counts, sum(jax.tree.leaves(gaps)), 0.0)
    kept = None if walker.before is None else before
    return _Walker(state, kept, walker.step + 1, scale, gap)

  return dynamics


def _lifted_cost(task: Task) -> CostFn:
  """The scaled cost of a step and the gap behind it.

  Where the least of all steps counts, here each counts by its goal weight.
  """
  price_fn = _lifted_price(
    moments.of_one(task.problem.cost_fn), task.problem.horizon
  )

  def cost(
    params: Params, state: LatentState, action: jax.Array, goal: Any
  ) -> jax.Array:
    walker: _Walker = state
    cost = walker.scale * price_fn(params, walker, action, goal)
    # As in a rollout: zero times NaN is nothing.
    return walker.gap + jnp.where(walker.scale == 0.0, 0.0, cost)

  return cost


def _lifted_price(price_fn: CostFn, horizon: int) -> CostFn:
  """The price of the state that a walker has come to."""

  def price(
    params: Params, state: LatentState, action: jax.Array, goal: Any
  ) -> jax.Array:
    walker: _Walker = state
    step = walker.step - 1
    moment = moments.Moment(
      walker.before, action, walker.state, step, step == horizon - 1
    )
    return moments.price(price_fn, params, moment, goal)

  return price


def follow(
  task: Task, lift: Lift, actions: jax.Array, rng_keys: jax.Array
) -> Any:
  """Rolls out actions `[B, N, H, A]` and keeps what is needed of the states.

  Args:
    task: the problems.
    lift: how states are lifted.
    actions: `[B, N, H, A]`.
    rng_keys: `[B]`, the model's; candidates draw alike here.

  Returns:
    Leaves `[B, N, H, ...]` after each step: whole states where all steps are
    one call, else latents.
  """

  def follow_one(actions: jax.Array) -> Any:
    return rollout.rollout_path(
      task.params,
      rng_keys,
      task.problem.root.state,
      actions,
      task.problem.dynamics_fn,
      read_fn=_whole if lift.at_once else lift.read_fn,
    )

  return jax.vmap(follow_one, in_axes=1, out_axes=1)(actions)


def latents_of(lift: Lift, path: Any) -> Any:
  """The latents of a path, float32."""
  latents = lift.read_fn(path) if lift.at_once else path
  return jax.tree.map(lambda leaf: leaf.astype(jnp.float32), latents)


def make_lift(
  task: Task,
  read_fn: ReadFn | None,
  write_fn: WriteFn | None,
  goal_weight: float,
) -> Lift:
  """Settles how states are lifted.

  Args:
    task: the problems.
    read_fn: picks latents; all floating-point leaves by default.
    write_fn: puts them back.
    goal_weight: what the cost counts at every step, beside the step weights.

  Raises:
    ValueError: one function without the other, a state that changes its shape
      without them, a latent that is not floating point or does not fit back.
  """
  if (read_fn is None) != (write_fn is None):
    raise ValueError(
      'read_fn and write_fn belong together, got only'
      f' {"write_fn" if read_fn is None else "read_fn"}.'
    )
  at_once = read_fn is None
  read_fn, write_fn = read_fn or _read_floats, write_fn or _write_floats

  def first_states() -> Any:
    state, _ = rollout.broadcast_root(task.problem.root, 1)
    action = jnp.zeros((task.shape[0], 1, task.problem.action_dim))
    after = task.problem.dynamics_fn(task.params, task.rng_keys, action, state)
    latent = read_fn(state)
    return state, after, latent, write_fn(state, latent)

  state, after, latent, written = jax.eval_shape(first_states)
  if at_once and _shapes(after) != _shapes(state):
    raise ValueError(
      'dynamics_fn changes the shapes of the state, so that its steps cannot'
      ' be taken at once: name its newest latent with read_fn and write_fn.'
    )
  if not jax.tree.leaves(latent) or not all(
    map(_is_float, jax.tree.leaves(latent))
  ):
    raise ValueError(
      'read_fn must pick floating-point arrays from the state, got'
      f' {_describe(latent)}.'
    )
  if _shapes(written) != _shapes(state):
    raise ValueError(
      'write_fn must return a state like the one it is given,'
      f' {_describe(state)}, got {_describe(written)}.'
    )
  problem = task.problem
  weights = rollout.weigh(
    problem.step_weights, problem.horizon, problem.cost_fn
  )
  return Lift(read_fn, write_fn, at_once, weights + np.float32(goal_weight))


def _shapes(tree: Any) -> Any:
  leaves, structure = jax.tree.flatten(tree)
  return structure, [(leaf.shape, leaf.dtype) for leaf in leaves]


def _describe(tree: Any) -> str:
  return str(
    jax.tree.map(lambda leaf: f'{leaf.dtype} {list(leaf.shape)}', tree)
  )


def _is_float(leaf: Any) -> bool:
  return jnp.issubdtype(leaf.dtype, jnp.floating)


def _whole(state: LatentState) -> LatentState:
  return state


def _read_floats(state: LatentState) -> list[jax.Array]:
  """The floating-point leaves of a state."""
  return [leaf for leaf in jax.tree.leaves(state) if _is_float(leaf)]


def _write_floats(
  state: LatentState, latent: Sequence[jax.Array]
) -> LatentState:
  """A state with other floating-point leaves."""
  rest = iter(latent)
  return jax.tree.map(
    lambda leaf: next(rest) if _is_float(leaf) else leaf, state
  )


def _shift(after: jax.Array, first: jax.Array) -> jax.Array:
  """What each step starts from: `[B, N, ...]`, then `[B, N, H, ...]`."""
  return jnp.concatenate([jnp.expand_dims(first, 2), after[:, :, :-1]], axis=2)


def _fold(leaf: jax.Array) -> jax.Array:
  """`[B, N, H, ...]` to `[B, N * H, ...]`."""
  return leaf.reshape(leaf.shape[0], -1, *leaf.shape[3:])
