"""What planners that follow gradients share: candidates that each descend.

Every candidate has an optimiser of its own and multipliers of its own, so
that none sees another, and the best of all it has been is remembered.
"""

import abc
import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jepa_wm import sharding
from jepa_wm.planning import checks, keys, lagrangian, rollout, sampling
from jepa_wm.planning.problem import Diagnostics, WarmStart
from jepa_wm.planning.task import Answer, Start, Task
from jepa_wm.planning.traits import Traits


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
  multipliers: lagrangian.Multipliers
  best: Best


@dataclasses.dataclass(frozen=True, kw_only=True)
class Descent(Traits, abc.ABC):
  """A planner whose candidates follow gradients, each on its own.

  The first candidate is the mean, then come what is given and draws around
  the mean. The plan is the best of all sequences on the way, the first and
  the last included: the cheapest of those that keep the guardrails, or, where
  none does, the one that passes them least. A plan's `mean` are its
  `actions`. In the diagnostics all candidates are elites, and `spread` is
  their standard deviation around their mean.

  A candidate whose cost or gradient is not finite stays where it is, and is
  counted in the diagnostics.

  Attributes:
    num_samples: N, candidates.
    num_iterations: I, updates of each.
    num_kept: how many of the best the next plan starts from.
    patience: a problem whose candidates have not become cheaper for so many
      rows of the diagnostics is left as it is.
    init_std: standard deviation of the first candidates around the mean, a
      number, `[A]`, `[H, A]` or `[B, H, A]`.
    tolerance: an excess up to it counts as none.

  Raises:
    ValueError: numbers that are too small; and where guardrails have no
      penalty, when the search begins.
  """

  num_samples: int
  num_iterations: int
  num_kept: int = 0
  patience: int | None = None
  init_std: jax.Array | float = 1.0
  tolerance: float = 1e-3

  def __post_init__(self) -> None:
    checks.at_least(
      num_samples=(self.num_samples, 1), num_iterations=(self.num_iterations, 1)
    )
    checks.kept(self.num_kept, self.patience, num_samples=self.num_samples)
    checks.not_negative(tolerance=self.tolerance)

  @property
  def keeps(self) -> tuple[str, ...]:
    """Guardrails by multipliers, without or with a stop at last."""
    return ('off', 'hard', 'lagrangian')

  @abc.abstractmethod
  def num_keys(self) -> int:
    """See `driver.Planner`; the last of them prices the last candidates."""

  @property
  @abc.abstractmethod
  def descending(self) -> optax.GradientTransformationExtraArgs:
    """The optimiser of one candidate's actions on their true cost."""

  def populations(self) -> list[int]:
    """The same candidates in every iteration."""
    return [self.num_samples] * self.num_iterations

  def begin(self, task: Task, start: Start) -> Iterates:
    """Where candidates start from."""
    lagrangian.check_penalties(task)
    noise_keys, _ = task.keys(0)
    number = self.num_samples
    noise = task.noise(keys.white_noise, noise_keys, 0, number, number)
    actions = sampling.draw(start.mean, task.first_std(self.init_std), noise)
    actions = sampling.insert(actions, start.given, start.num_given)
    return begin(task, self.descending, task.project(actions))

  def finish(self, task: Task, carry: Iterates) -> tuple[Answer, jax.Array]:
    """The best of where all candidates have been, and where they stand."""
    _, model_keys = task.keys(self.num_keys() - 1)
    prices = task.price(carry.actions, model_keys)
    best = keep_better(carry.best, carry.actions, prices, self.tolerance)
    least = jnp.min(best.violation, axis=1, keepdims=True)
    cost = jnp.where(best.violation == least, best.cost, jnp.inf)
    index = jnp.argmin(cost, axis=1).reshape(-1, 1, 1, 1)
    actions = jnp.take_along_axis(best.actions, index, axis=1)[:, 0]
    order = jnp.lexsort((best.cost, best.violation), axis=1)
    order = order[:, : self.num_kept].reshape(
      task.shape[0], self.num_kept, 1, 1
    )
    elites = jnp.take_along_axis(best.actions, order, axis=1)
    return Answer(actions, actions, task.first_std(self.init_std)), elites

  def shift(self, left: WarmStart, num_played: int) -> WarmStart:
    """Drops what has been played and pads the end with zeros."""
    return left.shifted(num_played)


def begin(
  task: Task, optimizer: optax.GradientTransformation, actions: jax.Array
) -> Iterates:
  """Puts candidates at `actions` `[B, N, H, A]`."""
  batch = actions.shape[:2]
  unknown = jnp.full(batch, jnp.inf, jnp.float32)
  return Iterates(
    actions=actions,
    optimizer_state=init_each(optimizer, actions),
    multipliers=lagrangian.start(task, actions.shape[1]),
    best=Best(actions, unknown, unknown),
  )


def step(
  task: Task,
  optimizer: optax.GradientTransformationExtraArgs,
  iterates: Iterates,
  rng_keys: jax.Array,
  *,
  tolerance: float,
) -> tuple[Iterates, rollout.Prices, Diagnostics]:
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

  def total(actions: jax.Array) -> Any:
    prices = task.price(actions, rng_keys)
    values = lagrangian.value(prices, iterates.multipliers)
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

  def update(
    gradient: Any, state: Any, variables: Any, value: jax.Array
  ) -> tuple[Any, optax.OptState]:
    # Optax's own arithmetic relies on it, whatever the caller forbids.
    with jax.numpy_dtype_promotion('standard'):
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
  task: Task,
  actions: jax.Array,
  prices: rollout.Prices,
  grad_norms: jax.Array,
  usable: jax.Array,
) -> Diagnostics:
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
  diagnostics = sampling.diagnose(costs, ranked, jnp.std(actions, axis=1))
  usable &= jnp.isfinite(costs)
  number = jnp.sum(usable, axis=1, dtype=jnp.int32)
  total = jnp.sum(jnp.where(usable, grad_norms, 0.0), axis=1)
  return diagnostics._replace(
    num_nonfinite=usable.shape[1] - number,
    grad_norm=total / jnp.maximum(number, 1).astype(total.dtype),
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
