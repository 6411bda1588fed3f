"""The improved cross-entropy method: coloured noise, elites that stay."""

import functools
import itertools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm.planning import cem, constraints, problems, search
from jepa_wm.types import CostFn, DynamicsFn, Params, Root


class _Carry(NamedTuple):
  """What one iteration leaves to the next."""

  mean: jax.Array  # [B, H, A]
  std: jax.Array  # [B, H, A]
  kept: jax.Array  # [B, E, H, A]
  best: jax.Array  # [B, H, A], cheapest sequence so far
  best_cost: jax.Array  # [B]


def icem_plan(
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
  num_kept: int = 5,
  noise_beta: float = 2.0,
  decay: float = 1.0,
  momentum: float = 0.1,
  return_mean: bool = True,
  init_mean: jax.Array | None = None,
  init_std: jax.Array | float = 1.0,
  init_elites: jax.Array | None = None,
  noise_fn: search.NoiseFn | None = None,
  action_constraints: (
    constraints.ActionConstraint | Sequence[constraints.ActionConstraint]
  ) = (),
  guardrails: Sequence[constraints.Guardrail] = (),
  step_weights: np.ndarray | None = None,
) -> problems.Plan:
  """Plans like `cem.cem_plan`, with smooth sequences and a memory.

  Noise is correlated over the steps of a sequence (`color`), the best elites
  are candidates again in the next iteration and in the next plan, and later
  iterations may draw fewer candidates. Candidates whose cost is not finite
  are treated as in `cem.cem_plan`.

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
    num_samples: N, candidates in the first iteration.
    num_elites: K, how many of them are learnt from.
    num_iterations: I.
    num_kept: E, how many elites are candidates again, after the mean.
    noise_beta: exponent of the noise's power spectrum over the steps; 0 is
      white, the larger the smoother.
    decay: iteration i draws `max(N / decay^i, 2 K)` candidates (and no more
      than N); each size but a repeated one is compiled on its own.
    momentum: share of the old mean and standard deviation in the new, 0..1.
    return_mean: whether the plan is the last mean or the cheapest sequence
      of all iterations (the mean where none had a finite cost).
    init_mean: `[B, H, A]`, the first mean (a warm start), zero by default.
    init_std: first standard deviation, a number, `[A]`, `[H, A]` or
      `[B, H, A]`.
    init_elites: `[B, E, H, A]`, the last plan's `elites`, shifted by what has
      been played; a sequence that holds a NaN is drawn instead.
    noise_fn: draws what is coloured, `(rng_keys, iteration) -> [B, N, H, A]`
      of unit scale and white, of which an iteration uses as many as it draws.
    action_constraints: as above.
    guardrails: as above.
    step_weights: as above.

  Returns:
    A `Plan`; its `elites` are the E best of the last iteration, best first.

  Raises:
    ValueError: what `cem.cem_plan` refuses, `decay` below one, `init_elites`
      of the wrong shape.

  Source: Pinneri et al. (arXiv 2008.06389), with stable-worldmodel's order of
    candidates and defaults.
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
  cem.check_settings(num_samples, num_elites, num_iterations, (momentum,))
  problems.check_at_least(num_kept=(num_kept, 0))
  if num_kept > min(num_elites, num_samples - 1):
    raise ValueError(
      f'num_kept must not exceed num_elites and num_samples - 1, got {num_kept}'
      f' of {num_elites} and {num_samples - 1}.'
    )
  if not decay >= 1.0:
    raise ValueError(f'decay must be at least 1, got {decay}.')
  num_problems = task.shape[0]
  kept_shape = (num_problems, num_kept, horizon, action_dim)
  if init_elites is not None and jnp.shape(init_elites) != kept_shape:
    raise ValueError(
      f'init_elites must be [B, num_kept, H, A] = {list(kept_shape)}, got'
      f' shape {list(jnp.shape(init_elites))}.'
    )

  def step(size: int, carry: _Carry, iteration: jax.Array):
    mean, std, kept, best, best_cost = carry
    noise_keys, model_keys = task.keys(iteration)
    num_drawn = size if noise_fn is None else num_samples
    noise = task.noise(noise_fn, noise_keys, iteration, num_drawn)
    noise = color(noise[:, :size], noise_beta)
    num_given: jax.Array | int = num_kept
    if init_elites is None:
      num_given = jnp.where(iteration == 0, 0, num_kept)
    candidates = search.draw(mean, std, noise, kept, num_given)
    candidates = task.project(candidates)
    costs = task.rank(candidates, model_keys)
    _, elites, elite_costs = search.cheapest(candidates, costs, num_elites)
    diagnostics = search.diagnose(costs, elite_costs, std)
    new_mean, new_std = cem.fit(mean, std, elites, elite_costs)
    # A mean of allowed sequences may round out of the set.
    new_mean = task.project(momentum * mean + (1.0 - momentum) * new_mean)
    new_std = momentum * std + (1.0 - momentum) * new_std
    best, best_cost = search.cheaper(
      best, best_cost, elites[:, 0], elite_costs[:, 0]
    )
    kept = elites[:, :num_kept]
    return _Carry(new_mean, new_std, kept, best, best_cost), diagnostics

  first_mean = task.first_actions(init_mean)
  kept = jnp.zeros(kept_shape) if init_elites is None else init_elites
  carry = _Carry(
    mean=first_mean,
    std=task.first_std(init_std),
    kept=jnp.asarray(kept, jnp.float32),
    best=first_mean,
    best_cost=jnp.full(num_problems, jnp.inf),
  )
  traces = []
  sizes = population(num_samples, num_elites, num_iterations, decay)
  for size, group in itertools.groupby(enumerate(sizes), lambda item: item[1]):
    iterations = jnp.array([iteration for iteration, _ in group])
    carry, trace = jax.lax.scan(
      functools.partial(step, size), carry, iterations
    )
    traces.append(trace)
  diagnostics = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *traces)
  actions = carry.mean
  if not return_mean:
    found = jnp.isfinite(carry.best_cost).reshape(-1, 1, 1)
    actions = jnp.where(found, carry.best, carry.mean)
  return task.answer(
    actions,
    carry.mean,
    carry.std,
    diagnostics,
    num_iterations=num_iterations,
    elites=carry.kept,
  )


def color(noise: jax.Array, beta: float) -> jax.Array:
  """Gives white noise a power spectrum `1 / frequency^beta` over the steps.

  Frequency zero gets the power of the first one, and every sequence is
  divided by its own unbiased standard deviation over the steps (whose mean is
  not removed). Up to three steps have one frequency only: white noise is then
  returned as it is.

  Args:
    noise: `[B, N, H, A]`.
    beta: exponent.

  Returns:
    `[B, N, H, A]`.

  Source: the filter of stable-worldmodel's iCEM, after Timmer and Koenig, On
    generating power law noise (1995).
  """
  horizon = noise.shape[2]
  if beta == 0.0 or horizon <= 3:
    return noise
  frequency = np.fft.rfftfreq(horizon)
  frequency[0] = frequency[1]
  spectrum = np.fft.rfft(np.eye(horizon), axis=0)
  scale = np.expand_dims(frequency ** (-beta / 2.0), 1)
  # A small matrix and not an FFT, which the partitioner would not split.
  filter_ = np.fft.irfft(scale * spectrum, n=horizon, axis=0)
  noise = jnp.einsum(
    'hk,bnka->bnha',
    jnp.asarray(filter_, noise.dtype),
    noise,
    precision=jax.lax.Precision.HIGHEST,
  )
  std = jnp.std(noise, axis=2, ddof=1, keepdims=True)
  return noise / jnp.maximum(std, 1e-8)


def population(
  num_samples: int, num_elites: int, num_iterations: int, decay: float
) -> list[int]:
  """How many candidates each iteration draws.

  Source: Pinneri et al. (arXiv 2008.06389), algorithm 1, line 4.
  """
  least = min(num_samples, 2 * num_elites)
  return [
    max(int(num_samples * decay**-iteration), least)
    for iteration in range(num_iterations)
  ]
