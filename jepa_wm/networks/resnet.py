"""ResNet-18, normalised within each image."""

import dataclasses
import functools
import math
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from jepa_wm import fields, units
from jepa_wm.networks import encoders, layers


@encoders.ENCODERS.register
@dataclasses.dataclass(frozen=True)
class ResNet18Config(encoders.OfFrames):
  """The settings of a `ResNet18`, whose sizes are fixed.

  Attributes:
    image_size: see `encoders.OfFrames`, as `pixel_norm`.
  """

  name: ClassVar[str] = 'resnet18'

  image_size: int = 224
  pixel_norm: str = 'imagenet'

  def __post_init__(self) -> None:
    fields.check(self, {'pixel_norm': (*units.PIXEL_NORMS,)})

  def build(self, dtype: Any) -> nn.Module:
    """See `encoders.Encoder`."""
    return ResNet18(dtype=dtype)


class ResNet18(layers.Module):
  """Four stages of two residual blocks; its mean over places is the feature.

  GroupNorm stands where the paper has batch normalisation: a latent must be a
  function of its frame alone, because a planner encodes one frame where the
  training step encodes a batch, and the frames of a window, all but equal, are
  no independent samples of batch statistics.

  Source: Deep residual learning, arXiv 1512.03385, table 1 (18 layers, 11.2 M
  parameters without the classifier); Group normalization, arXiv 1803.08494.

  Attributes:
    channels: of each stage.
    num_groups: of every GroupNorm.
  """

  channels: tuple[int, ...] = (64, 128, 256, 512)
  num_groups: int = 32

  @nn.compact
  def __call__(
    self, pixels: jax.Array, *, train: bool = False
  ) -> tuple[jax.Array, encoders.Intermediates]:
    """Encodes normalised `pixels` `[..., height, width, C]`, sides from 32.

    Returns:
      `[..., channels[-1]]`, and `{'stage_0': [..., rows, columns, channels],
      ...}` after every stage, shrunk 4, 8, 16 and 32 times.
    """
    del train

    def convolve(inputs, channels, size, stride, name):
      return nn.Conv(
        channels,
        (size, size),
        (stride, stride),
        use_bias=False,
        # The paper's own start, arXiv 1502.01852.
        kernel_init=nn.initializers.variance_scaling(2.0, 'fan_out', 'normal'),
        name=name,
        **self.dtypes,
      )(inputs)

    normalize = functools.partial(
      nn.GroupNorm, self.num_groups, epsilon=1e-5, **self.dtypes
    )
    lead = pixels.shape[:-3]
    # Convolutions and GroupNorm want exactly one leading axis.
    maps = pixels.reshape(math.prod(lead), *pixels.shape[-3:])
    maps = convolve(maps, self.channels[0], 7, 2, 'stem_conv')
    maps = nn.relu(normalize(name='stem_norm')(maps))
    maps = nn.max_pool(maps, (3, 3), (2, 2), 'SAME')
    intermediates: encoders.Intermediates = {}
    for stage, channels in enumerate(self.channels):
      for block in range(2):
        stride = 2 if stage and not block else 1
        name = f'stage_{stage}_block_{block}'
        residual = maps
        for half in range(2):
          residual = convolve(
            residual, channels, 3, 1 if half else stride, f'{name}_conv_{half}'
          )
          residual = normalize(name=f'{name}_norm_{half}')(residual)
          if not half:
            residual = nn.relu(residual)
        if residual.shape != maps.shape:
          maps = convolve(maps, channels, 1, stride, f'{name}_shortcut_conv')
          maps = normalize(name=f'{name}_shortcut_norm')(maps)
        maps = nn.relu(maps + residual)
      intermediates[f'stage_{stage}'] = maps.reshape(*lead, *maps.shape[1:])
    features = maps.astype(jnp.float32).mean((-3, -2)).astype(self.dtype)
    return features.reshape(*lead, features.shape[-1]), intermediates
