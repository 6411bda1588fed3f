"""How guardrails are kept: what passing one costs, and what is done at last.

`soft` is a price; `lagrangian` one that grows as long as the candidates that
are learnt from pass the guardrail; `hard` leaves out whatever passes it, and
where nothing else is left the plan stands still; `off` reports alone.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jepa_wm.planning import lagrangian, rollout
from jepa_wm.planning.limits import Guardrail
from jepa_wm.planning.task import Answer, Task

_FORBIDDEN = 1e6
"""What a candidate costs that a hard guardrail forbids, where all are."""


class Kept(NamedTuple):
  """What the forms of guardrails remember of a search; None without such.

  Attributes:
    multipliers: of `lagrangian` ones, `[B, 1, H, G]` each: all candidates of a
      problem share them.
    allowed: `[B, H, A]`, the cheapest candidate so far that no `hard` one
      forbids.
    cost: `[B]`, of it; infinite before there is one.
  """

  multipliers: lagrangian.Multipliers | None = None
  allowed: jax.Array | None = None
  cost: jax.Array | None = None


def start(task: Task) -> Kept:
  """What there is to remember before the first candidates."""
  forms = {rail.form for rail in task.guardrails}
  kept = Kept()
  if 'lagrangian' in forms:
    lagrangian.check_penalties(task)
    kept = kept._replace(multipliers=lagrangian.start(task, 1))
  if 'hard' in forms:
    unknown = jnp.full(task.shape[:1], jnp.inf, jnp.float32)
    kept = kept._replace(
      allowed=jnp.zeros(task.shape, jnp.float32), cost=unknown
    )
  return kept


def rank(task: Task, kept: Kept, prices: rollout.Prices) -> jax.Array:
  """What candidates are ranked by, `[B, N]`.

  Those that a hard guardrail forbids are infinitely dear where two are
  allowed; else the less they pass it, the cheaper they are.
  """
  costs = task.penalize(prices)
  if kept.multipliers is not None:
    some = _of_form(task, 'lagrangian')
    excess = jnp.where(some, prices.excess, -jnp.inf)
    both = rollout.Prices(jnp.zeros_like(costs), excess)
    costs = costs + lagrangian.value(both, kept.multipliers)
  if kept.cost is None:
    return costs
  total = _forbidden(task.guardrails, prices.excess)
  is_allowed = (total <= 0.0) & jnp.isfinite(costs)
  enough = jnp.sum(is_allowed, axis=1, keepdims=True) >= 2
  dear = jnp.where(enough, jnp.inf, _FORBIDDEN * (1.0 + total))
  return jnp.where((total > 0.0) & jnp.isfinite(costs), dear, costs)


def learn(
  task: Task,
  kept: Kept,
  candidates: jax.Array,
  prices: rollout.Prices,
  costs: jax.Array,
  number: int,
) -> Kept:
  """What is remembered after an iteration.

  Args:
    task: the problems.
    kept: what was.
    candidates: `[B, N, H, A]`.
    prices: theirs.
    costs: `[B, N]`, what they were ranked by.
    number: K, of the cheapest, by which multipliers move.
  """
  if kept.multipliers is not None:
    _, rows = jax.lax.top_k(
      -jnp.where(jnp.isnan(costs), jnp.inf, costs), number
    )
    chosen = jnp.take_along_axis(
      prices.excess, rows.reshape(*rows.shape, 1, 1), axis=1
    )
    some = _of_form(task, 'lagrangian')
    mean = jnp.where(some, jnp.mean(chosen, axis=1, keepdims=True), -jnp.inf)
    kept = kept._replace(
      multipliers=lagrangian.tighten(task, kept.multipliers, mean)
    )
  if kept.cost is None or kept.allowed is None:
    return kept
  is_allowed = _forbidden(task.guardrails, prices.excess) <= 0.0
  own = jnp.where(is_allowed & jnp.isfinite(costs), costs, jnp.inf)
  best = jnp.argmin(own, axis=1)
  cost = jnp.take_along_axis(own, best.reshape(-1, 1), axis=1)[:, 0]
  actions = jnp.take_along_axis(candidates, best.reshape(-1, 1, 1, 1), axis=1)[
    :, 0
  ]
  is_better = (cost < kept.cost).reshape(-1, 1, 1)
  return kept._replace(
    allowed=jnp.where(is_better, actions, kept.allowed),
    cost=jnp.minimum(cost, kept.cost),
  )


class Settled(NamedTuple):
  """The plan that is answered.

  Attributes:
    answer: with the actions that are planned at last.
    cost: `[B]`, of them.
    excess: `[B, H, G]`, by how much they pass each guardrail.
    stopped: `[B]` bool, who stands still since nothing is allowed; None where
      no guardrail is hard.
  """

  answer: Answer
  cost: jax.Array
  excess: jax.Array
  stopped: jax.Array | None


def settle(task: Task, answer: Answer, rng_keys: jax.Array) -> Settled:
  """Prices the answer, and exchanges it where a hard guardrail forbids it.

  In its place comes the cheapest candidate that is allowed, else the one of
  the two that passes the guardrails less, or `Limits.stop` where there is one.

  Args:
    task: the problems.
    answer: what a planner says.
    rng_keys: `[B]`, the model's.
  """
  rails = task.watched
  is_hard = any(rail.form == 'hard' for rail in rails)
  stop = task.problem.limits.stop
  choices = [answer.actions]
  if is_hard and answer.allowed is not None:
    choices.append(answer.allowed)
  num_own = len(choices)
  if is_hard and stop is not None:
    still = jnp.asarray(stop, jnp.float32).reshape(1, 1, -1)
    choices.append(jnp.broadcast_to(still, task.shape))
  actions = jnp.stack(choices, axis=1)
  cost, excess = task.price(actions, rng_keys, guardrails=rails)
  if not is_hard:
    return Settled(answer, cost[:, 0], excess[:, 0], None)
  total = _forbidden(rails, excess)
  is_allowed = (total <= 0.0)[:, :num_own] & jnp.isfinite(cost)[:, :num_own]
  stopped = ~jnp.any(is_allowed, axis=1)
  least = jnp.argmin(total[:, :num_own], axis=1)
  last = least if stop is None else jnp.full_like(least, num_own)
  row = jnp.where(stopped, last, jnp.argmax(is_allowed, axis=1))
  taken = [
    jnp.take_along_axis(x, row.reshape(-1, *(1,) * (x.ndim - 1)), axis=1)[:, 0]
    for x in (actions, cost, excess)
  ]
  # Where a candidate is planned, the next search starts from it.
  exchanged = (row == 1) & (num_own > 1) & ~stopped
  mean = jnp.where(exchanged.reshape(-1, 1, 1), taken[0], answer.mean)
  answer = answer._replace(actions=taken[0], mean=mean)
  return Settled(answer, taken[1], taken[2], stopped)


def _forbidden(rails: Sequence[Guardrail], excess: jax.Array) -> jax.Array:
  """By how much hard guardrails are passed in all, `[B, N]`; NaN is by all."""
  hard = jnp.asarray([rail.form == 'hard' for rail in rails])
  passed = jnp.where(jnp.isnan(excess), jnp.inf, jnp.maximum(excess, 0.0))
  passed = jnp.where(hard.reshape(1, 1, 1, -1), passed, 0.0)
  return jnp.sum(passed, axis=(2, 3))


def _of_form(task: Task, form: str) -> jax.Array:
  """Which guardrails are of a form, `[1, 1, 1, G]`."""
  some = jnp.asarray([rail.form == form for rail in task.guardrails])
  return some.reshape(1, 1, 1, -1)
