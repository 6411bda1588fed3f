"""The cross-entropy method over action sequences."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm import sharding
from jepa_wm.planning import constraints, problems, rollout
from jepa_wm.types import CostFn, DynamicsFn, Params, Root

NoiseFn = Callable[[jax.Array, jax.Array], jax.Array]
"""`(rng_keys [B], iteration) -> noise [B, N, H, A]` of unit scale."""


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
  init_mean: jax.Array | None = None,
  init_std: jax.Array | float = 1.0,
  action_bounds: constraints.ActionBounds | None = None,
  step_weights: np.ndarray | None = None,
  min_std: float = 0.0,
  noise_fn: NoiseFn | None = None,
) -> problems.Plan:
  """Plans by drawing sequences, keeping the cheapest, and drawing near them.

  Each iteration draws N sequences from a Gaussian with a mean and a standard
  deviation for every step and action dimension, the first of them the mean
  itself, and fits the Gaussian to the K cheapest (standard deviation
  unbiased: divided by K - 1). The plan is the last mean, not the cheapest
  sequence seen. Elites are not carried over to the next iteration.

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
    params: first argument of `dynamics_fn` and `cost_fn`.
    rng_key: one key (problem i uses `fold_in(rng_key, i)`) or `[B]` keys,
      one per problem; consumed.
    root: starts and goals, leaves `[B, ...]`.
    dynamics_fn: one latent step of `[B, N]` candidates.
    cost_fn: the price of a step, `[B, N]`.
    horizon: H, steps to look ahead.
    action_dim: A, size of an action block.
    num_samples: N, candidates per iteration.
    num_elites: K, how many of them are learnt from.
    num_iterations: I.
    init_mean: `[B, H, A]`, the first mean (a warm start), zero by default.
    init_std: first standard deviation, a number, `[A]`, `[H, A]` or
      `[B, H, A]`.
    action_bounds: `(low, high)`, `[A]` each and in the planner's units: a box
      that candidates, and so their mean, are clipped to.
    step_weights: `[H]`, NumPy, what each step's cost counts; the last step
      alone by default (`costs.step_weights`).
    min_std: the standard deviation does not shrink below it.
    noise_fn: draws the noise of an iteration, `(rng_keys, iteration) ->
      [B, N, H, A]` of unit scale, where `rng_keys` `[B]` are the problems'
      keys for that iteration. White Gaussian by default.

  Returns:
    A `Plan`; its `actions` are its `mean`, and its `cost` is NaN or infinite
    where the model cannot price them.

  Raises:
    ValueError: more elites than samples or fewer than two, an empty horizon,
      an argument of the wrong shape, bounds that are no box, or a
      `dynamics_fn` or `cost_fn` that returned the wrong shape.

  Source: de Boer et al., A tutorial on the cross-entropy method (2005), with
    the conventions and defaults of LeWM's planner (stable-worldmodel).
  """
  num_problems = problems.check_root(root)
  rng_keys = problems.problem_keys(rng_key, num_problems)
  for name, size, least in (
    ('horizon', horizon, 1),
    ('action_dim', action_dim, 1),
    ('num_iterations', num_iterations, 1),
    ('num_elites', num_elites, 2),
  ):
    if size < least:
      raise ValueError(f'{name} must be at least {least}, got {size}.')
  if num_elites > num_samples:
    raise ValueError(
      f'num_elites must not exceed num_samples, got {num_elites} of'
      f' {num_samples}.'
    )
  if action_bounds is not None:
    action_bounds = constraints.as_bounds(action_bounds, action_dim)
  shape = (num_problems, horizon, action_dim)
  mean, std = _first_gaussian(init_mean, init_std, shape, action_bounds)

  def price(candidates: jax.Array, rng_keys: jax.Array) -> jax.Array:
    # Repeated here and not once outside: XLA can then fuse the copies away.
    state, goal = rollout.broadcast_root(root, candidates.shape[1])
    return rollout.rollout(
      params,
      rng_keys,
      state,
      candidates,
      goal,
      dynamics_fn,
      cost_fn,
      step_weights=step_weights,
    )

  def iterate(gaussian, iteration):
    mean, std = gaussian
    noise_keys, model_keys = _split(rng_keys, iteration)
    noise_shape = (num_problems, num_samples, horizon, action_dim)
    if noise_fn is None:
      noise = white_noise(noise_keys, noise_shape[1:])
    else:
      noise = noise_fn(noise_keys, iteration)
      if noise.shape != noise_shape:
        raise ValueError(
          f'noise_fn must return [B, N, H, A] = {list(noise_shape)}, got'
          f' shape {list(noise.shape)}.'
        )
    candidates = draw(mean, std, noise, action_bounds)
    costs = price(candidates, model_keys)
    _, elites, elite_costs = select_elites(candidates, costs, num_elites)
    finite = jnp.isfinite(costs)
    diagnostics = problems.Diagnostics(
      best_cost=elite_costs[:, 0],
      mean_cost=_mean_finite(costs),
      elite_cost=_mean_finite(elite_costs),
      spread=jnp.mean(std, axis=(1, 2)),
      num_nonfinite=jnp.sum(~finite, axis=1, dtype=jnp.int32),
    )
    mean, std = fit(mean, std, elites, elite_costs)
    if action_bounds is not None:
      mean = action_bounds.clip(mean)  # A mean may round out of the box.
    return (mean, jnp.maximum(std, min_std)), diagnostics

  (mean, std), diagnostics = jax.lax.scan(
    iterate, (mean, std), jnp.arange(num_iterations)
  )
  _, model_keys = _split(rng_keys, num_iterations)
  cost = price(jnp.expand_dims(mean, 1), model_keys)[:, 0]
  return problems.Plan(mean, cost, mean, std, diagnostics)


def white_noise(rng_keys: jax.Array, shape: tuple[int, ...]) -> jax.Array:
  """Draws independent standard normals `[B, *shape]`, each from its key."""

  def draw_flat(rng_key: jax.Array) -> jax.Array:
    # The same numbers in one row: XLA compiles that three times as fast.
    return jax.random.normal(rng_key, (math.prod(shape),)).reshape(shape)

  return jax.vmap(draw_flat)(rng_keys)


def draw(
  mean: jax.Array,
  std: jax.Array,
  noise: jax.Array,
  action_bounds: constraints.ActionBounds | None = None,
) -> jax.Array:
  """Turns noise into candidates, the first of which is the mean.

  Args:
    mean: `[B, H, A]`.
    std: `[B, H, A]`.
    noise: `[B, N, H, A]` of unit scale.
    action_bounds: box `[A]` to clip to.

  Returns:
    `[B, N, H, A]`.
  """
  mean, std = jnp.expand_dims(mean, 1), jnp.expand_dims(std, 1)
  # A mask and not `.at[:, 0]`: it needs nothing from other devices.
  is_mean = jnp.arange(noise.shape[1]).reshape(1, -1, 1, 1) == 0
  candidates = jnp.where(is_mean, mean, mean + std * noise)
  if action_bounds is not None:
    candidates = action_bounds.clip(candidates)
  return sharding.constrain(candidates, 'data', 'samples')


def select_elites(
  candidates: jax.Array, costs: jax.Array, num_elites: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Picks the cheapest candidates, cheapest first.

  Args:
    candidates: `[B, N, H, A]`.
    costs: `[B, N]`; what is not finite ranks last, ties rank by index.
    num_elites: K.

  Returns:
    indices `[B, K]`, elites `[B, K, H, A]` and their costs `[B, K]`,
    infinite where the candidate's is not finite.
  """
  costs = sharding.constrain(costs, 'data')
  costs = jnp.where(jnp.isfinite(costs), costs, jnp.inf)
  negative, indices = jax.lax.top_k(-costs, num_elites)
  elites = jnp.take_along_axis(
    candidates, indices.reshape(*indices.shape, 1, 1), axis=1
  )
  return indices, sharding.constrain(elites, 'data'), -negative


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


