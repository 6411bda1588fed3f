"""Inverse dynamics with a goal: what to do now to be there in so many steps."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from jepa_wm import fields
from jepa_wm.models.heads import head, rolling
from jepa_wm.networks import goal_actions
from jepa_wm.types import DynamicsFn, LatentState, Params, Variables


@head.HEADS.register
@dataclasses.dataclass(frozen=True)
class InverseDynamicsConfig:
  """The settings of `InverseDynamics`.

  Source: GC-IDM, with 512 wide published.

  Attributes:
    width: of the hidden layers.
    depth: residual blocks.
    max_steps: environment steps from a frame to its goal at most.
    horizons: steps to go that are proposed for, each one candidate.
    share: of the steps that are left, as a policy it means to arrive in so
      many; the rest is for what goes wrong. 1 arrives at the last moment, as
      the noisy players of recorded episodes do.
  """

  name: ClassVar[str] = 'inverse_dynamics'
  batches: ClassVar[str] = 'pairs'
  columns: ClassVar[tuple[str, ...]] = ()

  width: int = 256
  depth: int = 3
  max_steps: int = 100
  horizons: tuple[int, ...] = (10, 15, 20, 25, 35, 50, 70, 100)
  share: float = 0.5

  def __post_init__(self) -> None:
    fields.check(self, shares=('share',))
    if min(self.horizons) < 1:
      raise ValueError(f'horizons must be positive, got {self.horizons}.')

  def build(self, sizes: head.Sizes) -> 'InverseDynamics':
    """See `head.HeadConfig`."""
    if not sizes.action_dim:
      raise ValueError(
        'inverse_dynamics learns actions, and the encoder is of a model '
        'without any; take one that acts, such as lewm.'
      )
    return InverseDynamics(self, sizes)


@dataclasses.dataclass(frozen=True)
class InverseDynamics(head.Plain):
  """Learns the block that was played on the way to a later frame.

  As proposals it is rolled by the model's dynamics, once for every one of
  `horizons`: the block it gives, the latent that the model then sees, the next
  block with fewer steps to go.
  """

  @property
  def roles(self) -> head.Roles:
    """See `head.Head`."""
    return head.Roles(proposal=self.proposal_fn, policy=self.policy)

  @property
  def _network(self) -> goal_actions.GoalActions:
    return goal_actions.GoalActions(
      self.sizes.action_dim, self.config.width, self.config.depth
    )

  def init(self, rng_key: jax.Array) -> Variables:
    """See `head.Head`."""
    latent = jnp.zeros((1, self.sizes.latent_dim))
    return head.fresh(self._network, rng_key, latent, latent, jnp.ones(1))

  def losses(
    self, variables: Variables, batch: Mapping[str, Any], rng_key: jax.Array
  ) -> head.HeadLosses:
    """See `head.Head`."""
    del rng_key
    latents = batch['latents']
    guesses = self.act(variables, latents[:, 0], latents[:, 1], batch['steps'])
    return head.squared_error(guesses, batch['action'][:, 0])

  def act(
    self, params: Params, latents: jax.Array, goals: jax.Array, steps: jax.Array
  ) -> jax.Array:
    """The first block `[..., A]` from `latents` to `goals` in `steps`.

    Args:
      params: variables of the head.
      latents: `[..., D]`.
      goals: `[..., D]`.
      steps: `[...]`, environment steps to go.
    """
    return head.applied(self._network, params, latents, goals, steps)

  def policy(
    self,
    params: Params,
    rng_key: jax.Array | None,
    latents: jax.Array,
    goals: jax.Array,
    steps: jax.Array,
  ) -> jax.Array:
    """The block `[..., A]` of who has so many `steps` left; a `PolicyFn`.

    It means to arrive in `share` of them, but in an action block at least and
    `max_steps` at most, which is all that was learnt. Nothing is drawn.
    """
    del rng_key
    least = min(self.sizes.action_block, self.config.max_steps)
    meant = jnp.clip(self.config.share * steps, least, self.config.max_steps)
    return self.act(params, latents, goals, meant)

  def proposal_fn(
    self,
    dynamics_fn: DynamicsFn,
    read_fn: Callable[[LatentState], jax.Array],
    horizon: int,
    variables: Variables,
  ) -> head.ProposalFn:
    """One candidate for each of `horizons`, see `rolling.rolled`."""
    return rolling.rolled(
      lambda params, rng_key, *seen: self.act(params, *seen),
      variables,
      dynamics_fn,
      read_fn,
      horizon,
      block=self.sizes.action_block,
      steps=self.config.horizons,
    )
