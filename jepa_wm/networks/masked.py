"""The video ViT, and the predictor of what it was not shown (I-JEPA, V-JEPA).

Both work on sets of tokens: a token is known by its id, its place
`(t * H + h) * W + w` in the flattened grid.
"""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jepa_wm.networks import layers, patches, rotary, sincos, transformer

POSITIONS = ('rotary', 'sincos')
"""How tokens know where they are: turned in attention, or a table added."""

INITS = ('depth_scaled', 'plain')
"""How linear maps start.

  'depth_scaled': the maps back into the residual stream smaller the deeper;
  'plain': all of them alike, as V-JEPA 1's and I-JEPA's code has it, which
    draws them anew after having scaled them.
"""

Grid = tuple[int, int, int]
Intermediates = dict[str, jax.Array]

VIT_SIZES = {
  'vit_tiny': {'dim': 192, 'depth': 12, 'heads': 3, 'mlp_dim': 768},
  'vit_small': {'dim': 384, 'depth': 12, 'heads': 6, 'mlp_dim': 1536},
  'vit_base': {'dim': 768, 'depth': 12, 'heads': 12, 'mlp_dim': 3072},
  'vit_large': {'dim': 1024, 'depth': 24, 'heads': 16, 'mlp_dim': 4096},
  'vit_huge': {'dim': 1280, 'depth': 32, 'heads': 16, 'mlp_dim': 5120},
  # The heads of V-JEPA 2; I-JEPA's ViT of this size has 16.
  'vit_giant': {'dim': 1408, 'depth': 40, 'heads': 22, 'mlp_dim': 6144},
}
"""Published sizes of encoders (V-JEPA 2, arXiv 2506.09985, and before)."""


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
    positions: one of `POSITIONS`.
    rope_style: one of `rotary.STYLES`.
    table_order: one of `sincos.ORDERS`.
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
  positions: str = 'rotary'
  rope_style: str = 'vjepa2'
  table_order: str = 'time_first'
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
    if self.positions == 'sincos':
      table = sincos.resized_table(
        grid, self.width, trained_grid=self.grid, order=self.table_order
      ).astype(self.dtype)
      tokens = tokens + table.reshape((1,) * len(lead) + table.shape)
    if ids is None:
      ids = jnp.arange(math.prod(grid))
    else:
      tokens = jnp.take_along_axis(tokens, ids[..., None], axis=-2)
    return _transform(self, tokens, ids, valid, grid, train=train)


class MaskedPredictor(nn.Module):
  """From the tokens of a context to those of the places it is asked about.

  A mask token stands at every place asked about; attention is full.

  Source: I-JEPA (arXiv 2301.08243), section 3; V-JEPA (arXiv 2404.08471),
  section 3.3.

  Attributes:
    width: size of a token inside.
    depth: blocks.
    num_heads: attention heads; they share the width evenly.
    mlp_dim: hidden width of the MLPs.
    features: size of a predicted token.
    num_mask_tokens: mask tokens to choose from.
    grid: as of `VideoViT`.
    mask_token_std: in which the mask tokens start.
    positions: one of `POSITIONS`.
    rope_style: one of `rotary.STYLES`.
    table_order: one of `sincos.ORDERS`.
    init_style: one of `INITS`.
    epsilon: of every LayerNorm.
    dtype: of the computation.
    param_dtype: of the parameters.
  """

  width: int
  depth: int
  num_heads: int
  mlp_dim: int
  features: int
  num_mask_tokens: int
  grid: Grid
  mask_token_std: float = 0.0
  positions: str = 'rotary'
  rope_style: str = 'vjepa2'
  table_order: str = 'time_first'
  init_style: str = 'depth_scaled'
  epsilon: float = 1e-6
  dtype: Any = jnp.float32
  param_dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self,
    context: jax.Array,
    context_ids: jax.Array,
    target_ids: jax.Array,
    *,
    mask_index: int = 0,
    context_valid: jax.Array | None = None,
    target_valid: jax.Array | None = None,
    train: bool = False,
  ) -> tuple[jax.Array, Intermediates]:
    """Predicts the tokens at `target_ids`, in the order asked.

    Args:
      context: `[..., Kc, D]`, encoded.
      context_ids: integers `[..., Kc]`, where they are.
      target_ids: integers `[..., Kt]`, the places asked about.
      mask_index: which mask token stands there, modulo their number.
      context_valid: bool `[..., Kc]`, which are no padding; all by default.
      target_valid: bool `[..., Kt]`, likewise.
      train: accepted as by every predictor; nothing here depends on it.

    Returns:
      `[..., Kt, features]`, and `{'context': [..., Kc, features]}`, what the
      predictor makes of the context itself, beside the output of each block.
    """
    dtypes: Any = {'dtype': self.dtype, 'param_dtype': self.param_dtype}
    mask_tokens = self.param(
      'mask_tokens',
      nn.initializers.normal(self.mask_token_std),
      (self.num_mask_tokens, self.width),
      self.param_dtype,
    )
    inputs = layers.normal_dense(
      self.width, context.shape[-1], name='input', **dtypes
    )(context)
    num_context = context.shape[-2]
    mask_token = mask_tokens[mask_index % self.num_mask_tokens]
    asked = jnp.broadcast_to(
      mask_token.astype(self.dtype), (*target_ids.shape, self.width)
    )
    tokens = jnp.concatenate([inputs, asked], axis=-2)
    ids = jnp.concatenate([context_ids, target_ids], axis=-1)
    if self.positions == 'sincos':
      table = jnp.asarray(
        sincos.table(self.grid, self.width, order=self.table_order), self.dtype
      )
      tokens = tokens + table[ids]
    valid = None
    if context_valid is not None and target_valid is not None:
      valid = jnp.concatenate([context_valid, target_valid], axis=-1)
    tokens, outputs = _transform(
      self, tokens, ids, valid, self.grid, train=train
    )
    predicted = layers.normal_dense(
      self.features, self.width, name='output', **dtypes
    )(tokens)
    outputs['context'] = predicted[..., :num_context, :]
    return predicted[..., num_context:, :], outputs


def _transform(
  module: VideoViT | MaskedPredictor,
  tokens: jax.Array,
  ids: jax.Array,
  valid: jax.Array | None,
  grid: Grid,
  *,
  train: bool,
) -> tuple[jax.Array, Intermediates]:
  """Blocks and last LayerNorm of `module`, within its compact `__call__`."""
  dtypes: Any = {'dtype': module.dtype, 'param_dtype': module.param_dtype}
  rotation = mask = None
  if module.positions == 'rotary':
    rotation = rotary.rotation(
      rotary.grid_positions(ids, grid),
      head_dim=module.width // module.num_heads,
      style=module.rope_style,
    )
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
