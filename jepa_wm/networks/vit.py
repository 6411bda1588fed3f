"""The vision transformer: an image's class token is its feature."""

import dataclasses
from typing import Any, ClassVar

import flax.linen as nn
import jax

from jepa_wm import fields, units
from jepa_wm.networks import (
  attention,
  encoders,
  layers,
  patches,
  sizes,
  transformer,
)


@encoders.ENCODERS.register
@dataclasses.dataclass(frozen=True)
class ViTConfig(encoders.OfFrames):
  """The settings of a `ViT`; the defaults are LeWM's.

  Attributes:
    size: one of `sizes.VIT`.
    patch_size: side of a patch in pixels.
    image_size: see `encoders.OfFrames`, as `pixel_norm`.
  """

  name: ClassVar[str] = 'vit'

  size: str = 'tiny'
  patch_size: int = 14
  image_size: int = 224
  pixel_norm: str = 'imagenet'

  def __post_init__(self) -> None:
    fields.check(
      self, {'size': (*sizes.VIT,), 'pixel_norm': (*units.PIXEL_NORMS,)}
    )
    if self.image_size % self.patch_size:
      raise ValueError(
        f'encoder.image_size={self.image_size} must be a multiple of '
        f'encoder.patch_size={self.patch_size}; choose another of the two.'
      )

  def build(self, dtype: Any) -> nn.Module:
    """See `encoders.Encoder`."""
    size: Any = sizes.VIT[self.size]
    return ViT(
      patch_size=self.patch_size,
      image_size=self.image_size,
      dtype=dtype,
      **size,
    )


class ViT(layers.Module):
  """Vision transformer; its class token is the feature of an image.

  Position embeddings are learned for `image_size` and resized (bicubic) for
  any other that divides into patches.

  Source: An image is worth 16x16 words, arXiv 2010.11929; DeiT's sizes, arXiv
  2012.12877, table 1.

  Its fields are those of `ViTConfig`, the size taken apart as in `sizes.VIT`,
  and the `epsilon` of every LayerNorm.
  """

  width: int
  depth: int
  num_heads: int
  mlp_dim: int
  patch_size: int
  image_size: int
  epsilon: float = 1e-12

  @nn.compact
  def __call__(
    self, pixels: jax.Array, *, train: bool = False
  ) -> tuple[jax.Array, encoders.Intermediates]:
    """Encodes normalised `pixels`, see `patches.embed_image`.

    Returns:
      The class token `[..., D]` and `{'tokens': [..., 1 + P, D]}`, the class
      token first, then the patches row by row, after the last LayerNorm.
    """
    grid = self.image_size // self.patch_size
    tokens, _ = patches.embed_image(self, pixels, grid=grid)
    blocks = [
      transformer.Block(
        num_heads=self.num_heads,
        mlp_dim=self.mlp_dim,
        epsilon=self.epsilon,
        name=f'block_{index}',
        **self.dtypes,
      )
      for index in range(self.depth)
    ]
    for block in blocks[:-1]:
      tokens, _ = block(tokens, train=train)
    norm = layers.layer_norm(self.epsilon, name='norm', **self.dtypes)
    # Whoever wants the feature alone pays for one token of the last block: the
    # compiler drops what nobody reads.
    ask = attention.Asked(1, is_first=True)
    last, _ = blocks[-1](tokens, train=train, asked=ask)
    tokens, _ = blocks[-1](tokens, train=train)
    return norm(last)[..., 0, :], {'tokens': norm(tokens)}
