"""A probe: reads the true state off a latent, to ask what the latent knows.

`experiments.probe` trains a whole grid of probes at once, on tokens too; this
is one probe of latents, trained as any head.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from jepa_wm import fields
from jepa_wm.models.heads import head
from jepa_wm.networks import probes
from jepa_wm.types import Params, Variables


@head.HEADS.register
@dataclasses.dataclass(frozen=True)
class ProbeConfig:
  """The settings of `Probe`.

  Attributes:
    kind: 'linear', or 'mlp' with one hidden layer.
    width: of the hidden layer of 'mlp'.
  """

  name: ClassVar[str] = 'probe'
  batches: ClassVar[str] = 'frames'
  columns: ClassVar[tuple[str, ...]] = ('state',)

  kind: str = 'linear'
  width: int = 256

  def __post_init__(self) -> None:
    fields.check(self, {'kind': ('linear', 'mlp')})

  def build(self, sizes: head.Sizes) -> 'Probe':
    """See `head.HeadConfig`."""
    if not sizes.state_mean:
      raise ValueError('A probe reads the true state, and the data has none.')
    return Probe(self, sizes)


@dataclasses.dataclass(frozen=True)
class Probe(head.Plain):
  """Learns the true state of latents, each number in its deviation."""

  @property
  def roles(self) -> head.Roles:
    """See `head.Head`."""
    return head.Roles(reading=self.read)

  @property
  def _network(self) -> probes.PooledProbe:
    hidden = None if self.config.kind == 'linear' else self.config.width
    return probes.PooledProbe(len(self.sizes.state_mean), hidden)

  def init(self, rng_key: jax.Array) -> Variables:
    """See `head.Head`."""
    tokens = jnp.zeros((1, 1, self.sizes.latent_dim))
    return head.fresh(self._network, rng_key, tokens)

  def losses(
    self, variables: Variables, batch: Mapping[str, Any], rng_key: jax.Array
  ) -> head.HeadLosses:
    """See `head.Head`."""
    del rng_key
    mean, std = self._units(batch['state'].ndim)
    truth = (batch['state'] - mean) / std
    return head.squared_error(self._apply(variables, batch['latents']), truth)

  def read(self, params: Params, latents: jax.Array) -> jax.Array:
    """The state `[..., V]` in its unit that latents `[..., D]` tell."""
    mean, std = self._units(latents.ndim)
    return self._apply(params, latents) * std + mean

  def _apply(self, variables: Variables, latents: jax.Array) -> jax.Array:
    """In deviations; a latent is one token."""
    return head.applied(self._network, variables, latents[..., None, :])

  def _units(self, ndim: int) -> tuple[jax.Array, jax.Array]:
    shape = (*(1,) * (ndim - 1), -1)
    mean, std = self.sizes.state_mean, self.sizes.state_std
    return jnp.asarray(mean).reshape(shape), jnp.asarray(std).reshape(shape)
