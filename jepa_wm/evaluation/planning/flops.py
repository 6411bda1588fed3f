"""What a program costs: the operations of its matrix products.

Counted on the traced program and not by XLA's cost analysis, which counts the
body of a loop once, however often it runs: a search is a loop over iterations
around one over the steps of a rollout.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

from jax.extend import core


def count(closed: core.ClosedJaxpr) -> float:
  """Multiplications and additions of all matrix products and convolutions.

  A multiplication with its addition is two. What is done element by element is
  left out, as papers do; of branches the dearest counts, and a loop whose
  length is not known counts once. So does what a loop never changes, such as
  the product of two of its parameters: compilers take it out.
  """
  return _count(closed.jaxpr, [0] * len(closed.jaxpr.invars), ())[0]


def _count(
  jaxpr: core.Jaxpr, levels: Sequence[int], lengths: tuple[int, ...]
) -> tuple[float, list[int]]:
  """Operations of a program within loops, and the levels of what it gives.

  Args:
    jaxpr: the program.
    levels: of its inputs: how many of the loops, from the outermost on, run
      until one is another.
    lengths: of the loops.
  """
  known: dict[Any, int] = dict(zip(jaxpr.invars, levels, strict=True))

  def level(atom: Any) -> int:
    return 0 if isinstance(atom, core.Literal) else known.get(atom, 0)

  total = 0.0
  for equation in jaxpr.eqns:
    inputs = [level(atom) for atom in equation.invars]
    cost, outputs = _cost(equation, inputs, lengths)
    total += cost
    known.update(zip(equation.outvars, outputs, strict=True))
  return total, [level(atom) for atom in jaxpr.outvars]


def _cost(
  equation: Any, levels: list[int], lengths: tuple[int, ...]
) -> tuple[float, list[int]]:
  """Of one equation, with all that it calls; as `_count`."""
  name, params = equation.primitive.name, equation.params
  deepest, outputs = max(levels, default=0), equation.outvars
  same = [deepest] * len(outputs)
  times = math.prod(lengths[:deepest])
  if name == 'dot_general':
    (contracted, _), _ = params['dimension_numbers']
    shape = equation.invars[0].aval.shape
    inner = math.prod(shape[axis] for axis in contracted)
    return 2.0 * times * inner * math.prod(outputs[0].aval.shape), same
  if name == 'conv_general_dilated':
    # The kernel holds the inputs of one group only.
    kernel, spec = equation.invars[1].aval.shape, params['dimension_numbers']
    inner = math.prod(kernel) // kernel[spec.rhs_spec[0]]
    return 2.0 * times * inner * math.prod(outputs[0].aval.shape), same
  if name == 'scan':
    fixed = levels[: params['num_consts']]
    moving = [len(lengths) + 1] * (len(levels) - len(fixed))
    # Loops that it does not change in run it once.
    around = (*lengths[:deepest], *[1] * (len(lengths) - deepest))
    within = (*around, params['length'])
    return _count(params['jaxpr'].jaxpr, [*fixed, *moving], within)[0], same
  if name == 'cond':
    levels = levels[1:]
  found = []
  for inner in _inner(params):
    fits = len(inner.invars) == len(levels)
    given = levels if fits else [deepest] * len(inner.invars)
    found.append(_count(inner, given, lengths))
  costs = [cost for cost, _ in found]
  if len(found) == 1 and len(found[0][1]) == len(outputs):
    same = found[0][1]
  return (max(costs) if name == 'cond' else sum(costs)), same


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
