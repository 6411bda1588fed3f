"""Plans that are kept for some blocks, unless what is seen surprises.

A `PlanFn` over another: it is asked after every block, looks, and answers with
what is left of the plan in force, or with a new one. Each problem has a clock
of its own, and where none of a batch is due nothing is searched.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm.planning import checks, masks, rollout
from jepa_wm.planning.plan_fn import Clock, Expecting, PlanFn
from jepa_wm.planning.problem import Noticed, Plan
from jepa_wm.types import DynamicsFn, Params, Root


class InForce(NamedTuple):
  """What a plan that is kept leaves to the next look.

  Attributes:
    low: what it leaves to the plan after it.
    actions: `[B, H, A]`, what is left of it, zeros at the end.
    cost: `[B]`, what it was predicted to cost when it was made.
    violation: `[B]`, by how much it passed a guardrail then.
    expected: `[B, R, D]`, latents that it predicted for what is seen now and
      after further blocks, infinite where there are none.
    previous: `[B, A]`, the block that was played last, infinite before that.
    num_since: `[B]` int32, blocks played since it was made.
  """

  low: Any
  actions: jax.Array
  cost: jax.Array
  violation: jax.Array
  expected: jax.Array
  previous: jax.Array
  num_since: jax.Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Noticing:
  """Plays R blocks of a plan before the next, or fewer where it is surprised.

  To be asked after every block (`receding_horizon=1`). Whoever is surprised
  plans at once, and forgets: the new plan starts from nothing, since what was
  left of the old one was for a place where nobody is. As long as nobody is
  surprised, plans are those of `plan_fn` with `receding_horizon=R`, given the
  same keys.

  Attributes:
    plan_fn: plans.
    dynamics_fn: one step of its model.
    expecting: how what is seen is compared with what was predicted.
    horizon: H, blocks in its plans.
    bounds: `[R]`, the largest distance after each block that is no surprise,
      such as a quantile of what came in ordinary play; infinity never is.

  Raises:
    ValueError: no bounds, more than the plan has blocks, or negative ones.
  """

  plan_fn: PlanFn[Any]
  dynamics_fn: DynamicsFn
  expecting: Expecting
  horizon: int
  bounds: tuple[float, ...]

  def __post_init__(self) -> None:
    if not 1 <= len(self.bounds) <= self.horizon:
      raise ValueError(
        'bounds must be one for each block played before the next plan, 1 to '
        f'horizon = {self.horizon} of them, got {len(self.bounds)}.'
      )
    if not np.all(np.asarray(self.bounds) >= 0.0):
      raise ValueError(
        f'bounds must not be negative or NaN, got {self.bounds}.'
      )

  @property
  def action_dim(self) -> int:
    """A, size of a block."""
    return self.plan_fn.action_dim

  def first(self, num_problems: int) -> InForce:
    """Nothing planned, and a plan due."""
    zeros = jnp.zeros(num_problems, jnp.float32)
    number, latent_dim = len(self.bounds), self.expecting.latent_dim
    lead = num_problems, self.horizon, self.action_dim
    return InForce(
      low=self.plan_fn.first(num_problems),
      actions=jnp.zeros(lead, jnp.float32),
      cost=zeros,
      violation=zeros,
      expected=jnp.full((num_problems, number, latent_dim), jnp.inf),
      previous=jnp.full((num_problems, self.action_dim), jnp.inf),
      num_since=jnp.full(num_problems, number, jnp.int32),
    )

  def plan(
    self,
    params: Params,
    rng_keys: jax.Array,
    root: Root,
    warm_start: InForce,
    clock: Clock,
  ) -> tuple[Plan, InForce]:
    """Looks, and plans for those who are surprised or whose time is up.

    Returns:
      The plans, `noticed` said. Of one that is kept `actions`, `cost` and
      `violation` stand, and all else is zero.
    """
    left, number = warm_start, len(self.bounds)
    surprise, is_surprised = self._compare(root, left)
    is_due = is_surprised | (left.num_since >= number)
    start = masks.where(is_surprised, self._forgotten(left), left.low)

    def search() -> tuple[Plan, Any, jax.Array]:
      plan, low = self.plan_fn.plan(params, rng_keys, root, start, clock)
      played = plan.actions[:, :number]
      expected = rollout.rollout_path(
        params,
        rng_keys,
        root.state,
        played,
        self.dynamics_fn,
        read_fn=self.expecting.latent_fn,
      )
      low = self.plan_fn.shift(low, played)
      shape = left.expected.shape
      return plan, low, expected.astype(jnp.float32).reshape(shape)

    shapes = jax.eval_shape(search)
    nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    found, low, expected = jax.lax.cond(
      jnp.any(is_due), search, lambda: nothing
    )
    plan = _kept_or_new(is_due, left, found)
    rest = _without_first(left.expected, 1)
    noticed = Noticed(is_due, surprise, is_surprised, left.num_since)
    return plan._replace(noticed=noticed), InForce(
      low=masks.where(is_due, low, left.low),
      actions=plan.actions,
      cost=plan.cost,
      violation=plan.violation,
      expected=masks.where(is_due, expected, rest),
      previous=left.previous,
      num_since=jnp.where(is_due, 0, left.num_since),
    )

  def shift(self, left: InForce, played: jax.Array) -> InForce:
    """What is left when the blocks `played` `[B, K, A]` have been played."""
    number = played.shape[1]
    rest = left.actions[:, number:]
    padding = ((0, 0), (0, left.actions.shape[1] - rest.shape[1]), (0, 0))
    return left._replace(
      actions=jnp.pad(rest, padding),
      expected=_without_first(left.expected, number - 1),
      previous=played[:, -1],
      num_since=left.num_since + number,
    )

  def forget(self, left: InForce) -> InForce:
    """The plan in force stays; the one after it starts from nothing."""
    return left._replace(low=self.plan_fn.forget(left.low))

  def _compare(self, root: Root, left: InForce) -> tuple[jax.Array, jax.Array]:
    """How far what is seen is from what was predicted `[B]`, and if too far."""
    seen = self.expecting.latent_fn(root.state)
    wanted = left.expected[:, 0]
    # Before the first plan there is nothing to be surprised at.
    is_known = jnp.all(jnp.isfinite(wanted), axis=-1) & (left.num_since > 0)
    wanted = jnp.where(jnp.expand_dims(is_known, 1), wanted, seen)
    far = self.expecting.distance_fn(seen, wanted).astype(jnp.float32)
    surprise = jnp.where(is_known, far, 0.0)
    index = jnp.clip(left.num_since - 1, 0, len(self.bounds) - 1)
    bound = jnp.asarray(self.bounds, jnp.float32)[index]
    return surprise, is_known & (surprise > bound)

  def _forgotten(self, left: InForce) -> Any:
    """What a plan starts from that knows nothing but the last block."""
    nothing = self.plan_fn.first(checks.count(left.num_since, 'num_since'))
    return self.plan_fn.shift(nothing, jnp.expand_dims(left.previous, 1))


def _kept_or_new(is_due: jax.Array, left: InForce, found: Plan) -> Plan:
  """New plans for those who were due, and the one in force for others."""
  # Iterations come first there.
  diagnostics = jax.tree.map(
    lambda x: jnp.where(is_due, x, jnp.zeros_like(x)), found.diagnostics
  )
  none: Any = None
  rest: Any = found._replace(diagnostics=none)
  kept = jax.tree.map(jnp.zeros_like, rest)._replace(
    actions=left.actions, cost=left.cost, violation=left.violation
  )
  new: Plan = masks.where(is_due, rest, kept)
  return new._replace(diagnostics=diagnostics)


def _without_first(expected: jax.Array, number: int) -> jax.Array:
  """`[B, R, D]` without the first ones, infinite at the end."""
  padding = ((0, 0), (0, number), (0, 0))
  return jnp.pad(expected[:, number:], padding, constant_values=jnp.inf)
