"""The predictor of what an encoder was not shown (I-JEPA, V-JEPA).

It works on sets of tokens: a token is known by its id, its place
`(t * H + h) * W + w` in the flattened grid.
"""

import dataclasses
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from jepa_wm import fields
from jepa_wm.networks import layers, transformer, video_vit

MASK_TOKENS = ('per_kind', 'shared')
"""Whether each kind of mask has a mask token of its own.

  'per_kind': the first for the first kind, and so on (V-JEPA 1);
  'shared': the first for all, as V-JEPA 2 trains on clips of one length.
"""

MASKED_PREDICTORS = fields.Registry('masked predictor', 'jepa_wm.networks')


@MASKED_PREDICTORS.register
@dataclasses.dataclass(frozen=True)
class MaskedPredictorConfig(transformer.Sizes):
  """The settings of a `MaskedPredictor`; the defaults are V-JEPA 2's.

  Positions and the way that linear maps start are those of the encoder.

  Attributes:
    num_mask_tokens: mask tokens to choose from.
    mask_token: one of `MASK_TOKENS`, which is chosen for a kind of mask.
    mask_token_std: in which the mask tokens start.
  """

  name: ClassVar[str] = 'masked'

  width: int = 384
  depth: int = 12
  num_heads: int = 12
  mlp_dim: int = 1536
  num_mask_tokens: int = 10
  mask_token: str = 'shared'
  mask_token_std: float = 0.0

  def __post_init__(self) -> None:
    fields.check(self, {'mask_token': MASK_TOKENS})
    if self.width % self.num_heads:
      raise ValueError(
        f'predictor.width={self.width} must be a multiple of '
        f'predictor.num_heads={self.num_heads}.'
      )

  def token_of(self, kind: int) -> int:
    """The mask token of a kind of mask."""
    return kind if self.mask_token == 'per_kind' else 0

  def build(
    self, encoder: video_vit.VideoViTConfig, features: int, dtype: Any
  ) -> 'MaskedPredictor':
    """Builds the module.

    Args:
      encoder: of the tokens that it works on.
      features: size of a predicted token.
      dtype: of the computation.

    Raises:
      ValueError: a width that the encoder's positions do not fit.
    """
    encoder.positions.check('predictor', self.width, self.num_heads)
    return MaskedPredictor(
      **self.sizes,
      features=features,
      num_mask_tokens=self.num_mask_tokens,
      mask_token_std=self.mask_token_std,
      grid=encoder.grid,
      positions=encoder.positions,
      init_style=encoder.init_style,
      dtype=dtype,
    )


class MaskedPredictor(video_vit.Transformer):
  """From the tokens of a context to those of the places it is asked about.

  A mask token stands at every place asked about; attention is full.

  Source: I-JEPA (arXiv 2301.08243), section 3; V-JEPA (arXiv 2404.08471),
  section 3.3.

  Attributes:
    features: size of a predicted token.
    num_mask_tokens: mask tokens to choose from.
    mask_token_std: in which the mask tokens start.
  """

  features: int
  num_mask_tokens: int
  mask_token_std: float = 0.0

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
  ) -> tuple[jax.Array, video_vit.Intermediates]:
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
    del train
    mask_tokens = self.param(
      'mask_tokens',
      nn.initializers.normal(self.mask_token_std),
      (self.num_mask_tokens, self.width),
      self.param_dtype,
    )
    inputs = layers.normal_dense(
      self.width, context.shape[-1], name='input', **self.dtypes
    )(context)
    num_context = context.shape[-2]
    mask_token = mask_tokens[mask_index % self.num_mask_tokens]
    asked = jnp.broadcast_to(
      mask_token.astype(self.dtype), (*target_ids.shape, self.width)
    )
    tokens = jnp.concatenate([inputs, asked], axis=-2)
    ids = jnp.concatenate([context_ids, target_ids], axis=-1)
    table = self.positions.table(self.grid, self.width, self.grid)
    if table is not None:
      tokens = tokens + table.astype(self.dtype)[ids]
    valid = None
    if context_valid is not None and target_valid is not None:
      valid = jnp.concatenate([context_valid, target_valid], axis=-1)
    tokens, outputs = self.transform(tokens, ids, valid, self.grid)
    predicted = layers.normal_dense(
      self.features, self.width, name='output', **self.dtypes
    )(tokens)
    outputs['context'] = predicted[..., :num_context, :]
    return predicted[..., num_context:, :], outputs
