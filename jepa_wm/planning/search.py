"""What every planner does: open the door, draw, price, pick, answer."""

import dataclasses
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm import sharding
from jepa_wm.planning import constraints, problems, rollout
from jepa_wm.types import CostFn, DynamicsFn, Params, Root

NoiseFn = Callable[[jax.Array, jax.Array], jax.Array]
"""`(rng_keys [B], iteration) -> noise [B, N, H, A]` of unit scale."""


@dataclasses.dataclass(frozen=True)
class Search:
  """A batch of problems, checked, as the planners of this room see it.

  Its fields are the arguments that all planners share.

  Attributes:
    params: first argument of `dynamics_fn`, `cost_fn` and the guardrails.
    rng_key: one key (problem i uses `fold_in(rng_key, i)`) or `[B]` keys, one
      per problem; consumed.
    root: starts and goals, leaves `[B, ...]`.
    dynamics_fn: one latent step of `[B, N]` candidates.
    cost_fn: the price of a step, `[B, N]`.
    horizon: H, steps to look ahead.
    action_dim: A, size of an action block.
    action_constraints: one constraint or several, in the planner's units:
      whatever is tried is projected onto them.
    guardrails: prices that must stay below a bound at every step.
    step_weights: `[H]`, NumPy, what each step's cost counts; the last step
      alone by default (`costs.step_weights`).

  Raises:
    ValueError: an empty horizon, an argument of the wrong shape, constraints
      that cannot be met; and when it prices, a `dynamics_fn`, `cost_fn` or
      guardrail that returned the wrong shape.
  """

  params: Params
  rng_key: jax.Array
  root: Root
  dynamics_fn: DynamicsFn
  cost_fn: CostFn
  horizon: int
  action_dim: int
  action_constraints: (
    constraints.ActionConstraint | Sequence[constraints.ActionConstraint]
  ) = ()
  guardrails: Sequence[constraints.Guardrail] = ()
  step_weights: np.ndarray | None = None

  def __post_init__(self) -> None:
    num_problems = problems.check_root(self.root)
    problems.check_at_least(
      horizon=(self.horizon, 1), action_dim=(self.action_dim, 1)
    )
    keys = problems.problem_keys(self.rng_key, num_problems)
    object.__setattr__(self, 'rng_key', keys)
    checked = constraints.as_tuple(self.action_constraints, self.action_dim)
    object.__setattr__(self, 'action_constraints', checked)

  @property
  def shape(self) -> tuple[int, int, int]:
    """`(B, H, A)`."""
    return self.rng_key.shape[0], self.horizon, self.action_dim

  def keys(self, iteration: jax.Array | int) -> tuple[jax.Array, jax.Array]:
    """Keys `[B]` for the noise and for the model of one iteration."""
    keys = jax.vmap(jax.random.split)(
      problems.fold_keys(self.rng_key, iteration)
    )
    return keys[:, 0], keys[:, 1]

  def first_actions(self, init_mean: jax.Array | None) -> jax.Array:
    """Where to start from, `[B, H, A]`: zero by default, and allowed.

    Raises:
      ValueError: `init_mean` is not `[B, H, A]`.
    """
    if init_mean is None:
      init_mean = jnp.zeros(self.shape, jnp.float32)
    elif jnp.shape(init_mean) != self.shape:
      raise ValueError(
        f'init_mean must be [B, H, A] = {list(self.shape)}, got shape'
        f' {list(jnp.shape(init_mean))}.'
      )
    return self.project(jnp.asarray(init_mean, jnp.float32))

  def first_std(self, init_std: jax.Array | float) -> jax.Array:
    """A standard deviation as `[B, H, A]`.

    Raises:
      ValueError: it is negative, or not a number, `[A]`, `[H, A]` or
        `[B, H, A]`.
    """
    shape = self.shape
    if jnp.shape(init_std) not in ((), shape[2:], shape[1:], shape):
      raise ValueError(
        'init_std must be a number, [A], [H, A] or [B, H, A] ='
        f' {list(shape)}, got shape {list(jnp.shape(init_std))}.'
      )
    problems.check_not_negative(init_std=init_std)
    return jnp.broadcast_to(jnp.asarray(init_std, jnp.float32), shape)

  def noise(
    self,
    noise_fn: NoiseFn | None,
    rng_keys: jax.Array,
    iteration: jax.Array,
    num_samples: int,
  ) -> jax.Array:
    """Draws `[B, N, H, A]` of unit scale, white Gaussian by default.

    Raises:
      ValueError: `noise_fn` returned another shape.
    """
    num_problems, *size = self.shape
    shape = (num_problems, num_samples, *size)
    if noise_fn is None:
      return white_noise(rng_keys, shape[1:])
    noise = noise_fn(rng_keys, iteration)
    if noise.shape != shape:
      raise ValueError(
        f'noise_fn must return [B, N, H, A] = {list(shape)}, got shape'
        f' {list(noise.shape)}.'
      )
    return noise

  def project(self, actions: jax.Array) -> jax.Array:
    """Moves `[B, ..., H, A]` to where the action constraints hold."""
    return constraints.project(tuple(self.action_constraints), actions)  # type: ignore[arg-type]

  def price(self, actions: jax.Array, rng_keys: jax.Array) -> rollout.Prices:
    """Prices candidates `[B, N, H, A]`; `rng_keys` `[B]` are the model's."""
    # Repeated here and not once outside: XLA can then fuse the copies away.
    state, goal = rollout.broadcast_root(self.root, actions.shape[1])
    return rollout.rollout(
      self.params,
      rng_keys,
      state,
      actions,
      goal,
      self.dynamics_fn,
      self.cost_fn,
      step_weights=self.step_weights,
      guardrails=self.guardrails,
    )

  def rank(self, actions: jax.Array, rng_keys: jax.Array) -> jax.Array:
    """What candidates `[B, N, H, A]` are ranked by: cost plus penalties.

    Returns:
      `[B, N]`; NaN or infinite where any price is.
    """
    return self.penalize(self.price(actions, rng_keys))

  def penalize(self, prices: rollout.Prices) -> jax.Array:
    """Cost plus penalties, `[B, N]`."""
    cost, excess = prices
    for index, guardrail in enumerate(self.guardrails):
      passed = jnp.maximum(excess[..., index], 0.0)
      cost = cost + guardrail.penalty * jnp.sum(passed, axis=-1)
    return cost

  def answer(
    self,
    actions: jax.Array,
    mean: jax.Array,
    std: jax.Array,
    diagnostics: problems.Diagnostics,
    *,
    num_iterations: int,
    elites: jax.Array | None = None,
  ) -> problems.Plan:
    """Prices what was found and makes it a `Plan`.

    Args:
      actions: `[B, H, A]`, the plan.
      mean: `[B, H, A]`.
      std: `[B, H, A]`.
      diagnostics: how the search went.
      num_iterations: whose keys have been used.
      elites: `[B, E, H, A]`, none by default.
    """
    _, model_keys = self.keys(num_iterations)
    cost, excess = self.price(jnp.expand_dims(actions, 1), model_keys)
    if elites is None:
      elites = jnp.zeros((self.shape[0], 0, *self.shape[1:]), actions.dtype)
    return problems.Plan(
      actions=actions,
      cost=cost[:, 0],
      violation=jnp.max(excess, axis=(1, 2, 3), initial=0.0),
      mean=mean,
      std=std,
      elites=elites,
      diagnostics=diagnostics,
    )


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
  given: jax.Array | None = None,
  num_given: jax.Array | int = 0,
) -> jax.Array:
  """Turns noise into candidates, the first of which is the mean.

  Args:
    mean: `[B, H, A]`.
    std: `[B, H, A]`.
    noise: `[B, N, H, A]` of unit scale.
    given: `[B, F, H, A]`, F below N, candidates that come after the mean;
      one that holds a NaN is drawn instead.
    num_given: how many of `given` count, from its start; may be traced.

  Returns:
    `[B, N, H, A]`.
  """
  mean, std = jnp.expand_dims(mean, 1), jnp.expand_dims(std, 1)
  index = jnp.arange(noise.shape[1]).reshape(1, -1, 1, 1)
  # Masks and not `.at[:, 0]`: they need nothing from other devices.
  candidates = jnp.where(index == 0, mean, mean + std * noise)
  if given is not None and given.shape[1]:
    after = noise.shape[1] - 1 - given.shape[1]
    padded = jnp.pad(given, ((0, 0), (1, after), (0, 0), (0, 0)))
    is_given = (index >= 1) & (index <= num_given)
    is_given &= ~jnp.any(jnp.isnan(padded), axis=(2, 3), keepdims=True)
    candidates = jnp.where(is_given, padded, candidates)
  return sharding.constrain(candidates, 'data', 'samples')


