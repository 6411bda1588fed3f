"""Whoever plans for worlds that are played, and owns what a plan leaves."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm.planning import checks, driver
from jepa_wm.planning.limits import NO_LIMITS, Limits
from jepa_wm.planning.problem import Plan, Problem, ProposalFn, WarmStart
from jepa_wm.types import CostFn, DynamicsFn, Params, Root

Left = TypeVar('Left')


class Clock(NamedTuple):
  """The time, in action blocks.

  Attributes:
    num_played: blocks played so far.
    num_left: blocks that may still be played.
  """

  num_played: jax.Array | int
  num_left: jax.Array | int


FirstFn = Callable[[Params, jax.Array, Root, Clock], jax.Array]
"""`(params, rng_keys [B], root, clock) -> actions [B, F, H, A]`.

A `ProposalFn` that is told the time; what it says comes first.
"""


class PlanFn(Protocol[Left]):
  """Whoever plans for B worlds, and owns what a plan leaves to the next."""

  @property
  def action_dim(self) -> int:
    """A, size of a block."""
    ...

  def first(self, num_problems: int) -> Left:
    """What there is before the first plan, leaves `[B, ...]`."""
    ...

  def plan(
    self,
    params: Params,
    rng_keys: jax.Array,
    root: Root,
    warm_start: Left,
    clock: Clock,
  ) -> tuple[Plan, Left]:
    """Plans once; `rng_keys` are `[B]`.

    Returns:
      The plan, and what it leaves, of the same shapes as `first`'s.
    """
    ...

  def shift(self, left: Left, played: jax.Array) -> Left:
    """What is left when the blocks `played` `[B, R, A]` have been played."""
    ...

  def forget(self, left: Left) -> Left:
    """What is known without a warm start."""
    ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class BoundPlanner:
  """A planner with its model: the flat `PlanFn`.

  A plan starts from the warm start, and within the reach of the block that
  was played last where a limit is on the rate.

  Attributes:
    planner: its settings.
    dynamics_fn: see `Problem`, as `cost_fn`, `horizon`, `action_dim`,
      `limits`, `step_weights` and `proposal_fn`.
    first_fn: proposals that depend on the time, before those of
      `proposal_fn`; what planners follow that do (`driver.Planner.follows`).

  Raises:
    ValueError: limits that cannot be met.
  """

  planner: driver.Planner[Any]
  dynamics_fn: DynamicsFn
  cost_fn: CostFn
  horizon: int
  action_dim: int
  limits: Limits = NO_LIMITS
  step_weights: np.ndarray | jax.Array | None = None
  proposal_fn: ProposalFn | None = None
  first_fn: FirstFn | None = None

  def __post_init__(self) -> None:
    self.limits.checked(self.action_dim)

  def first(self, num_problems: int) -> WarmStart:
    """Nothing planned yet: a mean of zero, and elites that are none."""
    size = (self.horizon, self.action_dim)
    number = self.planner.num_kept
    return WarmStart(
      jnp.zeros((num_problems, *size), jnp.float32),
      # Not NaN, at which `jax_debug_nans` would stop.
      jnp.full((num_problems, number, *size), jnp.inf, jnp.float32),
      jnp.full((num_problems, self.action_dim), jnp.inf, jnp.float32),
    )

  def plan(
    self,
    params: Params,
    rng_keys: jax.Array,
    root: Root,
    warm_start: WarmStart,
    clock: Clock,
  ) -> tuple[Plan, WarmStart]:
    """Searches; the time matters to `first_fn` alone."""
    problem = Problem(
      root=root,
      dynamics_fn=self.dynamics_fn,
      cost_fn=self.cost_fn,
      horizon=self.horizon,
      action_dim=self.action_dim,
      limits=self.limits,
      step_weights=self.step_weights,
      proposal_fn=self._proposals(clock),
    )
    plan = driver.search(
      self.planner, params, rng_keys, problem, warm_start=warm_start
    )
    return plan, WarmStart(plan.mean, plan.elites, warm_start.previous)

  def _proposals(self, clock: Clock) -> ProposalFn | None:
    """All that is proposed at a time."""
    first_fn, others_fn = self.first_fn, self.proposal_fn
    if first_fn is None:
      return others_fn

    def propose(params: Params, rng_keys: jax.Array, root: Root) -> jax.Array:
      first = first_fn(params, rng_keys, root, clock)
      if others_fn is None:
        return first
      others = others_fn(params, rng_keys, root)
      return jnp.concatenate([first, others], axis=1)

    return propose

  def shift(self, left: WarmStart, played: jax.Array) -> WarmStart:
    """What is left when the blocks `played` `[B, R, A]` have been played."""
    shifted = self.planner.shift(left, played.shape[1])
    return shifted._replace(previous=played[:, -1])

  def forget(self, left: WarmStart) -> WarmStart:
    """Nothing planned, but what was played last is known."""
    fresh = self.first(checks.count(left, 'warm_start'))
    return fresh._replace(previous=left.previous)
