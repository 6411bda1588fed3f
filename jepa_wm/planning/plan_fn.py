"""Whoever plans for worlds that are played, and owns what a plan leaves."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm.planning import checks, driver, rollout
from jepa_wm.planning.agents import Agents
from jepa_wm.planning.limits import NO_LIMITS, Limits
from jepa_wm.planning.problem import Plan, Problem, ProposalFn, WarmStart
from jepa_wm.types import CostFn, DynamicsFn, LatentState, Params, Root

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


class Expecting(NamedTuple):
  """How a planner compares what it sees with what its model predicted.

  Attributes:
    latent_fn: a state to its newest latents `[..., D]`.
    distance_fn: such and others to `[...]`.
    latent_dim: D.
  """

  latent_fn: Callable[[LatentState], jax.Array]
  distance_fn: Callable[[jax.Array, jax.Array], jax.Array]
  latent_dim: int


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
    expecting: for planners that ask what was predicted
      (`driver.Planner.expects`); of others nothing is.
    agents: see `Problem`.

  Raises:
    ValueError: limits that cannot be met, or a planner that asks and nothing
      to compare with.
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
  expecting: Expecting | None = None
  agents: Agents | None = None

  def __post_init__(self) -> None:
    self.limits.checked(self.action_dim)
    if self.planner.expects and self.expecting is None:
      raise ValueError(
        f'{type(self.planner).__name__} asks how far what is seen is from what '
        'was predicted: give expecting, or a planner without surprise.'
      )

  def first(self, num_problems: int) -> WarmStart:
    """Nothing planned yet: a mean of zero, and elites that are none."""
    size = (self.horizon, self.action_dim)
    number = self.planner.num_kept
    return WarmStart(
      jnp.zeros((num_problems, *size), jnp.float32),
      # Not NaN, at which `jax_debug_nans` would stop.
      jnp.full((num_problems, number, *size), jnp.inf, jnp.float32),
      jnp.full((num_problems, self.action_dim), jnp.inf, jnp.float32),
      self._nothing(num_problems),
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
      surprise=self._surprise(root, warm_start),
      agents=self.agents,
    )
    plan = driver.search(
      self.planner, params, rng_keys, problem, warm_start=warm_start
    )
    if self.planner.expects and self.expecting is not None:
      expected = rollout.rollout_path(
        params,
        rng_keys,
        root.state,
        plan.actions,
        self.dynamics_fn,
        read_fn=self.expecting.latent_fn,
      )
      plan = plan._replace(expected=expected.astype(jnp.float32))
    return plan, WarmStart(
      plan.mean, plan.elites, warm_start.previous, plan.expected
    )

  def _nothing(self, num_problems: int) -> jax.Array | None:
    """No latents predicted, if anybody asks."""
    if self.expecting is None or not self.planner.expects:
      return None
    shape = num_problems, self.horizon, self.expecting.latent_dim
    return jnp.full(shape, jnp.inf, jnp.float32)

  def _surprise(self, root: Root, warm_start: WarmStart) -> jax.Array | None:
    """How far what is seen is from what was predicted, `[B]`."""
    expected = warm_start.expected
    if self.expecting is None or not self.planner.expects or expected is None:
      return None
    seen = self.expecting.latent_fn(root.state)
    # Before the first plan there is nothing to be surprised at.
    is_known = jnp.all(jnp.isfinite(expected[:, 0]), axis=-1)
    wanted = jnp.where(jnp.expand_dims(is_known, 1), expected[:, 0], seen)
    far = self.expecting.distance_fn(seen, wanted)
    return jnp.where(is_known, far, 0.0)

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
    number = played.shape[1]
    shifted = self.planner.shift(left, number)._replace(previous=played[:, -1])
    if left.expected is None:
      return shifted
    # The first is what is seen when the last of these has been played.
    padding = ((0, 0), (0, number - 1), (0, 0))
    rest = left.expected[:, number - 1 :]
    return shifted._replace(
      expected=jnp.pad(rest, padding, constant_values=jnp.inf)
    )

  def forget(self, left: WarmStart) -> WarmStart:
    """Nothing planned; what was played and predicted last is known."""
    fresh = self.first(checks.count(left, 'warm_start'))
    return fresh._replace(previous=left.previous, expected=left.expected)
