"""Several timescales: whoever looks far says what to reach first.

A `PlanFn` over another: the goal that the upper level gives is the goal of the
search below, which knows no more of it. Who gives it is a `Subgoals`: a search
over macro-actions (`Searched`), or a function (`Pointed`), such as a graph or a
network. Levels stack: the level below may itself have a level below it.

Source: HWM (arXiv 2604.03208), whose subgoal is the first latent that the upper
level predicts.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeVar

import jax
import jax.numpy as jnp

from jepa_wm.planning import checks, keys, masks, moments
from jepa_wm.planning.limits import Guardrail
from jepa_wm.planning.plan_fn import Clock, PlanFn
from jepa_wm.planning.problem import Plan, Subgoal
from jepa_wm.types import DynamicsFn, LatentState, Params, Root

Carry = TypeVar('Carry')

_UPPER = 2**32 - 2
"""Folded into a problem's key for the level above; no search does so."""


class Subgoals(Protocol[Carry]):
  """Whoever says what to reach first."""

  def first(self, num_problems: int) -> tuple[Subgoal, Carry]:
    """What there is before the first, leaves `[B, ...]`: shapes count alone."""
    ...

  def choose(
    self,
    params: Params,
    rng_keys: jax.Array,
    root: Root,
    carry: Carry,
    num_since: jax.Array,
    clock: Clock,
  ) -> tuple[Subgoal, Carry]:
    """What to reach first.

    Args:
      params: first argument of all functions of a model.
      rng_keys: `[B]`, consumed.
      root: where the level below is, and the goal of all.
      carry: what the choice before left.
      num_since: `[B]`, blocks played since then.
      clock: the time.

    Returns:
      The subgoals, and what they leave, of the same shapes as `first`'s.
    """
    ...


class Left(NamedTuple):
  """What a plan of several levels leaves to the next.

  Attributes:
    low: what the level below leaves.
    subgoal: what it was to reach.
    carry: what whoever chose it leaves.
    num_since: `[B]` int32, blocks played since it was chosen.
  """

  low: Any
  subgoal: Subgoal
  carry: Any
  num_since: jax.Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hierarchical:
  """Plans towards what a level above says; a `PlanFn` itself.

  Attributes:
    low: plans the actions that are played.
    subgoals: says what it is to reach.
    every: blocks for which a subgoal is kept: 1 chooses at every plan, the
      stride of the upper level lets each be reached first.

  Raises:
    ValueError: `every` below one.
  """

  low: PlanFn[Any]
  subgoals: Subgoals[Any]
  every: int = 1

  def __post_init__(self) -> None:
    checks.at_least(every=(self.every, 1))

  @property
  def action_dim(self) -> int:
    """A, size of a block."""
    return self.low.action_dim

  def first(self, num_problems: int) -> Left:
    """Nothing planned, and a subgoal due."""
    low = self.low.first(num_problems)
    return self._due(low, num_problems)

  def _due(self, low: Any, num_problems: int) -> Left:
    subgoal, carry = self.subgoals.first(num_problems)
    since = jnp.full(num_problems, self.every, jnp.int32)
    return Left(low, subgoal, carry, since)

  def plan(
    self,
    params: Params,
    rng_keys: jax.Array,
    root: Root,
    warm_start: Left,
    clock: Clock,
  ) -> tuple[Plan, Left]:
    """Chooses subgoals where they are due, and plans towards all.

    The level below is handed the problems' own keys, so that with the goal as
    its subgoal it plans what it would plan alone, to the bit.
    """
    is_due = warm_start.num_since >= self.every
    kept = warm_start.subgoal, warm_start.carry

    def choose() -> tuple[Subgoal, Any]:
      return self.subgoals.choose(
        params,
        keys.fold_keys(rng_keys, jnp.uint32(_UPPER)),
        root,
        warm_start.carry,
        warm_start.num_since,
        clock,
      )

    chosen = jax.lax.cond(jnp.any(is_due), choose, lambda: kept)
    subgoal, carry = masks.where(is_due, chosen, kept)
    plan, low = self.low.plan(
      params, rng_keys, Root(root.state, subgoal.goal), warm_start.low, clock
    )
    since = jnp.where(is_due, 0, warm_start.num_since)
    left = Left(low, subgoal, carry, since)
    return plan._replace(subgoal=_under(plan.subgoal, subgoal)), left

  def shift(self, left: Left, played: jax.Array) -> Left:
    """What is left when the blocks `played` `[B, R, A]` have been played."""
    return left._replace(
      low=self.low.shift(left.low, played),
      num_since=left.num_since + played.shape[1],
    )

  def forget(self, left: Left) -> Left:
    """What is known without a warm start: a subgoal is due."""
    num_problems = left.num_since.shape[0]
    return self._due(self.low.forget(left.low), num_problems)


