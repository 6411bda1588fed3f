"""What heads that value share: an ensemble, and its lowest word."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jepa_wm.models.heads import head
from jepa_wm.networks import mlp


@dataclasses.dataclass(frozen=True)
class Critic:
  """An ensemble that values latents on the way to goals, part of a head.

  All functions take the parameters of the networks as their first argument, a
  part of the head's.

  Attributes:
    sizes: of the latents and actions.
    num_values: E networks.
    width: see `networks.mlp.MLP`, as `depth`.
    depth: hidden layers.
    of_actions: whether a block is valued too, Q in place of V.
  """

  sizes: head.Sizes
  num_values: int
  width: int
  depth: int
  of_actions: bool = False

  @property
  def _network(self) -> mlp.Values:
    return mlp.Values(self.num_values, self.width, self.depth)

  def init(self, rng_key: jax.Array) -> Any:
    """Fresh parameters; consumes the key."""
    latent = jnp.zeros((1, self.sizes.latent_dim))
    action = [jnp.zeros((1, self.sizes.action_dim))] * self.of_actions
    found = head.fresh(self._network, rng_key, latent, latent, *action)
    return found['params']

  def values(
    self,
    params: Any,
    latents: jax.Array,
    goals: jax.Array,
    *actions: jax.Array,
  ) -> jax.Array:
    """What each network says, `[E, ...]`.

    Args:
      params: of the networks.
      latents: `[..., D]`.
      goals: `[..., D]`; leading dims are broadcast.
      *actions: `[..., A]` where actions are valued.
    """
    found: Any = self._network.apply(
      {'params': params}, latents, goals, *actions
    )
    values: jax.Array = found
    return values

  def lowest(
    self,
    params: Any,
    latents: jax.Array,
    goals: jax.Array,
    *actions: jax.Array,
  ) -> jax.Array:
    """The least that any network says, `[...]`.

    What a search looks for is where one of them errs upwards (arXiv
    2601.21306).
    """
    return jnp.min(self.values(params, latents, goals, *actions), axis=0)
