"""Convolutional encoders: IMPALA's, a strided one, one that reads points."""

import dataclasses
import math
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm import fields, units
from jepa_wm.networks import encoders, layers


@encoders.ENCODERS.register
@dataclasses.dataclass(frozen=True)
class ConvConfig(encoders.OfFrames):
  """The settings of a `ConvEncoder` of strided convolutions.

  Attributes:
    features: size of the output.
    channels: channels of each stage.
    strides: how many times each stage shrinks the image.
    blocks: residual blocks of each stage.
    image_size: see `encoders.OfFrames`, as `pixel_norm`.
  """

  name: ClassVar[str] = 'conv'
  pooling: ClassVar[bool] = False
  keypoints: ClassVar[bool] = False

  features: int = 256
  channels: tuple[int, ...] = (16, 32, 32)
  strides: tuple[int, ...] = (2, 2, 2)
  blocks: tuple[int, ...] = (2, 2, 2)
  image_size: int = 224
  pixel_norm: str = 'imagenet'

  def __post_init__(self) -> None:
    fields.check(self, {'pixel_norm': (*units.PIXEL_NORMS,)})
    stages = self.channels, self.strides, self.blocks
    if len({len(x) for x in stages}) > 1:
      raise ValueError(
        'channels, strides and blocks must have one entry per stage each, got '
        f'{stages[0]}, {stages[1]} and {stages[2]}.'
      )
    if min(self.channels + self.strides) < 1:
      raise ValueError(
        f'channels and strides must be positive, got {self.channels} and '
        f'{self.strides}.'
      )

  def build(self, dtype: Any) -> nn.Module:
    """See `encoders.Encoder`."""
    return ConvEncoder(
      features=self.features,
      channels=self.channels,
      strides=self.strides,
      blocks=self.blocks,
      pooling=self.pooling,
      keypoints=self.keypoints,
      dtype=dtype,
    )


@encoders.ENCODERS.register
@dataclasses.dataclass(frozen=True)
class ImpalaConfig(ConvConfig):
  """The settings of a `ConvEncoder` that shrinks by max-pooling, as IMPALA."""

  name: ClassVar[str] = 'impala'
  pooling: ClassVar[bool] = True


@encoders.ENCODERS.register
@dataclasses.dataclass(frozen=True)
class KeypointsConfig(ConvConfig):
  """The settings of a `ConvEncoder` whose maps are read as points."""

  name: ClassVar[str] = 'keypoints'
  keypoints: ClassVar[bool] = True


class ConvEncoder(layers.Module):
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

  Its fields are those of `ConvConfig`, with `pooling` and `keypoints`.
  """

  features: int = 256
  channels: tuple[int, ...] = (16, 32, 32)
  strides: tuple[int, ...] = (2, 2, 2)
  blocks: tuple[int, ...] = (2, 2, 2)
  pooling: bool = True
  keypoints: bool = False

  @nn.compact
  def __call__(
    self, pixels: jax.Array, *, train: bool = False
  ) -> tuple[jax.Array, encoders.Intermediates]:
    """Encodes normalised `pixels` `[..., height, width, C]` of one size.

    Returns:
      `[..., features]` and `{'feature_map': [..., rows, columns, channels]}`;
      with `keypoints` also these, `[..., channels, 2]`, x and y in -1..1.
    """
    del train
    dtypes = self.dtypes

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
      points = keypoints(maps, sharpness)
      flat = points.reshape(*lead, -1).astype(self.dtype)
      hidden = nn.relu(nn.Dense(self.features, name='hidden', **dtypes)(flat))
      features = nn.relu(nn.Dense(self.features, name='out', **dtypes)(hidden))
      return features, {'feature_map': maps, 'keypoints': points}
    maps = nn.relu(maps).reshape(*lead, *maps.shape[1:])
    flat = maps.reshape(*lead, math.prod(maps.shape[-3:]))
    features = nn.Dense(self.features, name='out', **dtypes)(flat)
    return features, {'feature_map': maps}


def keypoints(maps: jax.Array, sharpness: jax.Array) -> jax.Array:
  """Where maps are high: the means of their softmax.

  Args:
    maps: `[..., rows, columns, C]`.
    sharpness: `[C]`, what they are multiplied by first.

  Returns:
    float32 `[..., C, 2]`, x and y in -1..1, the first and last cells' centres.
  """
  *lead, rows, columns, channels = maps.shape
  scores = maps.astype(jnp.float32).reshape(*lead, rows * columns, channels)
  sharpness = sharpness.reshape((1,) * (scores.ndim - 1) + (-1,))
  shares = nn.softmax(scores * sharpness, axis=-2)
  x, y = np.meshgrid(np.linspace(-1, 1, columns), np.linspace(-1, 1, rows))
  places = np.stack([x.ravel(), y.ravel()]).astype(np.float32)
  return jnp.einsum('...pc,kp->...ck', shares, places)
