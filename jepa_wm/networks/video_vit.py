"""The video ViT: tubelets of a clip, or those of them that a mask leaves."""

import dataclasses
import math
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from jepa_wm import fields, units
from jepa_wm.networks import encoders, layers, patches, sizes, transformer
from jepa_wm.networks import positions as positions_lib
from jepa_wm.types import Observation

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


@CLIP_ENCODERS.register
@encoders.ENCODERS.register
@dataclasses.dataclass(frozen=True)
class VideoViTConfig(transformer.Sizes, encoders.OfFrames):
  """The settings of a `VideoViT`; the defaults are V-JEPA 2's ViT-L/16.

  Attributes:
    size: one of `sizes.VIT`, which says width, depth, heads and MLP; 'own' for
      the fields themselves.
    image_size: see `encoders.OfFrames`, as `pixel_norm`.
    patch_size: side of a patch in pixels.
    tubelet_size: frames of a token; 1 for images.
    num_frames: frames `T` of a clip; 1 for images.
    positions: one of `positions.POSITIONS`.
    init_style: one of `INITS`.
  """

  name: ClassVar[str] = 'video_vit'

  size: str = sizes.OWN
  image_size: int = 256
  patch_size: int = 16
  tubelet_size: int = 2
  num_frames: int = 16
  positions: positions_lib.Positions = fields.one_of(
    positions_lib.POSITIONS, positions_lib.Rotary()
  )
  init_style: str = 'depth_scaled'
  pixel_norm: str = 'imagenet'

  def __post_init__(self) -> None:
    """Checks every field, and that the sizes divide."""
    fields.check(
      self,
      {
        'size': (sizes.OWN, *sizes.VIT),
        'init_style': INITS,
        'pixel_norm': (*units.PIXEL_NORMS,),
      },
    )
    sizes.fill_in(self, sizes.VIT)
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

  def inputs(self, observation: Observation) -> jax.Array:
    """Pixels `[..., T, height, width, 3]` of clips, checked and normalised.

    Raises:
      ValueError: pixels are missing, of another size or dtype, or of a number
        of frames that tubelets do not divide.
    """
    pixels = super().inputs(observation)
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
      **self.sizes,
      patch_size=self.patch_size,
      tubelet_size=self.tubelet_size,
      grid=self.grid,
      positions=self.positions,
      init_style=self.init_style,
      dtype=dtype,
    )


class Transformer(layers.Module, kw_only=True):
  """Blocks of full attention over tokens that know where they are.

  Attributes:
    width: size of a token.
    depth: blocks.
    num_heads: attention heads; they share the width evenly.
    mlp_dim: hidden width of the MLPs.
    grid: tokens in time, height and width of the clips in training.
    positions: how a token knows where it is.
    init_style: one of `INITS`.
    epsilon: of every LayerNorm.
  """

  width: int
  depth: int
  num_heads: int
  mlp_dim: int
  grid: Grid
  positions: positions_lib.Positions = positions_lib.Rotary()
  init_style: str = 'depth_scaled'
  epsilon: float = 1e-6

  @nn.nowrap
  def transform(
    self, tokens: jax.Array, ids: jax.Array, valid: jax.Array | None, grid: Grid
  ) -> tuple[jax.Array, Intermediates]:
    """Blocks and last LayerNorm, within a compact `__call__`.

    Args:
      tokens: `[..., K, D]`.
      ids: integers `[..., K]`, where they are.
      valid: bool `[..., K]`, which are no padding; None for all.
      grid: that the ids are of.

    Returns:
      Tokens `[..., K, D]` and the output of each block by name.
    """
    rotation = self.positions.rotation(ids, grid, self.width // self.num_heads)
    mask = None
    if valid is not None:
      # Padding is not seen; what it makes of itself nobody reads.
      mask = valid[..., None, None, :]
    outputs = {}
    for index in range(self.depth):
      dense_fn = layers.normal_dense
      if self.init_style == 'depth_scaled':
        dense_fn = layers.depth_scaled_dense(index)
      tokens, _ = transformer.Block(
        num_heads=self.num_heads,
        mlp_dim=self.mlp_dim,
        epsilon=self.epsilon,
        dense_fn=dense_fn,
        name=f'block_{index}',
        **self.dtypes,
      )(tokens, rotation=rotation, mask=mask)
      outputs[f'block_{index}'] = tokens
    norm = layers.layer_norm(self.epsilon, name='norm', **self.dtypes)
    return norm(tokens), outputs


class VideoViT(Transformer):
  """A ViT over the tubelets of a clip, or over those that a mask leaves.

  It has no class token. Tokens that are not asked for never enter a block.

  Source: V-JEPA (arXiv 2404.08471), section 3.3; V-JEPA 2 (arXiv 2506.09985),
  section 2.1, for the rotary positions.

  A clip of another size than `grid` stretches a table of positions; rotary
  ones go on counting.

  Attributes:
    patch_size: side of a patch in pixels.
    tubelet_size: frames of a token; 1 for images.
  """

  patch_size: int
  tubelet_size: int

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
      train: see `encoders.Encoder`.

    Returns:
      Tokens `[..., K, D]` after the last LayerNorm, and what each block gave,
      `{'block_0': [..., K, D], ...}`.
    """
    del train
    tokens = patches.PatchEmbedding(
      self.width,
      self.patch_size,
      self.tubelet_size,
      name='patches',
      **self.dtypes,
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
    return self.transform(tokens, ids, valid, grid)
