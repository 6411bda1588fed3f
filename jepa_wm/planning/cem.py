"""The cross-entropy method over action sequences."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm.planning import constraints, problems, search
from jepa_wm.types import CostFn, DynamicsFn, Params, Root

ProposalFn = Callable[[Params, jax.Array, Root], jax.Array]
"""`(params, rng_keys [B], root) -> actions [B, F, H, A]`: first candidates."""


class _Carry(NamedTuple):
  """What one iteration leaves to the next."""

  mean: jax.Array  # [B, H, A]
  std: jax.Array  # [B, H, A]
  given: jax.Array  # [B, F, H, A]
  num_given: jax.Array  # []
  best: jax.Array  # [B], cheapest mean of elites so far
  stale: jax.Array  # [B], iterations since then
  diagnostics: problems.Diagnostics  # [B], of the last iteration


def cem_plan(
  params: Params,
  rng_key: jax.Array,
  root: Root,
  dynamics_fn: DynamicsFn,
  cost_fn: CostFn,
  *,
  horizon: int,
  action_dim: int,
  num_samples: int = 300,
  num_elites: int = 30,
  num_iterations: int = 30,
  num_kept: int = 0,
  init_mean: jax.Array | None = None,
  init_std: jax.Array | float = 1.0,
  min_std: float = 0.0,
  mean_momentum: float = 0.0,
  std_momentum: float = 0.0,
  patience: int | None = None,
  proposal_fn: ProposalFn | None = None,
  noise_fn: search.NoiseFn | None = None,
  action_constraints: (
    constraints.ActionConstraint | Sequence[constraints.ActionConstraint]
  ) = (),
  guardrails: Sequence[constraints.Guardrail] = (),
  step_weights: np.ndarray | None = None,
) -> problems.Plan:
  """Plans by drawing sequences, keeping the cheapest, and drawing near them.

  Each iteration draws N sequences from a Gaussian with a mean and a standard
  deviation for every step and action dimension, the first of them the mean
  itself, and fits the Gaussian to the K cheapest (standard deviation
  unbiased: divided by K - 1). The plan is the last mean, not the cheapest
  sequence seen.

  All problems are planned together. A problem's plan depends on its own key
  and not on the batch it is in or the devices that share the work (but for
  the rounding of the model's arithmetic). A pure function: wrap it in
  `jax.jit`, together with whatever encodes the root. Under a mesh with the
  axes 'data' and 'samples' (`sharding`), problems are split over the one and
  candidates over the other.

  A candidate whose cost is not finite ranks last, is never learnt from, and
  is counted in the diagnostics; where fewer than two are finite the
  distribution stays as it was.

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
    num_elites: K, how many of them are learnt from.
    num_iterations: I.
    num_kept: how many elites are candidates again in the next iteration.
    init_mean: `[B, H, A]`, the first mean (a warm start), zero by default.
    init_std: first standard deviation, a number, `[A]`, `[H, A]` or
      `[B, H, A]`.
    min_std: the standard deviation does not shrink below it.
    mean_momentum: share of the old mean in the new one, 0..1.
    std_momentum: share of the old standard deviation in the new one, 0..1.
    patience: a problem whose elites have not become cheaper for so many
      iterations is left as it is; when all are, the rest is skipped. Shapes
      stay: the diagnostics of its last iteration are repeated.
    proposal_fn: gives the first candidates of the first iteration after the
      mean, from a policy or an inverse-dynamics head; at most N - 1.
    noise_fn: draws the noise of an iteration, `(rng_keys, iteration) ->
      [B, N, H, A]` of unit scale, where `rng_keys` `[B]` are the problems'
      keys for that iteration. White Gaussian by default.
    action_constraints: as above.
    guardrails: as above.
    step_weights: as above.

  Returns:
    A `Plan`; its `actions` are its `mean`, and its `cost` is NaN or infinite
    where the model cannot price them.

  Raises:
    ValueError: more elites than samples or fewer than two, momentum outside
      0..1, a wrong shape from `noise_fn` or `proposal_fn`, and what
      `search.Search` refuses.

  Source: de Boer et al., A tutorial on the cross-entropy method (2005), with
    the conventions and defaults of LeWM's planner (stable-worldmodel).
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
  check_settings(
    num_samples, num_elites, num_iterations, (mean_momentum, std_momentum)
  )
  problems.check_at_least(
    num_kept=(num_kept, 0), patience=(1 if patience is None else patience, 1)
  )
  problems.check_not_negative(min_std=min_std)
  if num_kept > min(num_elites, num_samples - 1):
    raise ValueError(
      f'num_kept must not exceed num_elites and num_samples - 1, got {num_kept}'
      f' of {num_elites} and {num_samples - 1}.'
    )
  num_problems = task.shape[0]
  given, num_given = _first_given(task, proposal_fn, num_samples, num_kept)
  patience_or_never = num_iterations if patience is None else patience

  def iterate(carry: _Carry, iteration: jax.Array) -> _Carry:
    mean, std, given, num_given, best, stale, _ = carry
    noise_keys, model_keys = task.keys(iteration)
    noise = task.noise(noise_fn, noise_keys, iteration, num_samples)
    candidates = search.draw(mean, std, noise, given, num_given)
    candidates = task.project(candidates)
    costs = task.rank(candidates, model_keys)
    _, elites, elite_costs = search.cheapest(candidates, costs, num_elites)
    diagnostics = search.diagnose(costs, elite_costs, std)
    new_mean, new_std = fit(mean, std, elites, elite_costs)
    new_mean = mean_momentum * mean + (1.0 - mean_momentum) * new_mean
    new_std = std_momentum * std + (1.0 - std_momentum) * new_std
    # A mean of allowed sequences may round out of the set.
    new_mean = task.project(new_mean)
    new_std = jnp.maximum(new_std, min_std)
    kept = elites[:, :num_kept]
    given = jnp.concatenate([kept, given[:, num_kept:]], axis=1)
    better = diagnostics.elite_cost < best
    best = jnp.where(better, diagnostics.elite_cost, best)
    stale = jnp.where(better, 0, stale + 1)
    return _Carry(
      new_mean, new_std, given, jnp.int32(num_kept), best, stale, diagnostics
    )

  def step(carry: _Carry, iteration: jax.Array):
    if patience is None:
      carry = iterate(carry, iteration)
    else:
      waiting = carry.stale < patience_or_never
      after = jax.lax.cond(
        jnp.any(waiting), iterate, lambda carry, _: carry, carry, iteration
      )
      carry = jax.tree.map(
        lambda new, old: (
          jnp.where(waiting.reshape(-1, *(1,) * (new.ndim - 1)), new, old)
          if new.ndim
          else new
        ),
        after,
        carry,
      )
    return carry, carry.diagnostics

  zeros = jnp.zeros(num_problems, jnp.float32)
  carry = _Carry(
    mean=task.first_actions(init_mean),
    std=task.first_std(init_std),
    given=given,
    num_given=num_given,
    best=zeros + jnp.inf,
    stale=jnp.zeros(num_problems, jnp.int32),
    diagnostics=problems.Diagnostics(
      zeros, zeros, zeros, zeros, jnp.zeros(num_problems, jnp.int32)
    ),
  )
  carry, diagnostics = jax.lax.scan(step, carry, jnp.arange(num_iterations))
  return task.answer(
    carry.mean,
    carry.mean,
    carry.std,
    diagnostics,
    num_iterations=num_iterations,
  )


def fit(
  mean: jax.Array,
  std: jax.Array,
  elites: jax.Array,
  elite_costs: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  """Fits the Gaussian to the elites of finite cost.

  Args:
    mean: `[B, H, A]`, kept for problems without two such elites.
    std: `[B, H, A]`, likewise.
    elites: `[B, K, H, A]`.
    elite_costs: `[B, K]`.

  Returns:
    mean `[B, H, A]` and unbiased standard deviation `[B, H, A]`.
  """
  weights = jnp.isfinite(elite_costs).astype(elites.dtype)
  number = jnp.sum(weights, axis=1).reshape(-1, 1, 1)
  weights = weights.reshape(*weights.shape, 1, 1)
  elite_mean = jnp.sum(weights * elites, axis=1) / jnp.maximum(number, 1.0)
  squares = weights * (elites - jnp.expand_dims(elite_mean, 1)) ** 2
  variance = jnp.sum(squares, axis=1) / jnp.maximum(number - 1.0, 1.0)
  learnt = number >= 2.0
  mean = jnp.where(learnt, elite_mean, mean)
  return mean, jnp.where(learnt, jnp.sqrt(variance), std)


def check_settings(
  num_samples: int,
  num_elites: int,
  num_iterations: int,
  momenta: Sequence[float] = (),
) -> None:
  """Makes sure that a planner that learns from elites has some.

  Raises:
    ValueError: fewer than two elites or more than samples, no iteration, or a
      momentum outside 0..1.
  """
  problems.check_at_least(
    num_iterations=(num_iterations, 1), num_elites=(num_elites, 2)
  )
  if num_elites > num_samples:
    raise ValueError(
      f'num_elites must not exceed num_samples, got {num_elites} of'
      f' {num_samples}.'
    )
  for momentum in momenta:
    if not 0.0 <= momentum < 1.0:
      raise ValueError(
        'momentum must be at least 0 and below 1 (the share that is kept of'
        f' the old value), got {momentum}.'
      )


def _first_given(
  task: search.Search,
  proposal_fn: ProposalFn | None,
  num_samples: int,
  num_kept: int,
) -> tuple[jax.Array, jax.Array]:
  """Candidates `[B, F, H, A]` of the first iteration, and how many count."""
  num_problems, horizon, action_dim = task.shape
  size = (horizon, action_dim)
  if proposal_fn is None:
    return jnp.zeros((num_problems, num_kept, *size)), jnp.int32(0)
  # Beyond the keys of any iteration.
  proposal_keys = problems.fold_keys(task.rng_key, jnp.uint32(2**32 - 1))
  proposed = proposal_fn(task.params, proposal_keys, task.root)
  shape = proposed.shape
  if (
    len(shape) != 4
    or (shape[0], *shape[2:]) != task.shape
    or shape[1] >= num_samples
  ):
    raise ValueError(
      'proposal_fn must return [B, F, H, A] ='
      f' {[num_problems, "F", *size]} with F below num_samples={num_samples},'
      f' got shape {list(shape)}.'
    )
  num_proposed = proposed.shape[1]
  missing = max(0, num_kept - num_proposed)
  padding = jnp.zeros((num_problems, missing, *size), jnp.float32)
  given = jnp.concatenate([proposed.astype(jnp.float32), padding], axis=1)
  return given, jnp.int32(num_proposed)
