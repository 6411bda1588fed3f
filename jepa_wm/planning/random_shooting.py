"""Random shooting: the floor under every planner that learns."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm.planning import constraints, problems, search
from jepa_wm.types import CostFn, DynamicsFn, Params, Root


def random_shooting_plan(
  params: Params,
  rng_key: jax.Array,
  root: Root,
  dynamics_fn: DynamicsFn,
  cost_fn: CostFn,
  *,
  horizon: int,
  action_dim: int,
  num_samples: int = 300,
  num_iterations: int = 30,
  init_mean: jax.Array | None = None,
  init_std: jax.Array | float = 1.0,
  noise_fn: search.NoiseFn | None = None,
  action_constraints: (
    constraints.ActionConstraint | Sequence[constraints.ActionConstraint]
  ) = (),
  guardrails: Sequence[constraints.Guardrail] = (),
  step_weights: np.ndarray | None = None,
) -> problems.Plan:
  """Plans by drawing N times I sequences and taking the cheapest of all.

  Nothing is learnt between iterations: all draw from the first distribution,
  a Gaussian, and rounds only keep the memory that of N candidates.

  A candidate whose cost is not finite ranks last and is counted in the
  diagnostics; where none is finite the plan is the first mean.

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
    num_iterations: I.
    init_mean: `[B, H, A]`, mean of the distribution, zero by default.
    init_std: its standard deviation, a number, `[A]`, `[H, A]` or
      `[B, H, A]`.
    noise_fn: draws the noise of an iteration, see `cem.cem_plan`.
    action_constraints: as above.
    guardrails: as above.
    step_weights: as above.

  Returns:
    A `Plan`; its `mean` and `std` are those it was given.

  Raises:
    ValueError: no sample, no iteration, a wrong shape from `noise_fn`, and
      what `search.Search` refuses.

  Source: Nagabandi et al. (arXiv 1708.02596), section IV.
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
  mean, std = task.first_actions(init_mean), task.first_std(init_std)

  def step(carry: tuple[jax.Array, jax.Array], iteration: jax.Array):
    noise_keys, model_keys = task.keys(iteration)
    noise = task.noise(noise_fn, noise_keys, iteration, num_samples)
    candidates = task.project(search.draw(mean, std, noise))
    costs = task.rank(candidates, model_keys)
    _, best, best_cost = search.cheapest(candidates, costs, 1)
    diagnostics = search.diagnose(costs, best_cost, std)
    return search.cheaper(*carry, best[:, 0], best_cost[:, 0]), diagnostics

  (actions, _), diagnostics = jax.lax.scan(
    step,
    (mean, jnp.full(task.shape[:1], jnp.inf)),
    jnp.arange(num_iterations),
  )
  return task.answer(
    actions, mean, std, diagnostics, num_iterations=num_iterations
  )
