"""A checked problem, and the tools that planners share."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jepa_wm.planning import checks, keys, limits, rollout
from jepa_wm.planning.problem import Problem, WarmStart
from jepa_wm.types import Params

NoiseDraw = Callable[[jax.Array, tuple[int, ...]], jax.Array]
"""`(rng_keys [B], shape) -> [B, *shape]` of unit scale."""


class Start(NamedTuple):
  """Where a search begins.

  Attributes:
    mean: `[B, H, A]`, allowed.
    given: `[B, F, H, A]`, candidates to look at, F below N; one that holds a
      NaN or an infinity is none.
    num_given: `[]` int32, how many of `given` count, from the first on.
  """

  mean: jax.Array
  given: jax.Array
  num_given: jax.Array


class Answer(NamedTuple):
  """What a planner would say now, `[B, H, A]`.

  Attributes:
    actions: the plan.
    mean: where the next search should start.
    std: standard deviation that candidates are drawn with.
    searched: `[B]` bool, for whom there was a search; None for all.
    allowed: the best candidate that no hard guardrail forbids, anything where
      there was none; None of who has no other than `actions`.
  """

  actions: jax.Array
  mean: jax.Array
  std: jax.Array
  searched: jax.Array | None = None
  allowed: jax.Array | None = None


@dataclasses.dataclass(frozen=True)
class Task:
  """A checked problem, and the tools that planners share.

  Attributes:
    params: first argument of dynamics, costs, guardrails and proposals.
    rng_keys: `[B]`, the problems' own keys.
    problem: its limits are checked.
  """

  params: Params
  rng_keys: jax.Array
  problem: Problem

  @property
  def shape(self) -> tuple[int, int, int]:
    """`(B, H, A)`."""
    size = self.problem.horizon, self.problem.action_dim
    return self.rng_keys.shape[0], *size

  @property
  def watched(self) -> tuple[limits.Guardrail, ...]:
    """All guardrails, of which a plan is told."""
    return tuple(self.problem.limits.guardrails)

  @property
  def guardrails(self) -> tuple[limits.Guardrail, ...]:
    """The G guardrails that a search keeps."""
    return tuple(rail for rail in self.watched if rail.form != 'off')

  def keys(self, iteration: jax.Array | int) -> tuple[jax.Array, jax.Array]:
    """Keys `[B]` for the noise and for the model of one iteration."""
    return keys.split_keys(keys.fold_keys(self.rng_keys, iteration))

  def first_std(self, init_std: jax.Array | float) -> jax.Array:
    """A standard deviation as `[B, H, A]`.

    Raises:
      ValueError: it is negative, or not a number, `[A]`, `[H, A]` or
        `[B, H, A]`.
    """
    checks.not_negative(init_std=init_std)
    shape = self.shape
    if jnp.shape(init_std) not in ((), shape[2:], shape[1:], shape):
      raise ValueError(
        'init_std must be a number, [A], [H, A] or [B, H, A] ='
        f' {list(shape)}, got shape {list(jnp.shape(init_std))}.'
      )
    return jnp.broadcast_to(jnp.asarray(init_std, jnp.float32), shape)

  def noise(
    self,
    draw_fn: NoiseDraw,
    rng_keys: jax.Array,
    iteration: jax.Array | int,
    size: int,
    most: int,
  ) -> jax.Array:
    """Noise `[B, N, H, A]` of unit scale: the problem's own, or `draw_fn`'s.

    Args:
      draw_fn: `(rng_keys, shape) -> [B, *shape]`.
      rng_keys: `[B]`.
      iteration: its number.
      size: N.
      most: N of the largest iteration, which the problem's `noise_fn` draws.

    Raises:
      ValueError: `noise_fn` returned another shape.
    """
    noise_fn, (num_problems, *rest) = self.problem.noise_fn, self.shape
    if noise_fn is None:
      return draw_fn(rng_keys, (size, *rest))
    noise = noise_fn(rng_keys, jnp.asarray(iteration))
    shape = (num_problems, most, *rest)
    if noise.shape != shape:
      raise ValueError(
        f'noise_fn must return [B, N, H, A] = {list(shape)}, got shape'
        f' {list(noise.shape)}.'
      )
    return noise[:, :size]

  def project(self, actions: jax.Array) -> jax.Array:
    """Moves `[B, ..., H, A]` to where the action limits hold."""
    return self.problem.limits.project(actions)

  def price(
    self,
    actions: jax.Array,
    rng_keys: jax.Array,
    *,
    guardrails: Sequence[limits.Guardrail] | None = None,
  ) -> rollout.Prices:
    """Prices candidates.

    Args:
      actions: `[B, N, H, A]`.
      rng_keys: `[B]`, the model's.
      guardrails: that are looked at; those that the search keeps by default.
    """
    problem = self.problem
    # Repeated here and not once outside: XLA can then fuse the copies away.
    state, goal = rollout.broadcast_root(problem.root, actions.shape[1])
    return rollout.rollout(
      self.params,
      rng_keys,
      state,
      actions,
      goal,
      problem.dynamics_fn,
      problem.cost_fn,
      step_weights=problem.step_weights,
      guardrails=self.guardrails if guardrails is None else guardrails,
    )

  def penalize(self, prices: rollout.Prices) -> jax.Array:
    """Cost plus penalties, `[B, N]`; NaN or infinite where any price is.

    Guardrails of other forms than by a price are looked at in `keeping`.
    """
    cost, excess = prices
    for index, guardrail in enumerate(self.guardrails):
      if guardrail.form not in (None, 'soft'):
        continue
      passed = jnp.maximum(excess[..., index], 0.0)
      cost = cost + guardrail.penalty * jnp.sum(passed, axis=-1)
    return cost


def open_task(
  params: Params,
  rng_key: jax.Array,
  problem: Problem,
  warm_start: WarmStart | None = None,
) -> Task:
  """Checks a problem; its limits go on from what was played last."""
  num_problems = checks.count_problems(problem.root)
  checks.at_least(
    horizon=(problem.horizon, 1), action_dim=(problem.action_dim, 1)
  )
  rng_keys = keys.problem_keys(rng_key, num_problems)
  allowed = problem.limits.checked(problem.action_dim)
  if warm_start is not None and warm_start.previous is not None:
    allowed = allowed.following(warm_start.previous)
  checked = dataclasses.replace(problem, limits=allowed)
  return Task(params, rng_keys, checked)
