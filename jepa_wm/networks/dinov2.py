"""DINOv2: a vision transformer whose patch tokens others plan in."""

import dataclasses
from typing import Any, ClassVar

import flax.linen as nn
import jax

from jepa_wm import fields
from jepa_wm.networks import (
  attention,
  encoders,
  layers,
  patches,
  remat,
  sizes,
  transformer,
)
from jepa_wm.types import Observation

SIZES = {
  name: {key: x for key, x in sizes.VIT[name].items() if key != 'mlp_dim'}
  for name in ('small', 'base', 'large')
}
"""Sizes of the released weights whose MLPs are plain: the giant's are gated."""

PATCH_SIZE = 14
"""Side of a patch of every published size."""

POSITIONS_GRID = 37
"""Patches along a side of the 518 pixels that positions were trained at."""


@encoders.ENCODERS.register
@dataclasses.dataclass(frozen=True)
class Dinov2Config(encoders.OfFrames):
  """The settings of a `Dinov2`; the defaults are DINO-WM's.

  Attributes:
    size: one of `SIZES`.
    image_size: side of the square frames in pixels.
    resized: side that the encoder sees them at, a multiple of 14; DINO-WM keeps
      as many patches of 14 as the frame has of 16.
  """

  name: ClassVar[str] = 'dinov2'

  size: str = 'small'
  image_size: int = 224
  resized: int = 196

  def __post_init__(self) -> None:
    fields.check(self, {'size': (*SIZES,)})
    if self.resized % PATCH_SIZE:
      raise ValueError(
        f'resized must be a multiple of {PATCH_SIZE}, got {self.resized}.'
      )

  def inputs(self, observation: Observation) -> jax.Array:
    """See `encoders.Encoder`."""
    pixels = encoders.normalized_pixels(
      observation, self.image_size, 'imagenet'
    )
    shape = (*pixels.shape[:-3], self.resized, self.resized, 3)
    return jax.image.resize(pixels, shape, 'bilinear')

  def build(self, dtype: Any) -> nn.Module:
    """See `encoders.Encoder`."""
    size: Any = SIZES[self.size]
    return Dinov2(**size, dtype=dtype)


@remat.block
class ScaledBlock(layers.Module):
  """Pre-norm block whose two halves are scaled channel by channel (LayerScale).

  Source: CaiT, arXiv 2103.17239, section 2.1; DINOv2.

  Attributes:
    num_heads: attention heads; they share the width evenly.
    mlp_dim: hidden width of the MLP.
    epsilon: of both LayerNorms.
  """

  num_heads: int
  mlp_dim: int
  epsilon: float

  @nn.compact
  def __call__(self, tokens: jax.Array) -> jax.Array:
    """Maps `tokens` `[..., T, D]` to `[..., T, D]`."""
    width = tokens.shape[-1]

    def norm(name):
      return layers.layer_norm(self.epsilon, name=name, **self.dtypes)

    def scaled(name, x):
      scale = self.param(
        name, nn.initializers.ones, (width,), self.param_dtype
      ).astype(self.dtype)
      return x * scale.reshape((1,) * (x.ndim - 1) + (width,))

    mixed, _ = attention.Attention(
      num_heads=self.num_heads,
      head_dim=width // self.num_heads,
      dense_fn=layers.normal_dense,
      name='attention',
      **self.dtypes,
    )(norm('attention_norm')(tokens))
    tokens = tokens + scaled('attention_scale', mixed)
    mapped = transformer.Mlp(
      hidden_dim=self.mlp_dim,
      dense_fn=layers.normal_dense,
      name='mlp',
      **self.dtypes,
    )(norm('mlp_norm')(tokens))
    return tokens + scaled('mlp_scale', mapped)


class Dinov2(layers.Module):
  """DINOv2's vision transformer.

  Positions are learned on a grid of `grid` patches a side and resized
  (bicubic) for any other image that divides into patches.

  Source: DINOv2, arXiv 2304.07193, and its released code (without registers).

  Its fields are `width`, `depth` and `num_heads` as in `SIZES`, `patch_size`,
  `grid`, the patches along a side whose positions are learned, and the
  `epsilon` of every LayerNorm.
  """

  width: int
  depth: int
  num_heads: int
  patch_size: int = PATCH_SIZE
  grid: int = POSITIONS_GRID
  epsilon: float = 1e-6

  @nn.compact
  def __call__(
    self, pixels: jax.Array, *, train: bool = False
  ) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Encodes `pixels` of ImageNet's norm, see `patches.embed_image`.

    Returns:
      The class token `[..., D]` and `{'feature_map': [..., rows, columns, D],
      'tokens': [..., 1 + P, D]}`, both after the last LayerNorm.
    """
    del train
    tokens, shape = patches.embed_image(self, pixels, grid=self.grid)
    for index in range(self.depth):
      tokens = ScaledBlock(
        num_heads=self.num_heads,
        mlp_dim=4 * self.width,
        epsilon=self.epsilon,
        name=f'block_{index}',
        **self.dtypes,
      )(tokens)
    tokens = layers.layer_norm(self.epsilon, name='norm', **self.dtypes)(tokens)
    feature_map = tokens[..., 1:, :].reshape(*pixels.shape[:-3], *shape, -1)
    return tokens[..., 0, :], {'feature_map': feature_map, 'tokens': tokens}
