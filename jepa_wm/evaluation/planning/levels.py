"""Levels above a planner: heads that point, or that search macro-actions."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from jepa_wm import fields, planning
from jepa_wm.types import CostFn, LatentState, Params, Root

_PLANNER = planning.CEM(num_samples=128, num_elites=16, num_iterations=2)
_NUM_RECORDED = 64
_QUANTILES = 0.01, 0.99


class Above(Protocol):
  """A level above a planner, known by what it is compared by."""

  @property
  def name(self) -> str:
    """Of it, with what is needed to tell it from others like it."""
    ...

  @property
  def stride(self) -> int:
    """Blocks from where one is to what it gives, about."""
    ...

  def over(
    self,
    low: planning.PlanFn[Any],
    *,
    price_fn: Callable[[jax.Array, jax.Array], jax.Array],
    read_fn: Callable[[LatentState], jax.Array],
    latent_dim: int,
    guardrails: Sequence[planning.Guardrail] = (),
  ) -> planning.Hierarchical:
    """A planner that goes where this level says.

    Args:
      low: plans towards a subgoal; may have a level above itself.
      price_fn: `(latents [B, N, D], goal [B, 1, D]) -> [B, N]`, lower is
        nearer.
      read_fn: the newest latent of a state.
      latent_dim: D.
      guardrails: prices of latents that its subgoals must keep to.
    """
    ...

  def to_dict(self) -> dict[str, Any]:
    """What a result record says of it."""
    ...


@dataclasses.dataclass(frozen=True)
class Pointing:
  """A level above that says what to reach first without a search.

  Attributes:
    name: see `Above`.
    subgoal_fn: `(latents [..., D], goal [..., D])` to latents; see
      `planning.Pointed`. Two of one name are one.
    stride: see `Above`.
    every: blocks for which a subgoal is kept.

  Raises:
    ValueError: a number below one.
  """

  name: str
  subgoal_fn: Callable[[jax.Array, jax.Array], jax.Array] = dataclasses.field(
    compare=False
  )
  stride: int
  every: int = 1

  def __post_init__(self) -> None:
    fields.check_counts(self, {'every': 1})

  def over(
    self,
    low: planning.PlanFn[Any],
    *,
    price_fn: Callable[[jax.Array, jax.Array], jax.Array],
    read_fn: Callable[[LatentState], jax.Array],
    latent_dim: int,
    guardrails: Sequence[planning.Guardrail] = (),
  ) -> planning.Hierarchical:
    """See `Above`; nothing is priced."""
    del price_fn
    subgoals = planning.Pointed(
      subgoal_fn=lambda params, latents, goal: self.subgoal_fn(latents, goal),
      read_fn=read_fn,
      latent_dim=latent_dim,
      guardrails=tuple(guardrails),
    )
    return planning.Hierarchical(low=low, subgoals=subgoals, every=self.every)

  def to_dict(self) -> dict[str, Any]:
    """See `Above`."""
    return {'name': self.name, 'every': self.every}


@dataclasses.dataclass(frozen=True)
class Upper:
  """A level above that searches macro-actions, and how it is used.

  Attributes:
    name: of who knows where macro-actions lead, with what is needed to tell it
      from others like it.
    step_fn: `(macro-actions [..., M], latents [..., D]) -> latents`. Two of one
      name are one, of this and of the next.
    recorded_fn: gives macro-actions `[R, W, M]` that were played.
    macro_dim: M.
    stride: blocks that a macro-action spans.
    horizon: macro-actions to look ahead, W at most.
    every: blocks for which a subgoal is kept.

  Raises:
    ValueError: a number below one.
  """

  name: str
  step_fn: Callable[[jax.Array, jax.Array], jax.Array] = dataclasses.field(
    compare=False
  )
  recorded_fn: Callable[[], jax.Array] = dataclasses.field(compare=False)
  macro_dim: int
  stride: int
  horizon: int = 3
  every: int = 1

  def __post_init__(self) -> None:
    fields.check_counts(self, {'horizon': 1, 'every': 1})

  def over(
    self,
    low: planning.PlanFn[Any],
    *,
    price_fn: Callable[[jax.Array, jax.Array], jax.Array],
    read_fn: Callable[[LatentState], jax.Array],
    latent_dim: int,
    guardrails: Sequence[planning.Guardrail] = (),
  ) -> planning.Hierarchical:
    """See `Above`.

    It searches with CEM, 128 candidates twice, the soonest of its waypoints
    priced. Half of the first candidates were played so; the others keep to the
    range of what was.
    """

    def dynamics(
      params: Params, rng_key: jax.Array, action: jax.Array, state: jax.Array
    ) -> jax.Array:
      del params, rng_key
      return self.step_fn(action, state)

    price: CostFn = lambda params, state, action, goal: price_fn(state, goal)
    recorded = self.recorded_fn()
    ends = jnp.quantile(recorded, jnp.array(_QUANTILES), axis=(0, 1))
    upper = planning.BoundPlanner(
      planner=_PLANNER,
      dynamics_fn=dynamics,
      cost_fn=planning.soonest(price),
      horizon=self.horizon,
      action_dim=self.macro_dim,
      limits=planning.Limits(
        planning.ActionBounds(ends[0], ends[1]), tuple(guardrails)
      ),
      proposal_fn=self._propose(recorded),
    )
    subgoals = planning.Searched(
      plan_fn=upper,
      dynamics_fn=dynamics,
      distance_fn=lambda params, latents, goal: price_fn(latents, goal),
      read_fn=read_fn,
      latent_dim=latent_dim,
      stride=self.stride,
    )
    return planning.Hierarchical(low=low, subgoals=subgoals, every=self.every)

  def to_dict(self) -> dict[str, Any]:
    """See `Above`."""
    return {'name': self.name, 'horizon': self.horizon, 'every': self.every}

  def _propose(self, recorded: jax.Array) -> planning.ProposalFn:
    """Sequences that were played, others for every problem."""

    def one(rng_key: jax.Array) -> jax.Array:
      rows = jax.random.randint(rng_key, (_NUM_RECORDED,), 0, len(recorded))
      return recorded[rows, : self.horizon]

    def propose(params: Params, rng_keys: jax.Array, root: Root) -> Any:
      del params, root
      return jax.vmap(one)(rng_keys)

    return propose
