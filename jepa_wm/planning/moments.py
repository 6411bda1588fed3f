"""Costs that see more than where a step led: whence, when, and which is last.

A `CostFn` prices a state by itself. What is made here is priced by rollouts in
every planner, in place of a `CostFn`; the combinators of `costs` go inside of
it, not around it.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jepa_wm.planning import checks
from jepa_wm.types import CostFn, LatentState, Params


class Moment(NamedTuple):
  """A step of a rollout of `[B, N]` candidates.

  Attributes:
    before: the state that the step started from, leaves `[B, N, ...]`.
    action: `[B, N, A]`.
    state: the state that it led to.
    step: int32 `[]` or `[B, N]`, its number from 0.
    is_last: bool of the same shape, whether the horizon ends with it.
  """

  before: LatentState
  action: jax.Array
  state: LatentState
  step: jax.Array
  is_last: jax.Array


MomentFn = Callable[[Params, Moment, Any], jax.Array]
"""`(params, moment, goal) -> [B, N]`; `goal` leaves `[B, 1, ...]`, or None."""


@dataclasses.dataclass(frozen=True)
class Timed:
  """A cost of moments, see `timed`."""

  fn: MomentFn

  def __call__(self, *_: Any) -> jax.Array:
    """Refuses to price a state alone."""
    raise ValueError(
      'a timed cost sees moments, which a rollout has: give it to a planner as '
      'its cost_fn, and put what combines costs inside of it.'
    )


@dataclasses.dataclass(frozen=True)
class Soonest:
  """The least of the costs of all steps, see `soonest`."""

  cost_fn: CostFn | Timed

  def __call__(self, *_: Any) -> jax.Array:
    """Refuses to price a state alone."""
    raise ValueError(
      'soonest prices a whole rollout: give it to a planner as its cost_fn, '
      'and put what combines costs inside of it.'
    )


def timed(fn: MomentFn) -> CostFn:
  """A cost that sees whence a step came, its number, and whether it is last.

  Every step counts 1, where no `step_weights` say otherwise.

  Args:
    fn: prices a `Moment`.
  """
  return Timed(fn)


def soonest(cost_fn: CostFn) -> CostFn:
  """The least cost of all steps: the goal counts as reached when it was.

  Args:
    cost_fn: of one step; no `step_weights` beside it.
  """
  return Soonest(cost_fn)


# What the functions of callers take, for messages.
_COST = '(params, state, action, goal)'
_TIMED = '(params, moment, goal)'
_REWARD = '(params, before, action, state, goal)'
_VALUE = '(params, state, goal)'


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class WithParams:
  """A function that has its own parameters, a pytree of them.

  Attributes:
    fn: takes parameters first.
    params: given to it in place of the caller's.
  """

  fn: Callable[..., Any] = dataclasses.field(metadata={'static': True})
  params: Params

  def __call__(self, params: Params, *args: Any) -> Any:
    """What `fn` says with its own parameters."""
    del params
    return self.fn(self.params, *args)


def with_params(fn: Callable[..., Any], params: Params) -> WithParams:
  """A cost, reward or value (a learnt one, say) with parameters of its own.

  Args:
    fn: takes parameters first.
    params: given to it in place of the planner's, which are the model's.
  """
  return WithParams(fn, params)


def discounted_return(
  reward_fn: Callable[..., jax.Array],
  value_fn: Callable[..., jax.Array] | None = None,
  discount: jax.Array | float = 0.99,
  *,
  read_fn: Callable[[LatentState], Any] = lambda state: state,
) -> CostFn:
  """Minus the discounted rewards of a rollout and the value of its end.

  With H steps, states `z_0` to `z_H` and the discount `g`, minus
  `sum_h g^h r(z_h, a_h, z_h+1) + g^H v(z_H)` (TD-MPC2, arXiv 2310.16828).

  Args:
    reward_fn: `(params, before, action, state, goal) -> [B, N]`.
    value_fn: `(params, state, goal) -> [B, N]`; none where the end is worth
      nothing.
    discount: a number, which may be traced.
    read_fn: what the two are given of a state, such as `model.latent`.

  Raises:
    ValueError: a discount that is not finite.
  """
  checks.finite(discount=discount)

  def price(params: Params, moment: Moment, goal: Any) -> jax.Array:
    before, state = read_fn(moment.before), read_fn(moment.state)
    discounts = jnp.power(
      jnp.asarray(discount, jnp.float32), moment.step.astype(jnp.float32)
    )
    step = params, before, moment.action, state, goal
    reward: jax.Array = checks.call('reward_fn', _REWARD, reward_fn, *step)
    total = discounts * reward
    if value_fn is not None:
      value = checks.call('value_fn', _VALUE, value_fn, params, state, goal)
      value = discount * discounts * value
      total = total + jnp.where(moment.is_last, value, 0.0)
    return -total

  return timed(price)


def of_one(cost_fn: CostFn) -> CostFn:
  """The cost of a step, where the least of all may be asked for."""
  return cost_fn.cost_fn if isinstance(cost_fn, Soonest) else cost_fn


def price(
  cost_fn: CostFn, params: Params, moment: Moment, goal: Any
) -> jax.Array:
  """What a moment costs by a cost of states or of moments."""
  found: jax.Array
  if isinstance(cost_fn, Timed):
    given = params, moment, goal
    found = checks.call('a timed cost', _TIMED, cost_fn.fn, *given)
    return found
  step = params, moment.state, moment.action, goal
  found = checks.call('cost_fn', _COST, cost_fn, *step)
  return found
