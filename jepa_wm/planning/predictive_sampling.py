"""Predictive sampling: draw around the nominal plan and take the best."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm.planning import constraints, problems, search
from jepa_wm.types import CostFn, DynamicsFn, Params, Root


def predictive_sampling_plan(
  params: Params,
  rng_key: jax.Array,
  root: Root,
  dynamics_fn: DynamicsFn,
  cost_fn: CostFn,
  *,
  horizon: int,
  action_dim: int,
  num_samples: int = 300,
  num_iterations: int = 1,
  init_mean: jax.Array | None = None,
  init_std: jax.Array | float = 1.0,
  noise_fn: search.NoiseFn | None = None,
  action_constraints: (
    constraints.ActionConstraint | Sequence[constraints.ActionConstraint]
  ) = (),
  guardrails: Sequence[constraints.Guardrail] = (),
  step_weights: np.ndarray | None = None,
) -> problems.Plan:
  """Plans by drawing around the nominal sequence and taking the cheapest.

  The nominal sequence is the first candidate, so that one iteration makes a
  plan no worse. A single iteration is meant for a loop that plans often, each
  time from what is left of the plan before.

  A candidate whose cost is not finite ranks last and is counted in the
  diagnostics; where none is finite the nominal sequence stays.

  Args:
    params: see `search.Search`, as `rng_key`, `root`, `dynamics_fn`,
      `cost_fn`, `horizon`, `action_dim`, `action_constraints`, `guardrails`
      and `step_weights`.
    rng_key: as above.
    root: as above.
    dynamics_fn: as above.
    cost_fn: as above.
    horizon: as above.
    action_dim: as above.
    num_samples: N, candidates per iteration.
    num_iterations: I; each draws around the best of the one before.
    init_mean: `[B, H, A]`, the nominal sequence, zero by default.
    init_std: standard deviation of the draws, a number, `[A]`, `[H, A]` or
      `[B, H, A]`.
    noise_fn: draws the noise of an iteration, see `cem.cem_plan`.
    action_constraints: as above.
    guardrails: as above.
    step_weights: as above.

  Returns:
    A `Plan`; its `actions` are its `mean`.

  Raises:
    ValueError: no sample, no iteration, a wrong shape from `noise_fn`, and
      what `search.Search` refuses.

  Source: Howell et al. (arXiv 2212.00541), without its splines.
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
    num_samples=(num_samples, 1), num_iterations=(num_iterations, 1)
  )
  std = task.first_std(init_std)

  def step(nominal: jax.Array, iteration: jax.Array):
    noise_keys, model_keys = task.keys(iteration)
    noise = task.noise(noise_fn, noise_keys, iteration, num_samples)
    candidates = task.project(search.draw(nominal, std, noise))
    costs = task.rank(candidates, model_keys)
    _, best, best_cost = search.cheapest(candidates, costs, 1)
    diagnostics = search.diagnose(costs, best_cost, std)
    found = jnp.isfinite(best_cost).reshape(-1, 1, 1)
    return jnp.where(found, best[:, 0], nominal), diagnostics

  nominal, diagnostics = jax.lax.scan(
    step, task.first_actions(init_mean), jnp.arange(num_iterations)
  )
  return task.answer(
    nominal, nominal, std, diagnostics, num_iterations=num_iterations
  )