def _first_gaussian(
  init_mean: jax.Array | None,
  init_std: jax.Array | float,
  shape: tuple[int, int, int],
  action_bounds: constraints.ActionBounds | None,
) -> tuple[jax.Array, jax.Array]:
  """Mean and standard deviation `[B, H, A]` of the first iteration."""
  if init_mean is None:
    mean = jnp.zeros(shape, jnp.float32)
  elif jnp.shape(init_mean) != shape:
    raise ValueError(
      f'init_mean must be [B, H, A] = {list(shape)}, got shape'
      f' {list(jnp.shape(init_mean))}.'
    )
  else:
    mean = jnp.asarray(init_mean, jnp.float32)
  if jnp.shape(init_std) not in ((), shape[2:], shape[1:], shape):
    raise ValueError(
      'init_std must be a number, [A], [H, A] or [B, H, A] ='
      f' {list(shape)}, got shape {list(jnp.shape(init_std))}.'
    )
  std = jnp.broadcast_to(jnp.asarray(init_std, jnp.float32), shape)
  if action_bounds is not None:
    mean = action_bounds.clip(mean)
  return mean, std


def _split(rng_keys: jax.Array, iteration: Any) -> tuple[jax.Array, jax.Array]:
  """Keys `[B]` for the noise and for the model of one iteration."""
  keys = jax.vmap(jax.random.split)(problems.fold_keys(rng_keys, iteration))
  return keys[:, 0], keys[:, 1]


def _mean_finite(costs: jax.Array) -> jax.Array:
  """Mean of the finite costs `[B, N]`, infinite where there is none."""
  finite = jnp.isfinite(costs)
  number = jnp.sum(finite, axis=1)
  total = jnp.sum(jnp.where(finite, costs, 0.0), axis=1)
  return jnp.where(number > 0, total / jnp.maximum(number, 1), jnp.inf)
