"""Model-predictive path integral control."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm.planning import cem, constraints, problems, search
from jepa_wm.types import CostFn, DynamicsFn, Params, Root


def mppi_plan(
  params: Params,
  rng_key: jax.Array,
  root: Root,
  dynamics_fn: DynamicsFn,
  cost_fn: CostFn,
  *,
  horizon: int,
  action_dim: int,
  num_samples: int = 300,
  num_elites: int | None = None,
  num_iterations: int = 30,
  temperature: float = 0.5,
  init_mean: jax.Array | None = None,
  init_std: jax.Array | float = 1.0,
  noise_fn: search.NoiseFn | None = None,
  action_constraints: (
    constraints.ActionConstraint | Sequence[constraints.ActionConstraint]
  ) = (),
  guardrails: Sequence[constraints.Guardrail] = (),
  step_weights: np.ndarray | None = None,
) -> problems.Plan:
  """Plans by averaging sequences, the cheap ones counting exponentially more.

  Each iteration draws N sequences around the mean, the first of them the mean
  itself, and moves the mean to their average under `soft_weights`. The
  standard deviation stays what it was. The plan is the last mean.

  A candidate whose cost is not finite weighs nothing and is counted in the
  diagnostics; where none is finite the mean stays as it was.

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
    num_elites: K, how many of the cheapest are averaged; all by default.
    num_iterations: I.
    temperature: in units of the cost: how much dearer than the cheapest a
      candidate is that weighs 1/e of it.
    init_mean: `[B, H, A]`, the first mean (a warm start), zero by default.
    init_std: standard deviation of all iterations, a number, `[A]`, `[H, A]`
      or `[B, H, A]`.
    noise_fn: draws the noise of an iteration, see `cem.cem_plan`.
    action_constraints: as above.
    guardrails: as above.
    step_weights: as above.

  Returns:
    A `Plan`; its `actions` are its `mean`.

  Raises:
    ValueError: a temperature that is not positive, more elites than samples
      or fewer than two, a wrong shape from `noise_fn`, and what
      `search.Search` refuses.

  Source: Williams et al., Information theoretic MPC for model-based
    reinforcement learning (2017), without its price of control; the cheapest
    K as in TD-MPC2 and stable-worldmodel.
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
  num_averaged = num_samples if num_elites is None else num_elites
  cem.check_settings(num_samples, num_averaged, num_iterations)
  if not temperature > 0.0:
    raise ValueError(f'temperature must be positive, got {temperature}.')
  std = task.first_std(init_std)

  def step(mean: jax.Array, iteration: jax.Array):
    noise_keys, model_keys = task.keys(iteration)
    noise = task.noise(noise_fn, noise_keys, iteration, num_samples)
    candidates = task.project(search.draw(mean, std, noise))
    costs = task.rank(candidates, model_keys)
    if num_averaged < num_samples:
      _, averaged, averaged_costs = search.cheapest(
        candidates, costs, num_averaged
      )
      ordered = averaged_costs
    else:
      # All of them: they stay where they are, only the sum travels.
      averaged, averaged_costs = candidates, costs
      ordered = jnp.sort(jnp.where(jnp.isfinite(costs), costs, jnp.inf), axis=1)
    diagnostics = search.diagnose(costs, ordered, std)
    weights = soft_weights(averaged_costs, temperature)
    weights = weights.reshape(*weights.shape, 1, 1)
    new_mean = jnp.sum(weights * averaged, axis=1)
    learnt = jnp.isfinite(ordered[:, :1]).reshape(-1, 1, 1)
    new_mean = jnp.where(learnt, new_mean, mean)
    # A mean of allowed sequences may round out of the set.
    return task.project(new_mean), diagnostics

  mean, diagnostics = jax.lax.scan(
    step, task.first_actions(init_mean), jnp.arange(num_iterations)
  )
  return task.answer(
    mean, mean, std, diagnostics, num_iterations=num_iterations
  )


def soft_weights(costs: jax.Array, temperature: float) -> jax.Array:
  """Computes `softmax(-(cost - min) / temperature)`.

  Args:
    costs: `[B, N]`; what is not finite weighs nothing.
    temperature: in the costs' units.

  Returns:
    `[B, N]`, rows that sum to one, or to zero where no cost is finite.
  """
  finite = jnp.isfinite(costs)
  low = jnp.min(costs, axis=1, where=finite, initial=jnp.inf, keepdims=True)
  # Not costs - low before the mask: inf - inf is NaN.
  above = jnp.where(finite, costs, 0.0) - jnp.where(jnp.isinf(low), 0.0, low)
  weights = jnp.where(finite, jnp.exp(-above / temperature), 0.0)
  total = jnp.sum(weights, axis=1, keepdims=True)
  return weights / jnp.where(total > 0.0, total, 1.0)
