"""Latents to pictures: a small convolutional decoder."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from jepa_wm.networks import layers


def check(image_size: int, channels: tuple[int, ...], patch_size: int) -> None:
  """Makes sure that a `Decoder` can draw pictures of a size.

  Raises:
    ValueError: no channels in a stage, or stages that draw other sizes.
  """
  if min(channels) < 1:
    raise ValueError(f'channels must be positive, got {channels}.')
  step = patch_size * 2 ** len(channels)
  if not image_size or image_size % step:
    raise ValueError(
      f'image_size of the encoder is {image_size}; patches of {patch_size} '
      f'after {len(channels)} stages of channels draw multiples of {step} '
      'pixels.'
    )


class Decoder(layers.Module):
  """A small picture of many channels, doubled stage by stage, then patches.

  A stage doubles height and width by repeating pixels, which leaves no
  checkerboard, and adds a 3x3 convolution. The last map holds a patch of the
  picture in every place: no convolution is as large as the picture, and a step
  takes a quarter of the time on a CPU.

  Attributes:
    image_size: side of the picture, a multiple of
      `patch_size * 2 ** len(channels)`.
    channels: of each stage, coarsest first.
    patch_size: side of a patch.
    num_colors: channels `C` of the picture.
  """

  image_size: int
  channels: tuple[int, ...] = (64, 64)
  patch_size: int = 4
  num_colors: int = 3

  @nn.compact
  def __call__(self, latents: jax.Array) -> jax.Array:
    """Draws latents.

    Args:
      latents: `[..., D]`.

    Returns:
      float32 `[..., height, width, C]`, 0..1 where it drew well.
    """
    dtypes = self.dtypes
    patch = self.patch_size
    side = self.image_size // (patch * 2 ** len(self.channels))
    lead = latents.shape[:-1]
    # Convolutions want exactly one leading axis.
    flat = latents.reshape(math.prod(lead), latents.shape[-1])
    hidden = nn.Dense(4 * self.channels[0], name='hidden', **dtypes)(flat)
    maps = nn.Dense(side * side * self.channels[0], name='in', **dtypes)(
      nn.silu(hidden)
    ).reshape(-1, side, side, self.channels[0])
    for stage, channels in enumerate(self.channels):
      maps = jnp.repeat(jnp.repeat(nn.silu(maps), 2, axis=1), 2, axis=2)
      maps = nn.Conv(channels, (3, 3), name=f'stage_{stage}', **dtypes)(maps)
    patches = nn.Conv(
      patch * patch * self.num_colors, (3, 3), name='out', **dtypes
    )(nn.silu(maps))
    rows = patches.shape[1]
    patches = patches.reshape(-1, rows, rows, patch, patch, self.num_colors)
    colors = jnp.moveaxis(patches, 3, 2)
    size = self.image_size
    return colors.reshape(*lead, size, size, self.num_colors).astype(
      jnp.float32
    )
