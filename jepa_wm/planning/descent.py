"""What planners that follow gradients share: candidates that each descend.

Every candidate has an optimiser of its own and multipliers of its own, so
that none sees another, and the best of all it has been is remembered.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jepa_wm import sharding
from jepa_wm.planning import problems, rollout, search

# Stiffness of the augmented Lagrangian: what it is multiplied by where the
# violation has not shrunk to this share of the last one, and the largest
# multiple of where it started.
_GROWTH, _SHRINK, _CAP = 2.0, 0.5, 100.0


class Multipliers(NamedTuple):
  """What passing a guardrail costs now, each `[B, N, H, G]`.

  Attributes:
    value: Lagrange multipliers, at least zero.
    stiffness: rho, what squared excess costs.
    residual: by how much the constraint failed to hold at the last `tighten`.
  """

  value: jax.Array
  stiffness: jax.Array
  residual: jax.Array


class Best(NamedTuple):
  """The best iterate of every candidate so far.

  Attributes:
    actions: `[B, N, H, A]`.
    violation: `[B, N]`, largest excess, 0 where it is tolerated.
    cost: `[B, N]`, without penalties; infinite before the first iterate.
  """

  actions: jax.Array
  violation: jax.Array
  cost: jax.Array


class Iterates(NamedTuple):
  """Where all candidates stand: what one step leaves to the next.

  Attributes:
    actions: `[B, N, H, A]`, not priced yet.
    optimizer_state: leaves `[B, N, ...]`.
    multipliers: of the guardrails.
    best: of where they stood before.
  """

  actions: jax.Array
  optimizer_state: Any
  multipliers: Multipliers
  best: Best


def first_candidates(
  task: search.Search,
  num_restarts: int,
  init_mean: jax.Array | None,
  init_std: jax.Array | float,
) -> jax.Array:
  """Draws where to start from, `[B, N, H, A]`: `init_mean` and around it."""
  noise_keys, _ = task.keys(0)
  noise = search.white_noise(noise_keys, (num_restarts, *task.shape[1:]))
  mean, std = task.first_actions(init_mean), task.first_std(init_std)
  return task.project(search.draw(mean, std, noise))


def start(
  task: search.Search,
  optimizer: optax.GradientTransformation,
  actions: jax.Array,
) -> Iterates:
  """Puts candidates at `actions` `[B, N, H, A]`."""
  batch = actions.shape[:2]
  shape = (*batch, task.horizon, len(task.guardrails))
  zeros, unknown = jnp.zeros(shape), jnp.full(batch, jnp.inf)
  return Iterates(
    actions=actions,
    optimizer_state=init_each(optimizer, actions),
    multipliers=Multipliers(zeros, zeros + _penalties(task), zeros + jnp.inf),
    best=Best(actions, unknown, unknown),
  )


def step(
  task: search.Search,
  optimizer: optax.GradientTransformationExtraArgs,
  iterates: Iterates,
  rng_keys: jax.Array,
  *,
  tolerance: float,
) -> tuple[Iterates, rollout.Prices, problems.Diagnostics]:
  """Prices all candidates, remembers the best, and moves them.

  Args:
    task: the problems.
    optimizer: one candidate's.
    iterates: where they stand.
    rng_keys: `[B]`, the model's.
    tolerance: an excess up to it counts as none.

  Returns:
    Where they stand then, but what they cost and how they fared (leaves
    `[B]`) before.
  """

  def total(actions: jax.Array):
    prices = task.price(actions, rng_keys)
    values = lagrangian(prices, iterates.multipliers)
    return jnp.sum(values), (values, prices)

  before, state, multipliers, best = iterates
  gradient, (values, prices) = jax.grad(total, has_aux=True)(before)
  best = keep_better(best, before, prices, tolerance)
  actions, state, usable = update_each(
    optimizer, gradient, state, before, values
  )
  actions = sharding.constrain(task.project(actions), 'data', 'samples')
  diagnostics = diagnose(task, before, prices, norms(gradient), usable)
  return Iterates(actions, state, multipliers, best), prices, diagnostics


def init_each(
  optimizer: optax.GradientTransformation, variables: Any
) -> optax.OptState:
  """States of one optimiser per candidate, leaves `[B, N, ...]`."""
  return jax.vmap(jax.vmap(optimizer.init))(variables)


def update_each(
  optimizer: optax.GradientTransformationExtraArgs,
  gradient: Any,
  state: optax.OptState,
  variables: Any,
  values: jax.Array,
) -> tuple[Any, optax.OptState, jax.Array]:
  """Moves every candidate by its own optimiser.

  Args:
    optimizer: one candidate's.
    gradient: leaves `[B, N, ...]`, as `variables`.
    state: leaves `[B, N, ...]`.
    variables: leaves `[B, N, ...]`.
    values: `[B, N]`, what is minimised.

  Returns:
    variables and state, both as they were where value or gradient is not
    finite, and `[B, N]` where they are.
  """

  def update(gradient: Any, state: Any, variables: Any, value: jax.Array):
    updates, state = optimizer.update(gradient, state, variables, value=value)
    return optax.apply_updates(variables, updates), state

  after = jax.vmap(jax.vmap(update))(gradient, state, variables, values)
  usable = jnp.isfinite(values)
  for leaf in jax.tree.leaves(gradient):
    usable &= jnp.all(jnp.isfinite(leaf), axis=tuple(range(2, leaf.ndim)))

  def choose(new: jax.Array, old: jax.Array) -> jax.Array:
    mask = usable.reshape(*usable.shape, *(1,) * (new.ndim - 2))
    return jnp.where(mask, new, old)

  variables, state = jax.tree.map(choose, after, (variables, state))
  return variables, state, usable


def lagrangian(prices: rollout.Prices, multipliers: Multipliers) -> jax.Array:
  """The augmented Lagrangian of candidates, `[B, N]`."""
  value, stiffness, _ = multipliers
  ratio = value / stiffness
  passed = jnp.maximum(prices.excess + ratio, 0.0)
  terms = 0.5 * stiffness * (passed**2 - ratio**2)
  return prices.cost + jnp.sum(terms, axis=(2, 3))


def tighten(
  task: search.Search, multipliers: Multipliers, excess: jax.Array
) -> Multipliers:
  """Moves multipliers to where the Lagrangian's slope says they belong.

  Args:
    task: the problems.
    multipliers: as they were.
    excess: `[B, N, H, G]`; what is not finite changes nothing.
  """
  value, stiffness, residual = multipliers
  # A guardrail with room counts only as far as its multiplier still pulls.
  left = jnp.abs(jnp.maximum(excess, -value / stiffness))
  stiffer = jnp.minimum(_GROWTH * stiffness, _CAP * _penalties(task))
  after = Multipliers(
    value=jnp.maximum(value + stiffness * excess, 0.0),
    stiffness=jnp.where(left > _SHRINK * residual, stiffer, stiffness),
    residual=left,
  )
  return jax.tree.map(
    lambda new, old: jnp.where(jnp.isfinite(excess), new, old),
    after,
    multipliers,
  )


def keep_better(
  best: Best, actions: jax.Array, prices: rollout.Prices, tolerance: float
) -> Best:
  """Remembers where an iterate is better than all before it.

  Args:
    best: of those before.
    actions: `[B, N, H, A]`.
    prices: theirs; what is not finite is never better.
    tolerance: an excess up to it counts as none.
  """
  cost, violation = prices.cost, largest_excess(prices)
  priced = jnp.isfinite(cost) & jnp.isfinite(violation)
  violation = jnp.where(violation <= tolerance, 0.0, violation)
  cheaper = (violation == best.violation) & (cost < best.cost)
  better = priced & (cheaper | (violation < best.violation))
  mask = better.reshape(*better.shape, 1, 1)
  return Best(
    jnp.where(mask, actions, best.actions),
    jnp.where(better, violation, best.violation),
    jnp.where(better, cost, best.cost),
  )


def largest_excess(prices: rollout.Prices) -> jax.Array:
  """By how much candidates pass a guardrail at worst, `[B, N]`, 0 if never."""
  return jnp.max(prices.excess, axis=(2, 3), initial=0.0)


def norms(gradient: jax.Array) -> jax.Array:
  """Euclidean norms of `[B, N, H, A]`, one per candidate, `[B, N]`."""
  return jnp.sqrt(jnp.sum(gradient**2, axis=(2, 3)))


def diagnose(
  task: search.Search,
  actions: jax.Array,
  prices: rollout.Prices,
  grad_norms: jax.Array,
  usable: jax.Array,
) -> problems.Diagnostics:
  """Describes one iteration.

  Args:
    task: the problems.
    actions: `[B, N, H, A]`.
    prices: theirs.
    grad_norms: `[B, N]`, of the gradients by them.
    usable: `[B, N]`, whose value and gradient are finite.

  Returns:
    Leaves `[B]`.
  """
  costs = task.penalize(prices)
  ranked = jnp.sort(jnp.where(jnp.isfinite(costs), costs, jnp.inf), axis=1)
  diagnostics = search.diagnose(costs, ranked, jnp.std(actions, axis=1))
  usable &= jnp.isfinite(costs)
  number = jnp.sum(usable, axis=1, dtype=jnp.int32)
  total = jnp.sum(jnp.where(usable, grad_norms, 0.0), axis=1)
  return diagnostics._replace(
    num_nonfinite=usable.shape[1] - number,
    grad_norm=total / jnp.maximum(number, 1),
  )


def answer(
  task: search.Search,
  best: Best,
  init_std: jax.Array | float,
  diagnostics: problems.Diagnostics,
  num_iterations: int,
) -> problems.Plan:
  """Makes the best iterate of all candidates a `Plan`.

  Args:
    task: the problems.
    best: of every candidate.
    init_std: see `gradient_plan`.
    diagnostics: `[I, B]`.
    num_iterations: whose keys have been used.
  """
  least = jnp.min(best.violation, axis=1, keepdims=True)
  cost = jnp.where(best.violation == least, best.cost, jnp.inf)
  index = jnp.argmin(cost, axis=1).reshape(-1, 1, 1, 1)
  actions = jnp.take_along_axis(best.actions, index, axis=1)[:, 0]
  return task.answer(
    actions,
    actions,
    task.first_std(init_std),
    diagnostics,
    num_iterations=num_iterations,
  )


def check_optimizer(
  name: str,
  optimizer: optax.GradientTransformation | None,
  default: optax.GradientTransformation,
) -> optax.GradientTransformationExtraArgs:
  """Makes sure that an argument is an optimiser.

  Raises:
    TypeError: it is something else.
  """
  if optimizer is None:
    optimizer = default
  if not isinstance(optimizer, optax.GradientTransformation):
    raise TypeError(
      f'{name} must be an optax.GradientTransformation, such as'
      f' optax.adam(0.1), got a {type(optimizer).__name__}.'
    )
  return optax.with_extra_args_support(optimizer)


def check_settings(task: search.Search, tolerance: float) -> None:
  """Makes sure that guardrails can be kept by multipliers.

  Raises:
    ValueError: a negative tolerance, or a guardrail without a penalty.
  """
  if tolerance < 0.0:
    raise ValueError(f'tolerance must be at least 0, got {tolerance}.')
  if not np.all(_penalties(task) > 0.0):
    raise ValueError(
      'guardrails must have a positive penalty, it is the first stiffness of'
      f' their Lagrangian, got {_penalties(task).ravel().tolist()}.'
    )


def _penalties(task: search.Search) -> np.ndarray:
  """First stiffness of each guardrail, `[1, 1, 1, G]`."""
  penalties = [guardrail.penalty for guardrail in task.guardrails]
  return np.asarray(penalties, np.float32).reshape(1, 1, 1, -1)
