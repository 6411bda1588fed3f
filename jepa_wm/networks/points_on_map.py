"""Where things are, and a map of what is around them: a latent in two parts."""

import dataclasses
import math
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm import fields, units
from jepa_wm.networks import conv, encoders, layers


class Layout(NamedTuple):
  """Where a latent `[..., 2 P + rows rows C]` holds what.

  Attributes:
    num_points: P, whose x and y come first, in cells from the map's middle.
    rows: of the map, and columns; its cells follow row by row.
  """

  num_points: int
  rows: int

  def split(self, latents: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Points `[..., P, 2]` and maps `[..., rows, rows, C]`.

    Raises:
      ValueError: a latent does not hold them.
    """
    *lead, size = latents.shape
    first, cells = 2 * self.num_points, self.rows**2
    if size <= first or (size - first) % cells:
      raise ValueError(
        f'A latent of {size} numbers does not hold {self.num_points} points '
        f'and a map of {self.rows} x {self.rows}; give it those that '
        'points_on_map makes.'
      )
    points = latents[..., :first].reshape(*lead, self.num_points, 2)
    maps = latents[..., first:].reshape(*lead, self.rows, self.rows, -1)
    return points, maps


@encoders.ENCODERS.register
@dataclasses.dataclass(frozen=True)
class PointsOnMapConfig(encoders.OfFrames):
  """The settings of a `PointsOnMap`.

  Attributes:
    channels: of its convolutions.
    num_points: how many things it says the places of.
    map_channels: numbers in a cell of the map.
    image_size: see `encoders.OfFrames`, as `pixel_norm`; a multiple of 4.
  """

  name: ClassVar[str] = 'points_on_map'

  channels: int = 16
  num_points: int = 1
  map_channels: int = 2
  image_size: int = 64
  pixel_norm: str = 'imagenet'

  def __post_init__(self) -> None:
    fields.check(self, {'pixel_norm': (*units.PIXEL_NORMS,)})
    if self.image_size % 4:
      raise ValueError(
        'points_on_map.image_size must be a multiple of 4, pixels of a side of '
        f'a cell of the map, got {self.image_size}.'
      )

  @property
  def layout(self) -> Layout:
    """Of what it makes of a frame."""
    return Layout(self.num_points, self.image_size // 4)

  def build(self, dtype: Any) -> nn.Module:
    """See `encoders.Encoder`."""
    return PointsOnMap(
      channels=self.channels,
      num_points=self.num_points,
      map_channels=self.map_channels,
      dtype=dtype,
    )


class PointsOnMap(layers.Module):
  """Reads a picture as points and a map, each by convolutions of its own.

  They share none, for what is at rest is predicted best: a loss that likes that
  in the map must not blind the points. A point is the mean of a distribution
  over the picture (`conv.keypoints`) in cells of the map, so that it cannot
  collapse in scale. The map is a quarter of the picture's size and, in
  every picture, of mean 0 and variance 1 in each channel. Whatever is learnt of
  what is around one place holds for all others.

  Source: the spatial softmax of deep spatial autoencoders, arXiv 1509.06113;
  maps as latents as in PLDM's diverse mazes, arXiv 2502.14819.

  Its fields are those of `PointsOnMapConfig`.
  """

  channels: int = 16
  num_points: int = 1
  map_channels: int = 2

  @nn.compact
  def __call__(
    self, pixels: jax.Array, *, train: bool = False
  ) -> tuple[jax.Array, encoders.Intermediates]:
    """Encodes normalised `pixels` `[..., height, width, C]` of one size.

    Returns:
      `[..., F]`, see `Layout`; `{'feature_map': [..., rows, columns, C],
      'keypoints': [..., P, 2]}`.
    """
    del train
    lead = pixels.shape[:-3]

    def convolve(name, channels, inputs, size=3, stride=1):
      return nn.Conv(
        channels, (size, size), (stride, stride), name=name, **self.dtypes
      )(inputs)

    def normalise(name, inputs):
      return nn.GroupNorm(
        num_groups=inputs.shape[-1],
        use_bias=False,
        use_scale=False,
        name=name,
        **self.dtypes,
      )(inputs)

    # Convolutions want exactly one leading axis.
    seen = pixels.reshape(math.prod(lead), *pixels.shape[-3:])
    rare = _whitened(seen)
    scores = nn.relu(convolve('first', self.channels, rare, stride=2))
    scores = nn.relu(convolve('near', self.channels, scores))
    scores = convolve('scores', self.num_points, scores)
    # Squared, for it may stand out on either side of the mean.
    scores = jnp.square(normalise('scores_norm', scores))
    sharpness = self.param(
      'sharpness', nn.initializers.ones, (self.num_points,), self.param_dtype
    )
    # From the first cell's centre to the last one's, which are half as large.
    reach = (np.array(scores.shape[2:0:-1], np.float32) - 1.0) / 4.0
    points = conv.keypoints(scores, sharpness) * reach[None, None]
    maps = nn.relu(convolve('patches', self.channels, seen, size=4, stride=4))
    maps = convolve('map', self.map_channels, maps)
    maps = normalise('map_norm', maps)
    points = points.reshape(*lead, self.num_points, 2)
    maps = maps.reshape(*lead, *maps.shape[1:])
    parts = (x.reshape(*lead, -1).astype(self.dtype) for x in (points, maps))
    return jnp.concatenate([*parts], axis=-1), {
      'feature_map': maps,
      'keypoints': points,
    }


def _whitened(pixels: jax.Array) -> jax.Array:
  """Colours of pictures `[N, height, width, C]`, of mean 0 and covariance 1.

  Of those of each picture: the rarer a colour, the further it is from 0. By
  Cholesky's factor of the covariance, channel by channel: with the solver of
  `jax.scipy` a plan came to a stand on CPUs (jaxlib 0.10).
  """
  colors = pixels.astype(jnp.float32)
  colors = colors - colors.mean((1, 2), keepdims=True)
  covariance = jnp.einsum('nyxc,nyxd->cdn', colors, colors)
  covariance = covariance / (pixels.shape[1] * pixels.shape[2])
  size = pixels.shape[-1]
  factor: dict[tuple[int, int], jax.Array] = {}
  white: list[jax.Array] = []
  of_all = lambda x: x[:, None, None]
  for row in range(size):
    rest = colors[..., row]
    for column in range(row + 1):
      left = covariance[row, column] - sum(
        factor[row, k] * factor[column, k] for k in range(column)
      )
      if row == column:
        # A picture may have fewer colours than channels.
        factor[row, row] = jnp.sqrt(left + 1e-3)
      else:
        factor[row, column] = left / factor[column, column]
        rest = rest - of_all(factor[row, column]) * white[column]
    white.append(rest / of_all(factor[row, row]))
  return jnp.stack(white, axis=-1).astype(pixels.dtype)
