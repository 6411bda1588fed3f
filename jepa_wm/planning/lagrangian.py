"""Guardrails that are kept by an augmented Lagrangian.

Its minimum is where the guardrail just holds, without the large penalty that
a plain one needs (Nocedal and Wright, Numerical optimization, 2006, section
17.3). Every candidate, step and guardrail has a multiplier of its own.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm.planning import rollout
from jepa_wm.planning.task import Task

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


def start(task: Task, num_samples: int) -> Multipliers:
  """Multipliers of zero, as stiff as the guardrails' penalties say."""
  num_problems, horizon, _ = task.shape
  shape = (num_problems, num_samples, horizon, len(task.guardrails))
  zeros = jnp.zeros(shape, jnp.float32)
  return Multipliers(zeros, zeros + penalties_of(task), zeros + jnp.inf)


def value(prices: rollout.Prices, multipliers: Multipliers) -> jax.Array:
  """The augmented Lagrangian of candidates, `[B, N]`."""
  price, stiffness, _ = multipliers
  ratio = price / stiffness
  passed = jnp.maximum(prices.excess + ratio, 0.0)
  terms = 0.5 * stiffness * (passed**2 - ratio**2)
  return prices.cost + jnp.sum(terms, axis=(2, 3))


def tighten(
  task: Task, multipliers: Multipliers, excess: jax.Array
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
  stiffer = jnp.minimum(_GROWTH * stiffness, _CAP * penalties_of(task))
  after = Multipliers(
    value=jnp.maximum(value + stiffness * excess, 0.0),
    stiffness=jnp.where(left > _SHRINK * residual, stiffer, stiffness),
    residual=left,
  )
  pairs = zip(after, multipliers)
  return Multipliers(
    *(jnp.where(jnp.isfinite(excess), new, old) for new, old in pairs)
  )


def check_penalties(task: Task) -> None:
  """Makes sure that guardrails can be kept by multipliers."""
  penalties = [guardrail.penalty for guardrail in task.guardrails]
  known = [x for x in penalties if not isinstance(x, jax.core.Tracer)]
  if not np.all(np.asarray(known) > 0.0):
    raise ValueError(
      'guardrails must have a positive penalty, it is the first stiffness of'
      f' their Lagrangian, got {[float(x) for x in known]}.'
    )


def penalties_of(task: Task) -> jax.Array:
  """First stiffness of each guardrail, `[1, 1, 1, G]`."""
  penalties = [
    jnp.asarray(guardrail.penalty, jnp.float32) for guardrail in task.guardrails
  ]
  if not penalties:
    return jnp.zeros((1, 1, 1, 0), jnp.float32)
  return jnp.stack(penalties).reshape(1, 1, 1, -1)
