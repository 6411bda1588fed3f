"""What comes next on the way to a goal, by a network without actions."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from jepa_wm import fields
from jepa_wm.models.heads import head
from jepa_wm.networks import mlp
from jepa_wm.types import Params, Variables


@head.HEADS.register
@dataclasses.dataclass(frozen=True)
class DrafterConfig:
  """The settings of `Drafter`.

  Attributes:
    width: of the hidden layers.
    depth: hidden layers.
    stride: blocks from a frame to what comes next.
    max_steps: environment steps from a frame to its goal at most.
  """

  name: ClassVar[str] = 'drafter'
  batches: ClassVar[str] = 'legs'
  columns: ClassVar[tuple[str, ...]] = ()

  width: int = 256
  depth: int = 3
  stride: int = 2
  max_steps: int = 100

  def __post_init__(self) -> None:
    fields.check(self)

  def build(self, sizes: head.Sizes) -> 'Drafter':
    """See `head.HeadConfig`."""
    if self.max_steps < sizes.action_block:
      raise ValueError(
        f'max_steps must be at least {sizes.action_block}, an action block, '
        f'got {self.max_steps}.'
      )
    return Drafter(self, sizes)


@dataclasses.dataclass(frozen=True)
class Drafter(head.Plain):
  """Learns where an episode was some blocks on, by where it was in the end.

  The error is the mean square, so that it says the mean of all ways that were
  gone, of the slow and the idle too; where two ways lead round something, that
  may lie between them. Goals are frames of the same episode, later ones, and
  one nearer than the stride is what comes next itself.

  Source: FF-JEPA (arXiv 2606.09311) for a deterministic jump of a fixed stride
    between latents by a network without actions, at whose end actions are
    searched; it looks at the past, where this one looks at the goal.
  """

  @property
  def roles(self) -> head.Roles:
    """See `head.Head`."""
    return head.Roles(subgoals=self.draft)

  @property
  def _network(self) -> mlp.MLP:
    settings = self.config
    return mlp.MLP(self.sizes.latent_dim, settings.width, settings.depth)

  def init(self, rng_key: jax.Array) -> Variables:
    """See `head.Head`."""
    latent = jnp.zeros((1, self.sizes.latent_dim))
    return head.fresh(self._network, rng_key, latent, latent)

  def losses(
    self, variables: Variables, batch: Mapping[str, Any], rng_key: jax.Array
  ) -> head.HeadLosses:
    """See `head.Head`."""
    del rng_key
    here, goals = jnp.moveaxis(batch['latents'], 1, 0)
    after = batch['after']
    guesses = self.draft(variables, here, goals)
    found = head.squared_error(guesses, after)
    # 1 is no better than to stay.
    share = found.loss / jnp.mean(jnp.square(here - after))
    return found._replace(metrics={**found.metrics, 'share_of_moved': share})

  def draft(
    self, params: Params, latents: jax.Array, goals: jax.Array
  ) -> jax.Array:
    """What comes next `[..., D]` from latents to goals, `[..., D]` each."""
    return latents + head.applied(self._network, params, latents, goals)