def cheapest(
  candidates: jax.Array, costs: jax.Array, number: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Picks the cheapest candidates, cheapest first.

  Args:
    candidates: `[B, N, H, A]`.
    costs: `[B, N]`; what is not finite ranks last, ties rank by index.
    number: K.

  Returns:
    indices `[B, K]`, elites `[B, K, H, A]` and their costs `[B, K]`,
    infinite where the candidate's is not finite.
  """
  costs = sharding.constrain(costs, 'data')
  costs = jnp.where(jnp.isfinite(costs), costs, jnp.inf)
  negative, indices = jax.lax.top_k(-costs, number)
  elites = jnp.take_along_axis(
    candidates, indices.reshape(*indices.shape, 1, 1), axis=1
  )
  return indices, sharding.constrain(elites, 'data'), -negative


def cheaper(
  actions: jax.Array,
  cost: jax.Array,
  other_actions: jax.Array,
  other_cost: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  """Picks the cheaper of two sequences for every problem.

  Args:
    actions: `[B, H, A]`.
    cost: `[B]`, infinite where there is none yet.
    other_actions: `[B, H, A]`, taken only where it costs less.
    other_cost: `[B]`; what is NaN is not less.

  Returns:
    `[B, H, A]` and `[B]`.
  """
  less = other_cost < cost
  actions = jnp.where(less.reshape(-1, 1, 1), other_actions, actions)
  return actions, jnp.where(less, other_cost, cost)


def diagnose(
  costs: jax.Array, elite_costs: jax.Array, std: jax.Array
) -> problems.Diagnostics:
  """Describes one iteration.

  Args:
    costs: `[B, N]`, what the candidates were ranked by.
    elite_costs: `[B, K]`, of those that were learnt from, cheapest first.
    std: `[B, H, A]`, that they were drawn with.

  Returns:
    Leaves `[B]`.
  """
  return problems.Diagnostics(
    best_cost=elite_costs[:, 0],
    mean_cost=_mean_finite(costs),
    elite_cost=_mean_finite(elite_costs),
    spread=jnp.mean(std, axis=(1, 2)),
    num_nonfinite=jnp.sum(~jnp.isfinite(costs), axis=1, dtype=jnp.int32),
  )


def _mean_finite(costs: jax.Array) -> jax.Array:
  """Mean of the finite costs `[B, N]`, infinite where there is none."""
  finite = jnp.isfinite(costs)
  number = jnp.sum(finite, axis=1)
  total = jnp.sum(jnp.where(finite, costs, 0.0), axis=1)
  return jnp.where(number > 0, total / jnp.maximum(number, 1), jnp.inf)
