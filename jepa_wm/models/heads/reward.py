"""A reward head: what a block earns, read off what it leads from and to."""

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
class RewardConfig:
  """The settings of `Reward`.

  Attributes:
    width: of the hidden layers.
    depth: hidden layers.
  """

  name: ClassVar[str] = 'reward'
  batches: ClassVar[str] = 'blocks'
  columns: ClassVar[tuple[str, ...]] = ('reward',)

  width: int = 256
  depth: int = 3

  def __post_init__(self) -> None:
    fields.check(self)

  def build(self, sizes: head.Sizes) -> 'Reward':
    """See `head.HeadConfig`."""
    if not sizes.action_dim:
      raise ValueError(
        'reward learns what actions earn, and the encoder is of a model '
        'without any; take one that acts, such as lewm.'
      )
    return Reward(self, sizes)


@dataclasses.dataclass(frozen=True)
class Reward(head.Plain):
  """Learns the sum of the rewards of a block's steps.

  The goal is not looked at: episodes with rewards have one task. Steps whose
  reward is NaN, as of a world that gave none, are left out.
  """

  @property
  def roles(self) -> head.Roles:
    """See `head.Head`."""
    return head.Roles(reward=self.earn)

  @property
  def _network(self) -> mlp.MLP:
    return mlp.MLP(1, self.config.width, self.config.depth)

  def init(self, rng_key: jax.Array) -> Variables:
    """See `head.Head`."""
    latent = jnp.zeros((1, self.sizes.latent_dim))
    action = jnp.zeros((1, self.sizes.action_dim))
    return head.fresh(self._network, rng_key, latent, action, latent)

  def losses(
    self, variables: Variables, batch: Mapping[str, Any], rng_key: jax.Array
  ) -> head.HeadLosses:
    """See `head.Head`."""
    del rng_key
    before, after = jnp.moveaxis(batch['latents'], 1, 0)
    earned = jnp.sum(batch['reward'][:, 0], axis=-1)
    guesses = self.earn(variables, before, batch['action'][:, 0], after, after)
    known = jnp.isfinite(earned)
    number = jnp.maximum(jnp.sum(known), 1)
    mean = lambda x: jnp.sum(jnp.where(known, x, 0.0)) / number
    truth = jnp.where(known, earned, 0.0)
    loss = mean(jnp.square(guesses - truth))
    variance = mean(jnp.square(truth - mean(truth)))
    explained = 1.0 - loss / jnp.maximum(variance, 1e-12)
    return head.HeadLosses(loss, {'explained': explained}, {})

  def earn(
    self,
    params: Params,
    latents: jax.Array,
    action: jax.Array,
    next_latents: jax.Array,
    goal: jax.Array,
  ) -> jax.Array:
    """What a block earns, `[...]`, in the data's unit.

    Args:
      params: variables of the head.
      latents: `[..., D]`, before it.
      action: `[..., A]`, normalised.
      next_latents: `[..., D]`, after it.
      goal: not looked at.
    """
    del goal
    found = head.applied(self._network, params, latents, action, next_latents)
    return found[..., 0]
