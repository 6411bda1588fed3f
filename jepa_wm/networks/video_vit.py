"""The video ViT: tubelets of a clip, or those of them that a mask leaves."""

import dataclasses
import math
from typing import Any, ClassVar, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp

from jepa_wm import fields, units
from jepa_wm.networks import encoders, layers, patches, transformer
from jepa_wm.networks import positions as positions_lib
from jepa_wm.types import Observation, ObservationSpec

CLIP_ENCODERS = fields.Registry('clip encoder', 'jepa_wm.networks')
"""Encoders of clips that encode some of their tokens alone."""

INITS = ('depth_scaled', 'plain')
"""How linear maps start.

  'depth_scaled': the maps back into the residual stream smaller the deeper;
  'plain': all of them alike, as V-JEPA 1's and I-JEPA's code has it, which
    draws them anew after having scaled them.
"""

Grid = positions_lib.Grid
Intermediates = dict[str, jax.Array]

VIT_SIZES = {
  'vit_tiny': {'width': 192, 'depth': 12, 'num_heads': 3, 'mlp_dim': 768},
  'vit_small': {'width': 384, 'depth': 12, 'num_heads': 6, 'mlp_dim': 1536},
  'vit_base': {'width': 768, 'depth': 12, 'num_heads': 12, 'mlp_dim': 3072},
  'vit_large': {'width': 1024, 'depth': 24, 'num_heads': 16, 'mlp_dim': 4096},
  'vit_huge': {'width': 1280, 'depth': 32, 'num_heads': 16, 'mlp_dim': 5120},
  # The heads of V-JEPA 2; I-JEPA's ViT of this size has 16.
  'vit_giant': {'width': 1408, 'depth': 40, 'num_heads': 22, 'mlp_dim': 6144},
}
"""Published sizes of encoders (V-JEPA 2, arXiv 2506.09985, and before)."""


@CLIP_ENCODERS.register
@encoders.ENCODERS.register
@dataclasses.dataclass(frozen=True)
class VideoViTConfig(encoders.Unfitted):
  """The settings of a `VideoViT`; the defaults are V-JEPA 2's ViT-L/16.

  Attributes:
    image_size: side of the square frames in pixels.
    patch_size: side of a patch.
    tubelet_size: frames of a token.
    num_frames: frames `T` of a clip; 1 for images.
    width: size of a token.
    depth: blocks.
    num_heads: attention heads.
    mlp_dim: hidden width of the MLPs.
    positions: one of `positions.POSITIONS`.
    init_style: one of `INITS`.
    pixel_norm: one of `units.PIXEL_NORMS`, what frames are normalised by.
  """

  name: ClassVar[str] = 'video_vit'

  image_size: int = 256
  patch_size: int = 16
  tubelet_size: int = 2
  num_frames: int = 16
  width: int = 1024
  depth: int = 24
  num_heads: int = 16
  mlp_dim: int = 4096
  positions: positions_lib.Positions = fields.one_of(
    positions_lib.POSITIONS, positions_lib.Rotary()
  )
  init_style: str = 'depth_scaled'
  pixel_norm: str = 'imagenet'

  def __post_init__(self) -> None:
    """Checks every field, and that the sizes divide.

    Raises:
      ValueError: a field out of its range; the message names it.
    """
    fields.check(
      self, {'init_style': INITS, 'pixel_norm': (*units.PIXEL_NORMS,)}
    )
    for size, part in (
      ('image_size', 'patch_size'),
      ('num_frames', 'tubelet_size'),
      ('width', 'num_heads'),
    ):
      if getattr(self, size) % getattr(self, part):
        raise ValueError(
          f'encoder.{size}={getattr(self, size)} must be a multiple of '
          f'encoder.{part}={getattr(self, part)}.'
        )
    self.positions.check('encoder', self.width, self.num_heads)

  @property
  def clip_length(self) -> int:
    """See `encoders.Encoder`: frames of a token."""
    return self.tubelet_size

  @property
  def grid(self) -> Grid:
    """Tokens of a clip in time, height and width."""
    side = self.image_size // self.patch_size
    return self.num_frames // self.tubelet_size, side, side

  @property
  def spec(self) -> ObservationSpec:
    """See `encoders.Encoder`: a frame of a clip."""
    return encoders.pixels_spec(self.image_size)

  def inputs(self, observation: Observation) -> jax.Array:
    """Pixels `[..., T, height, width, 3]` of clips, checked and normalised.

    Raises:
      ValueError: pixels are missing, of another size or dtype, or of a number
        of frames that tubelets do not divide.
    """
    pixels = encoders.normalized_pixels(
      observation, self.image_size, self.pixel_norm
    )
    if (
      pixels.ndim < 4
      or not pixels.shape[-4]
      or (pixels.shape[-4] % self.tubelet_size)
    ):
      size = self.image_size
      raise ValueError(
        f'pixels must be clips [..., T, {size}, {size}, 3] with T a multiple '
        f'of tubelet_size={self.tubelet_size}, got shape {pixels.shape}.'
      )
    return pixels

  def build(self, dtype: Any) -> 'VideoViT':
    """See `encoders.Encoder`."""
    return VideoViT(
      width=self.width,
      depth=self.depth,
      num_heads=self.num_heads,
      mlp_dim=self.mlp_dim,
      patch_size=self.patch_size,
      tubelet_size=self.tubelet_size,
      grid=self.grid,
      positions=self.positions,
      init_style=self.init_style,
      dtype=dtype,
    )


