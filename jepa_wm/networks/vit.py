"""The vision transformer: an image's class token is its feature."""

import dataclasses
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from jepa_wm import fields, units
from jepa_wm.networks import encoders, layers, patches, transformer
from jepa_wm.types import Observation, ObservationSpec

SIZES = {
  'tiny': {'width': 192, 'depth': 12, 'num_heads': 3, 'mlp_dim': 768},
  'small': {'width': 384, 'depth': 12, 'num_heads': 6, 'mlp_dim': 1536},
  'base': {'width': 768, 'depth': 12, 'num_heads': 12, 'mlp_dim': 3072},
}


@encoders.ENCODERS.register
@dataclasses.dataclass(frozen=True)
class ViTConfig(encoders.Unfitted):
  """The settings of a `ViT`; the defaults are LeWM's.

  Attributes:
    size: one of `SIZES`.
    patch_size: side of a patch in pixels.
    image_size: side of the square frames in pixels.
    pixel_norm: one of `units.PIXEL_NORMS`, what frames are normalised by.
  """

  name: ClassVar[str] = 'vit'
  clip_length: ClassVar[int] = 0

  size: str = 'tiny'
  patch_size: int = 14
  image_size: int = 224
  pixel_norm: str = 'imagenet'

  def __post_init__(self) -> None:
    """Checks every field.

    Raises:
      ValueError: a field out of its range; the message names it.
    """
    choices = {'size': (*SIZES,), 'pixel_norm': (*units.PIXEL_NORMS,)}
    fields.check(self, choices)
    if self.image_size % self.patch_size:
      raise ValueError(
        f'encoder.image_size={self.image_size} must be a multiple of '
        f'encoder.patch_size={self.patch_size}; choose another of the two.'
      )

  @property
  def spec(self) -> ObservationSpec:
    """See `encoders.Encoder`."""
    return encoders.pixels_spec(self.image_size)

  def inputs(self, observation: Observation) -> jax.Array:
    """See `encoders.Encoder`."""
    return encoders.normalized_pixels(
      observation, self.image_size, self.pixel_norm
    )

  def build(self, dtype: Any) -> nn.Module:
    """See `encoders.Encoder`."""
    sizes: Any = SIZES[self.size]
    return ViT(
      patch_size=self.patch_size,
      image_size=self.image_size,
      dtype=dtype,
      **sizes,
    )


class ViT(nn.Module):
  """Vision transformer; its class token is the feature of an image.

  Position embeddings are learned for `image_size` and resized (bicubic) for
  any other that divides into patches.

  Source: An image is worth 16x16 words, arXiv 2010.11929; DeiT's sizes, arXiv
  2012.12877, table 1.

  Attributes:
    width: size of a token.
    depth: blocks.
    num_heads: attention heads.
    mlp_dim: hidden width of the MLPs.
    patch_size: side of a patch in pixels.
    image_size: side of the images whose positions are learned.
    epsilon: of every LayerNorm.
    dtype: of the computation.
    param_dtype: of the parameters.
  """

  width: int
  depth: int
  num_heads: int
  mlp_dim: int
  patch_size: int
  image_size: int
  epsilon: float = 1e-12
  dtype: Any = jnp.float32
  param_dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, pixels: jax.Array, *, train: bool = False
  ) -> tuple[jax.Array, encoders.Intermediates]:
    """Encodes normalised `pixels`.

    Args:
      pixels: `[..., height, width, C]`, normalised, sides multiples of
        `patch_size`.
      train: accepted as by every encoder; nothing here depends on it.

    Returns:
      The class token `[..., D]` and `{'tokens': [..., 1 + P, D]}`, the class
      token first, then the patches row by row, after the last LayerNorm.
    """
    dtypes: Any = {'dtype': self.dtype, 'param_dtype': self.param_dtype}
    normal = nn.initializers.normal(0.02)
    grid = self.image_size // self.patch_size
    cls_token = self.param('cls_token', normal, (self.width,), self.param_dtype)
    positions = self.param(
      'positions', normal, (1 + grid**2, self.width), self.param_dtype
    )
    tokens = patches.PatchEmbedding(
      self.width, self.patch_size, name='patches', **dtypes
    )(pixels)
    *lead, rows, columns, _ = tokens.shape
    grid_positions = patches.resize_positions(
      positions[1:].reshape(grid, grid, self.width), shape=(rows, columns)
    )
    positions = jnp.concatenate(
      [positions[:1], grid_positions.reshape(-1, self.width)]
    ).astype(self.dtype)
    tokens = jnp.concatenate(
      [
        jnp.broadcast_to(cls_token.astype(self.dtype), (*lead, 1, self.width)),
        tokens.reshape(*lead, rows * columns, self.width),
      ],
      axis=-2,
    )
    tokens = tokens + positions.reshape((1,) * len(lead) + positions.shape)
    for index in range(self.depth):
      tokens = transformer.Block(
        num_heads=self.num_heads,
        mlp_dim=self.mlp_dim,
        epsilon=self.epsilon,
        name=f'block_{index}',
        **dtypes,
      )(tokens, train=train)
    tokens = layers.layer_norm(self.epsilon, name='norm', **dtypes)(tokens)
    return tokens[..., 0, :], {'tokens': tokens}
