"""A decoder: draws what a latent says, to look at what a model imagines."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from jepa_wm import fields
from jepa_wm.models.heads import head
from jepa_wm.networks import decoder
from jepa_wm.types import Params, Variables


@head.HEADS.register
@dataclasses.dataclass(frozen=True)
class DecoderConfig:
  """The settings of `Decoder`.

  Attributes:
    channels: of each stage, coarsest first; each doubles the picture.
    patch_size: side of the patches that the last map holds.
  """

  name: ClassVar[str] = 'decoder'
  batches: ClassVar[str] = 'frames'
  columns: ClassVar[tuple[str, ...]] = ('observation/pixels',)

  channels: tuple[int, ...] = (64, 64)
  patch_size: int = 4

  def __post_init__(self) -> None:
    fields.check(self)
    if min(self.channels) < 1:
      raise ValueError(f'channels must be positive, got {self.channels}.')

  def build(self, sizes: head.Sizes) -> 'Decoder':
    """See `head.HeadConfig`."""
    decoder.check(sizes.image_size, self.channels, self.patch_size)
    return Decoder(self, sizes)


@dataclasses.dataclass(frozen=True)
class Decoder(head.Plain):
  """Learns the frames of latents by their squared error, pixels in 0..1."""

  @property
  def roles(self) -> head.Roles:
    """See `head.Head`."""
    return head.Roles(picture=self.picture)

  @property
  def _network(self) -> decoder.Decoder:
    return decoder.Decoder(
      self.sizes.image_size, self.config.channels, self.config.patch_size
    )

  def init(self, rng_key: jax.Array) -> Variables:
    """See `head.Head`."""
    latent = jnp.zeros((1, self.sizes.latent_dim))
    return head.fresh(self._network, rng_key, latent)

  def losses(
    self, variables: Variables, batch: Mapping[str, Any], rng_key: jax.Array
  ) -> head.HeadLosses:
    """See `head.Head`."""
    del rng_key
    drawn = head.applied(self._network, variables, batch['latents'])
    pixels = batch['observation']['pixels'].astype(jnp.float32) / 255.0
    return head.squared_error(drawn, pixels)

  def picture(self, params: Params, latents: jax.Array) -> jax.Array:
    """Draws latents `[..., D]`: uint8 `[..., height, width, 3]`."""
    drawn = head.applied(self._network, params, latents)
    bright = jnp.round(255.0 * jnp.clip(drawn, 0.0, 1.0))
    return bright.astype(jnp.uint8)