class VideoViT(nn.Module):
  """A ViT over the tubelets of a clip, or over those that a mask leaves.

  It has no class token. Tokens that are not asked for never enter a block.

  Source: V-JEPA (arXiv 2404.08471), section 3.3; V-JEPA 2 (arXiv 2506.09985),
  section 2.1, for the rotary positions.

  Attributes:
    width: size of a token.
    depth: blocks.
    num_heads: attention heads; they share the width evenly.
    mlp_dim: hidden width of the MLPs.
    patch_size: side of a patch in pixels.
    tubelet_size: frames of a token; 1 for images.
    grid: tokens in time, height and width of the clips in training. A clip of
      another size stretches a table of positions; rotary ones go on counting.
    positions: how a token knows where it is.
    init_style: one of `INITS`.
    epsilon: of every LayerNorm.
    dtype: of the computation.
    param_dtype: of the parameters.
  """

  width: int
  depth: int
  num_heads: int
  mlp_dim: int
  patch_size: int
  tubelet_size: int
  grid: Grid
  positions: positions_lib.Positions = positions_lib.Rotary()
  init_style: str = 'depth_scaled'
  epsilon: float = 1e-6
  dtype: Any = jnp.float32
  param_dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self,
    pixels: jax.Array,
    ids: jax.Array | None = None,
    valid: jax.Array | None = None,
    *,
    train: bool = False,
  ) -> tuple[jax.Array, Intermediates]:
    """Encodes normalised clips.

    Args:
      pixels: `[..., T, height, width, C]`, normalised, `T` a multiple of
        `tubelet_size` and the sides of `patch_size`.
      ids: integers `[..., K]`, the tokens to encode; all by default.
      valid: bool `[..., K]`, which of `ids` are no padding; all by default.
      train: accepted as by every encoder; nothing here depends on it.

    Returns:
      Tokens `[..., K, D]` after the last LayerNorm, and what each block gave,
      `{'block_0': [..., K, D], ...}`.
    """
    dtypes: Any = {'dtype': self.dtype, 'param_dtype': self.param_dtype}
    tokens = patches.TubeletEmbedding(
      self.width, self.patch_size, self.tubelet_size, name='patches', **dtypes
    )(pixels)
    lead = tokens.shape[:-4]
    frames, rows, columns = tokens.shape[-4:-1]
    grid = frames, rows, columns
    tokens = tokens.reshape(*lead, math.prod(grid), self.width)
    table = self.positions.table(grid, self.width, self.grid)
    if table is not None:
      table = table.astype(self.dtype)
      tokens = tokens + table.reshape((1,) * len(lead) + table.shape)
    if ids is None:
      ids = jnp.arange(math.prod(grid))
    else:
      tokens = jnp.take_along_axis(tokens, ids[..., None], axis=-2)
    return transform(self, tokens, ids, valid, grid, train=train)


class Transforms(Protocol):
  """What `transform` asks of the module whose blocks it makes."""

  width: int
  depth: int
  num_heads: int
  mlp_dim: int
  positions: positions_lib.Positions
  init_style: str
  epsilon: float
  dtype: Any
  param_dtype: Any


def transform(
  module: Transforms,
  tokens: jax.Array,
  ids: jax.Array,
  valid: jax.Array | None,
  grid: Grid,
  *,
  train: bool,
) -> tuple[jax.Array, Intermediates]:
  """Blocks and last LayerNorm of `module`, within its compact `__call__`.

  Args:
    module: whose submodules they become.
    tokens: `[..., K, D]`.
    ids: integers `[..., K]`, where they are.
    valid: bool `[..., K]`, which are no padding; None for all.
    grid: that the ids are of.
    train: accepted as by every network; nothing here depends on it.

  Returns:
    Tokens `[..., K, D]` and the output of each block by name.
  """
  dtypes: Any = {'dtype': module.dtype, 'param_dtype': module.param_dtype}
  rotation = module.positions.rotation(
    ids, grid, module.width // module.num_heads
  )
  mask = None
  if valid is not None:
    # Padding is not seen; what it makes of itself nobody reads.
    mask = valid[..., None, None, :]
  outputs = {}
  for index in range(module.depth):
    dense_fn = layers.normal_dense
    if module.init_style == 'depth_scaled':
      dense_fn = layers.depth_scaled_dense(index)
    tokens = transformer.Block(
      num_heads=module.num_heads,
      mlp_dim=module.mlp_dim,
      epsilon=module.epsilon,
      dense_fn=dense_fn,
      name=f'block_{index}',
      **dtypes,
    )(tokens, rotation=rotation, mask=mask, train=train)
    outputs[f'block_{index}'] = tokens
  norm = layers.layer_norm(module.epsilon, name='norm', **dtypes)
  return norm(tokens), outputs
