"""DINO-WM's predictor: the action beside every token of a frame."""

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from jepa_wm.networks import (
  block_causal,
  frames,
  layers,
  predictors,
  transformer,
  windows,
)


@predictors.PREDICTORS.register
@dataclasses.dataclass(frozen=True)
class ConcatenatedConfig(predictors.TransformerConfig):
  """The settings of a `ConcatenationPredictor`; the defaults are DINO-WM's.

  Attributes:
    width: of the tokens inside; 0, as published, for that of token and
      conditions together.
    condition_features: size of the embedding of an action.
    causal: whether a frame sees none that come after it; where it does, as in
      the paper's ablation, training shows it what it predicts, and a window is
      computed anew for every step of a rollout.
  """

  name: ClassVar[str] = 'concatenated'
  may_be_zero: ClassVar[tuple[str, ...]] = ('width',)

  width: int = 0
  depth: int = 6
  mlp_dim: int = 2048
  condition_features: int = 10
  causal: bool = True

  def build(
    self, grid: tuple[int, int], dtype: Any, *, state_dim: int = 0
  ) -> nn.Module:
    """See `predictors.PredictorConfig`."""
    del state_dim  # Embedded in every token.
    core = ConcatenationPredictor(**vars(self), dtype=dtype)
    return frames.FramePredictor(core, num_tokens=grid[0] * grid[1])


class ConcatenationPredictor(transformer.Heads):
  """Frames of tokens to the next ones, the action beside every token.

  Every condition (the action, say) is embedded by a linear map and its
  embedding is concatenated to every token of its frame. With `width` zero that
  is the width of the transformer, as published, and what comes out beside the
  next tokens is dropped; otherwise one linear map leads in and one out.
  Positions are learned, one per place in the window.

  Source: DINO-WM, arXiv 2411.04983, section 3.2 and appendix.

  Its fields are those of `ConcatenatedConfig`; the input drops out too.
  """

  history: int
  depth: int
  condition_features: int = 10
  width: int = 0
  causal: bool = True

  @nn.compact
  def __call__(
    self,
    frames: jax.Array,
    conditions: Sequence[jax.Array],
    *,
    look: windows.Look | None = None,
    train: bool = False,
  ) -> tuple[jax.Array, block_causal.Past | None]:
    """See `block_causal.TokenPredictor`; the grid may be any."""
    dtypes = self.dtypes
    block_causal.check_window(frames, conditions, self.history)
    *_, num_frames, size, features = frames.shape
    parts = [frames.astype(self.dtype)]
    for index, condition in enumerate(conditions):
      embedded = layers.uniform_dense(
        self.condition_features,
        condition.shape[-1],
        name=f'condition_{index}',
        **dtypes,
      )(condition.astype(self.dtype))
      shape = (*parts[0].shape[:-1], self.condition_features)
      parts.append(jnp.broadcast_to(jnp.expand_dims(embedded, -2), shape))
    tokens = jnp.concatenate(parts, axis=-1)
    inner = tokens.shape[-1]
    if self.width:
      tokens = layers.uniform_dense(self.width, inner, name='input', **dtypes)(
        tokens
      )
      inner = self.width
    positions = self.param(
      'positions',
      nn.initializers.normal(1.0),
      (self.history, size, inner),
      self.param_dtype,
    )
    first = block_causal.count_past(look, size)
    positions = positions[first : first + num_frames].astype(self.dtype)
    lead = (1,) * (tokens.ndim - positions.ndim)
    tokens = tokens + positions.reshape(*lead, *positions.shape)
    tokens = nn.Dropout(self.dropout, deterministic=not train)(tokens)
    past: block_causal.Past | None
    tokens, past = block_causal.run_blocks(
      self,
      tokens,
      look,
      num_last=size,
      causal=self.causal,
      epsilon=1e-5,
      qkv_bias=False,
      dense_fn=layers.uniform_dense,
      dropout=self.dropout,
      train=train,
    )
    if not self.causal:
      # Frames that are still to come will change what these saw.
      past = None
    tokens = layers.layer_norm(1e-5, name='norm', **dtypes)(tokens)
    if self.width:
      tokens = layers.uniform_dense(
        features, self.width, name='output', **dtypes
      )(tokens)
    return tokens[..., :features], past