def _under(lowest: Subgoal | None, top: Subgoal) -> Subgoal:
  """The subgoals of all levels, the lowest first."""
  if lowest is None:
    return top
  return lowest._replace(above=_under(lowest.above, top))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pointed:
  """Subgoals by a function of where one is and of the goal, without a search.

  The goal itself is the subgoal where the function says nothing finite. Whether
  the goal is near enough to need no other is for the function to say: a
  straight distance would cut through walls.

  Attributes:
    subgoal_fn: `(params, latents [B, D], goal [B, D])` to what to reach first,
      `[B, D]`.
    read_fn: the newest latent of a state of the level below.
    latent_dim: D.
    guardrails: prices of latents `[B, 1, D]` that subgoals keep to; where a
      hard one forbids what is said, the goal itself is the subgoal.
  """

  subgoal_fn: Callable[[Params, jax.Array, jax.Array], jax.Array]
  read_fn: Callable[[LatentState], jax.Array]
  latent_dim: int
  guardrails: tuple[Guardrail, ...] = ()

  def first(self, num_problems: int) -> tuple[Subgoal, tuple[()]]:
    """See `Subgoals`."""
    goal = jnp.zeros((num_problems, self.latent_dim), jnp.float32)
    return _free(goal), ()

  def choose(
    self,
    params: Params,
    rng_keys: jax.Array,
    root: Root,
    carry: tuple[()],
    num_since: jax.Array,
    clock: Clock,
  ) -> tuple[Subgoal, tuple[()]]:
    """See `Subgoals`; nothing is drawn, and nothing is left."""
    del rng_keys, num_since, clock
    latents = self.read_fn(root.state)
    found = self.subgoal_fn(params, latents, root.goal)
    is_good = jnp.all(jnp.isfinite(found), axis=-1)
    violation = jnp.zeros(found.shape[0], jnp.float32)
    for rail in self.guardrails:
      before, after = (jnp.expand_dims(x, 1) for x in (latents, found))
      moment = moments.Moment(
        before, after, after, jnp.int32(0), jnp.bool_(True)
      )
      price = moments.price(rail.cost_fn, params, moment, root.goal)
      excess = jnp.where(is_good, price[:, 0] - rail.bound, 0.0)
      violation = jnp.maximum(violation, excess)
      if rail.form == 'hard':
        is_good &= excess <= 0.0
    subgoal = _free(masks.where(is_good, found, root.goal))
    return subgoal._replace(violation=violation), carry


def _free(goal: jax.Array) -> Subgoal:
  """A subgoal of nobody who searches."""
  zeros = jnp.zeros(goal.shape[0], jnp.float32)
  return Subgoal(goal, zeros, zeros)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Searched:
  """Subgoals by a search at a larger stride: the first latent it predicts.

  The goal itself is the subgoal where it is as near as that or as `near`, and
  where the upper level cannot price its plan or a hard guardrail of that level
  allows none.

  Attributes:
    plan_fn: searches macro-actions; its states are latents `[B, D]`.
    dynamics_fn: one step of the upper level, of latents `[B, N, D]`.
    distance_fn: `(params, latents, goal) -> [B, 1]` of latents `[B, 1, D]`.
    read_fn: the newest latent of a state of the level below.
    latent_dim: D.
    stride: blocks of the level below that a macro-action spans.
    near: distance of a goal that needs no subgoal.
  """

  plan_fn: PlanFn[Any]
  dynamics_fn: DynamicsFn
  distance_fn: Callable[[Params, jax.Array, jax.Array], jax.Array]
  read_fn: Callable[[LatentState], jax.Array]
  latent_dim: int
  stride: int
  near: float = 0.0

  def first(self, num_problems: int) -> tuple[Subgoal, 'Macro']:
    """See `Subgoals`."""
    zeros = jnp.zeros(num_problems, jnp.float32)
    goal = jnp.zeros((num_problems, self.latent_dim), jnp.float32)
    left = self.plan_fn.first(num_problems)
    none = jnp.full((num_problems, 1, self.plan_fn.action_dim), jnp.inf)
    return Subgoal(goal, zeros, zeros), Macro(left, none)

  def choose(
    self,
    params: Params,
    rng_keys: jax.Array,
    root: Root,
    carry: 'Macro',
    num_since: jax.Array,
    clock: Clock,
  ) -> tuple[Subgoal, 'Macro']:
    """See `Subgoals`.

    The search starts from its last plan, without the first macro-action where
    as many blocks as that spans have been played.
    """
    search_keys, model_keys = keys.split_keys(rng_keys)
    latents = self.read_fn(root.state)
    shifted = self.plan_fn.shift(carry.left, carry.action)
    left = masks.where(num_since >= self.stride, shifted, carry.left)
    plan, left = self.plan_fn.plan(
      params, search_keys, Root(latents, root.goal), left, clock
    )
    first = plan.actions[:, :1]
    led_to = self.dynamics_fn(
      params, model_keys, first, jnp.expand_dims(latents, 1)
    )[:, 0]
    far, left_over = (
      self.distance_fn(params, *(jnp.expand_dims(x, 1) for x in (latents, to)))
      for to in (led_to, root.goal)
    )
    is_far = left_over > jnp.maximum(far, self.near)
    is_good = (is_far & jnp.isfinite(far))[:, 0] & jnp.isfinite(plan.cost)
    if plan.stopped is not None:
      is_good &= ~plan.stopped
    goal = masks.where(is_good, led_to, root.goal)
    return Subgoal(goal, plan.cost, plan.violation), Macro(left, first)


class Macro(NamedTuple):
  """What a search over macro-actions leaves.

  Attributes:
    left: what its planner leaves.
    action: `[B, 1, A]`, the macro-action that led to the subgoal.
  """

  left: Any
  action: jax.Array
