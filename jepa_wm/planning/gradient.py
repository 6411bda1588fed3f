"""Gradient descent on action sequences, from many starts at once."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jepa_wm.planning import constraints, descent, problems, search
from jepa_wm.types import CostFn, DynamicsFn, Params, Root


def gradient_plan(
  params: Params,
  rng_key: jax.Array,
  root: Root,
  dynamics_fn: DynamicsFn,
  cost_fn: CostFn,
  *,
  horizon: int,
  action_dim: int,
  num_restarts: int = 10,
  num_iterations: int = 100,
  optimizer: optax.GradientTransformation | None = None,
  init_mean: jax.Array | None = None,
  init_std: jax.Array | float = 1.0,
  multiplier_period: int = 10,
  tolerance: float = 1e-3,
  action_constraints: (
    constraints.ActionConstraint | Sequence[constraints.ActionConstraint]
  ) = (),
  guardrails: Sequence[constraints.Guardrail] = (),
  step_weights: np.ndarray | None = None,
) -> problems.Plan:
  """Plans by following the gradient of the cost through the rollout.

  N sequences, the first of them `init_mean`, the others drawn around it, are
  optimised independently of each other: every one has an optimiser of its own,
  so that one that clips by a global norm couples neither candidates nor
  problems. The plan is the best of all sequences on the way, the first and
  the last included: the cheapest of those that keep the guardrails, or, where
  none does, the one that passes them least.

  Action constraints are kept by projecting after every update. Guardrails are
  kept by an augmented Lagrangian, with a multiplier for every candidate, step
  and guardrail: its minimum is where the guardrail just holds, without the
  large penalty that a plain one needs.

  A candidate whose cost or gradient is not finite stays where it is, and is
  counted in the diagnostics. A stochastic `dynamics_fn` draws anew for every
  iteration, so that the best is partly the luckiest.

  All that a step computes is kept for its gradient; `jax.checkpoint` around
  `dynamics_fn` keeps one state per step and computes the rest again.

  Args:
    params: see `search.Search`, as `rng_key`, `root`, `dynamics_fn`,
      `cost_fn`, `horizon`, `action_dim`, `action_constraints`, `guardrails`
      and `step_weights`.
    rng_key: as above.
    root: as above.
    dynamics_fn: as above; differentiable by its action and state.
    cost_fn: as above; differentiable.
    horizon: as above.
    action_dim: as above.
    num_restarts: N, candidates.
    num_iterations: I, updates of each.
    optimizer: any optimiser that needs gradient, parameters and value only,
      `optax.adam(0.1)` by default.
    init_mean: `[B, H, A]`, the first candidate (a warm start), zero by
      default.
    init_std: standard deviation of the others around it, a number, `[A]`,
      `[H, A]` or `[B, H, A]`.
    multiplier_period: updates of the actions per update of the multipliers.
    tolerance: an excess up to it counts as none.
    action_constraints: as above.
    guardrails: as above; differentiable.
    step_weights: as above.

  Returns:
    A `Plan`; its `mean` are its `actions`, its `std` is `init_std`. In its
    diagnostics all candidates are elites, and `spread` is their standard
    deviation around their mean.

  Raises:
    ValueError: fewer than one restart, iteration or multiplier period, a
      negative tolerance, a guardrail without a penalty, and what
      `search.Search` refuses.
    TypeError: `optimizer` is no optax optimiser.

  Source: Nocedal and Wright, Numerical optimization (2006), section 17.3 for
    the augmented Lagrangian.
  """
  task = search.Search(
    params,
    rng_key,
    root,
    dynamics_fn,
    cost_fn,
    horizon,
    action_dim,
    action_constraints,
    guardrails,
    step_weights,
  )
  problems.check_at_least(
    num_restarts=(num_restarts, 1),
    num_iterations=(num_iterations, 1),
    multiplier_period=(multiplier_period, 1),
  )
  descent.check_settings(task, tolerance)
  optimizer = descent.check_optimizer('optimizer', optimizer, optax.adam(0.1))

  def iterate(iterates: descent.Iterates, iteration: jax.Array):
    _, model_keys = task.keys(iteration)
    iterates, prices, diagnostics = descent.step(
      task, optimizer, iterates, model_keys, tolerance=tolerance
    )
    due = (iteration + 1) % multiplier_period == 0
    multipliers = jax.tree.map(
      functools.partial(jnp.where, due),
      descent.tighten(task, iterates.multipliers, prices.excess),
      iterates.multipliers,
    )
    return iterates._replace(multipliers=multipliers), diagnostics

  actions = descent.first_candidates(task, num_restarts, init_mean, init_std)
  iterates, diagnostics = jax.lax.scan(
    iterate,
    descent.start(task, optimizer, actions),
    jnp.arange(num_iterations),
  )
  _, model_keys = task.keys(num_iterations)
  prices = task.price(iterates.actions, model_keys)
  best = descent.keep_better(iterates.best, iterates.actions, prices, tolerance)
  return descent.answer(task, best, init_std, diagnostics, num_iterations + 1)
