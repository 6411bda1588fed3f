"""Reconstruction: latents must say what the pixels were."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from jepa_wm.objectives import terms


@terms.TERMS.register
@dataclasses.dataclass(frozen=True)
class Reconstruction(terms.Shaping):
  """Mean squared error of pictures that a decoder draws, `reconstruction`.

  Its gradient reaches the encoder through the decoder, which is trained with
  it: a world model without it is one that need not say what pixels were.

  Source: the decoder loss of LeWM's appendix, arXiv 2603.19312, whose weight is
  not published; LeWM's own decoder attends, this one is convolutional
  (`networks.decoder.Decoder`).

  Attributes:
    weight: in the loss.
    channels: of each stage of the decoder, coarsest first; each doubles the
      picture.
    patch_size: side of the patches that its last map holds.
  """

  name: ClassVar[str] = 'reconstruction'

  weight: float = 1.0
  channels: tuple[int, ...] = (64, 64)
  patch_size: int = 4

  def value(self, outcome: terms.Outcome, rng_key: jax.Array) -> jax.Array:
    """See `terms.OneValue`.

    Raises:
      ValueError: the model has no decoder.
    """
    del rng_key
    if outcome.pictures is None:
      raise ValueError(
        'The term reconstruction needs a model that draws its latents: lewm or '
        'pldm.'
      )
    drawn, seen = outcome.pictures
    return jnp.square(drawn - seen).mean()
