"""Pixels to features: the vision transformer and the convolutional encoder."""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm.networks import layers, patches, transformer

VIT_PRESETS = {
  'vit_tiny': {'width': 192, 'depth': 12, 'num_heads': 3, 'mlp_dim': 768},
  'vit_small': {'width': 384, 'depth': 12, 'num_heads': 6, 'mlp_dim': 1536},
  'vit_base': {'width': 768, 'depth': 12, 'num_heads': 12, 'mlp_dim': 3072},
}

Intermediates = dict[str, jax.Array]


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
  ) -> tuple[jax.Array, Intermediates]:
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


class ConvEncoder(nn.Module):
  """Stages of shrinking and residual convolutions, flattened into one map.

  A stage shrinks its input `strides[i]` times to `channels[i]` channels and
  adds `blocks[i]` residual blocks of two 3x3 convolutions. With `pooling` it
  shrinks as IMPALA does, by a 3x3 convolution and a 3x3 max-pool; without, by
  one strided convolution, whose backward pass costs a third on a CPU.

  With `keypoints` the last maps are not flattened: each is read as a
  distribution over the picture, whose mean is a point, and two hidden layers
  see the points alone: meant for small things whose place and angle matter.

  Source: IMPALA, arXiv 1802.01561, figure 3 (channels 16, 32, 32, two blocks
  a stage, max-pooling, 256 features); the spatial softmax of deep spatial
  autoencoders, arXiv 1509.06113, section IV.

  Attributes:
    features: size of the output.
    channels: channels of each stage.
    strides: how many times each stage shrinks height and width.
    blocks: residual blocks of each stage.
    pooling: whether stages shrink by max-pooling.
    keypoints: whether the maps become points.
    dtype: of the computation.
    param_dtype: of the parameters.
  """

  features: int = 256
  channels: tuple[int, ...] = (16, 32, 32)
  strides: tuple[int, ...] = (2, 2, 2)
  blocks: tuple[int, ...] = (2, 2, 2)
  pooling: bool = True
  keypoints: bool = False
  dtype: Any = jnp.float32
  param_dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, pixels: jax.Array, *, train: bool = False
  ) -> tuple[jax.Array, Intermediates]:
    """Encodes normalised `pixels`.

    Args:
      pixels: `[..., height, width, C]`, normalised, always of one size.
      train: accepted as by every encoder; nothing here depends on it.

    Returns:
      `[..., features]` and `{'feature_map': [..., rows, columns, channels]}`;
      with `keypoints` also these, `[..., channels, 2]`, x and y in -1..1.
    """
    del train
    dtypes: Any = {'dtype': self.dtype, 'param_dtype': self.param_dtype}

    def convolve(name, channels, inputs, size=3, stride=1):
      return nn.Conv(
        channels, (size, size), (stride, stride), name=name, **dtypes
      )(inputs)

    lead = pixels.shape[:-3]
    # Convolutions want exactly one leading axis.
    maps = pixels.reshape(math.prod(lead), *pixels.shape[-3:])
    stages = zip(self.channels, self.strides, self.blocks, strict=True)
    for stage, (channels, stride, blocks) in enumerate(stages):
      name = f'stage_{stage}'
      if stage and not self.pooling:
        # Else two stages without residual blocks would be one linear map.
        maps = nn.relu(maps)
      if self.pooling:
        maps = convolve(f'{name}_conv', channels, maps)
        maps = nn.max_pool(maps, (3, 3), (stride, stride), 'SAME')
      else:
        # A large stride reads every pixel once, like patches.
        maps = convolve(f'{name}_conv', channels, maps, max(3, stride), stride)
      for block in range(blocks):
        residual = maps
        for half in range(2):
          residual = convolve(
            f'{name}_block_{block}_conv_{half}', channels, nn.relu(residual)
          )
        maps = maps + residual
    if self.keypoints:
      sharpness = self.param(
        'sharpness', nn.initializers.ones, maps.shape[-1:], self.param_dtype
      )
      maps = maps.reshape(*lead, *maps.shape[1:])
      points = _keypoints(maps, sharpness)
      flat = points.reshape(*lead, -1).astype(self.dtype)
      hidden = nn.relu(nn.Dense(self.features, name='hidden', **dtypes)(flat))
      features = nn.relu(nn.Dense(self.features, name='out', **dtypes)(hidden))
      return features, {'feature_map': maps, 'keypoints': points}
    maps = nn.relu(maps).reshape(*lead, *maps.shape[1:])
    flat = maps.reshape(*lead, math.prod(maps.shape[-3:]))
    features = nn.Dense(self.features, name='out', **dtypes)(flat)
    return features, {'feature_map': maps}


def _keypoints(maps: jax.Array, sharpness: jax.Array) -> jax.Array:
  """Means of the softmax of `maps` `[..., rows, columns, C]`, `[..., C, 2]`."""
  *lead, rows, columns, channels = maps.shape
  scores = maps.astype(jnp.float32).reshape(*lead, rows * columns, channels)
  sharpness = sharpness.reshape((1,) * (scores.ndim - 1) + (-1,))
  shares = nn.softmax(scores * sharpness, axis=-2)
  x, y = np.meshgrid(np.linspace(-1, 1, columns), np.linspace(-1, 1, rows))
  places = np.stack([x.ravel(), y.ravel()]).astype(np.float32)
  return jnp.einsum('...pc,kp->...ck', shares, places)
