"""The cross-entropy method over sequences of discrete actions."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm import sharding
from jepa_wm.planning import cem, constraints, problems, search
from jepa_wm.types import CostFn, DynamicsFn, Params, Root


def categorical_cem_plan(
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
  smoothing: float = 0.01,
  momentum: float = 0.0,
  init_mean: jax.Array | None = None,
  guardrails: Sequence[constraints.Guardrail] = (),
  step_weights: np.ndarray | None = None,
) -> problems.Plan:
  """Plans which of A actions to take at every step.

  Each iteration draws N sequences, every step on its own from its own
  probabilities, and sets the probabilities to how often the K cheapest take
  each action. The first candidate takes the likeliest action at every step,
  and so does the plan. `dynamics_fn` and `cost_fn` are given actions as
  one-hot rows. Candidates whose cost is not finite are treated as in
  `cem.cem_plan`.

  Args:
    params: see `search.Search`, as `rng_key`, `root`, `dynamics_fn`,
      `cost_fn`, `horizon`, `guardrails` and `step_weights`.
    rng_key: as above.
    root: as above.
    dynamics_fn: as above.
    cost_fn: as above.
    horizon: as above.
    action_dim: A, the number of actions to choose from.
    num_samples: N, candidates per iteration.
    num_elites: K, how many of them are learnt from.
    num_iterations: I.
    smoothing: added to every frequency before they are made to sum to one
      again, so that no action is given up for good.
    momentum: share of the old probabilities in the new ones, 0..1.
    init_mean: `[B, H, A]`, the first probabilities (a warm start), not
      negative; they need not sum to one, and a row that sums to zero is
      uniform, as all are by default.
    guardrails: as above.
    step_weights: as above.

  Returns:
    A `Plan` with one-hot `actions`; its `mean` are the last probabilities p
    and its `std` `sqrt(p (1 - p))`.

  Raises:
    ValueError: more elites than samples or fewer than two, momentum outside
      0..1, negative smoothing, and what `search.Search` refuses.

  Source: Rubinstein and Kroese, The cross-entropy method (2004), section 5.1;
    the order of candidates as in stable-worldmodel.
  """
  task = search.Search(
    params,
    rng_key,
    root,
    dynamics_fn,
    cost_fn,
    horizon,
    action_dim,
    guardrails=guardrails,
    step_weights=step_weights,
  )
  cem.check_settings(num_samples, num_elites, num_iterations, (momentum,))
  if not smoothing >= 0.0:
    raise ValueError(f'smoothing must not be negative, got {smoothing}.')

  def step(chances: jax.Array, iteration: jax.Array):
    noise_keys, model_keys = task.keys(iteration)
    candidates = draw(chances, noise_keys, num_samples)
    costs = task.rank(candidates, model_keys)
    _, elites, elite_costs = search.cheapest(candidates, costs, num_elites)
    diagnostics = search.diagnose(costs, elite_costs, _deviation(chances))
    frequencies, _ = cem.fit(chances, chances, elites, elite_costs)
    new = normalize(frequencies + smoothing)
    new = momentum * chances + (1.0 - momentum) * new
    # Where `cem.fit` learnt nothing, nothing is smoothed either.
    learnt = jnp.sum(jnp.isfinite(elite_costs), axis=1) >= 2
    return jnp.where(learnt.reshape(-1, 1, 1), new, chances), diagnostics

  chances, diagnostics = jax.lax.scan(
    step, normalize(task.first_actions(init_mean)), jnp.arange(num_iterations)
  )
  return task.answer(
    _one_hot(chances),
    chances,
    _deviation(chances),
    diagnostics,
    num_iterations=num_iterations,
  )


def normalize(chances: jax.Array) -> jax.Array:
  """Makes rows `[..., A]` sum to one; those that sum to zero are uniform."""
  total = jnp.sum(chances, axis=-1, keepdims=True)
  some = total > 0.0
  return jnp.where(
    some, chances / jnp.where(some, total, 1.0), 1.0 / chances.shape[-1]
  )


def draw(
  chances: jax.Array, rng_keys: jax.Array, num_samples: int
) -> jax.Array:
  """Draws sequences, the first of which is the likeliest.

  Args:
    chances: `[B, H, A]`, rows that sum to one.
    rng_keys: `[B]`, consumed.
    num_samples: N.

  Returns:
    `[B, N, H, A]` float32, one-hot.
  """
  size = (num_samples, *chances.shape[1:])

  def draw_flat(rng_key: jax.Array) -> jax.Array:
    # In one row, as in `search.white_noise`.
    return jax.random.gumbel(rng_key, (math.prod(size),)).reshape(size)

  # Where log-probability plus Gumbel noise is largest is a draw.
  scores = jnp.expand_dims(jnp.log(chances), 1) + jax.vmap(draw_flat)(rng_keys)
  drawn = _one_hot(scores)
  is_first = jnp.arange(num_samples).reshape(1, -1, 1, 1) == 0
  likeliest = jnp.expand_dims(_one_hot(chances), 1)
  candidates = jnp.where(is_first, likeliest, drawn)
  return sharding.constrain(candidates, 'data', 'samples')


def _one_hot(scores: jax.Array) -> jax.Array:
  """One where a row `[..., A]` is largest, the first of equals."""
  return jax.nn.one_hot(
    jnp.argmax(scores, axis=-1), scores.shape[-1], dtype=jnp.float32
  )


def _deviation(chances: jax.Array) -> jax.Array:
  return jnp.sqrt(chances * (1.0 - chances))
