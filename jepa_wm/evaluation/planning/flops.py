"""What a program costs: the operations of its matrix products.

Counted on the traced program and not by XLA's cost analysis, which counts the
body of a loop once, however often it runs: a search is a loop over iterations
around one over the steps of a rollout.
"""

import math
from collections.abc import Iterator
from typing import Any

from jax.extend import core


def count(closed: core.ClosedJaxpr) -> float:
  """Multiplications and additions of all matrix products and convolutions.

  A multiplication with its addition is two. What is done element by element is
  left out, as papers do; of branches the dearest counts, and a loop whose
  length is not known counts once.
  """
  return _count(closed.jaxpr)


def _count(jaxpr: core.Jaxpr) -> float:
  return sum(_cost(equation) for equation in jaxpr.eqns)


def _cost(equation: Any) -> float:
  """Of one equation, with all that it calls."""
  name, params = equation.primitive.name, equation.params
  if name == 'dot_general':
    (contracted, _), _ = params['dimension_numbers']
    shape = equation.invars[0].aval.shape
    inner = math.prod(shape[axis] for axis in contracted)
    return 2.0 * inner * math.prod(equation.outvars[0].aval.shape)
  if name == 'conv_general_dilated':
    # The kernel holds the inputs of one group only.
    kernel, spec = equation.invars[1].aval.shape, params['dimension_numbers']
    inner = math.prod(kernel) // kernel[spec.rhs_spec[0]]
    return 2.0 * inner * math.prod(equation.outvars[0].aval.shape)
  costs = [_count(inner) for inner in _inner(params)]
  if name == 'cond':
    return max(costs)
  return params['length'] * sum(costs) if name == 'scan' else sum(costs)


def _inner(params: Any) -> Iterator[core.Jaxpr]:
  """The programs that an equation runs."""
  for name, value in params.items():
    # Rules of derivatives are no part of what runs.
    if name in ('jvp_jaxpr_fun', 'fwd_jaxpr_thunk', 'bwd'):
      continue
    for held in value if isinstance(value, (tuple, list)) else [value]:
      if isinstance(held, core.ClosedJaxpr):
        yield held.jaxpr
      elif isinstance(held, core.Jaxpr):
        yield held
