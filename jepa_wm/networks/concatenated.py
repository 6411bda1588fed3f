"""DINO-WM's predictor: the action beside every token of a frame."""

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from jepa_wm import fields
from jepa_wm.networks import block_causal, frames, layers, predictors


@predictors.PREDICTORS.register
@dataclasses.dataclass(frozen=True)
class ConcatenatedConfig:
  """The settings of a `ConcatenationPredictor`; the defaults are DINO-WM's.

  Attributes:
    history: longest window, frames.
    width: of the tokens inside; 0, as published, for that of token and
      conditions together.
    depth: blocks.
    num_heads: attention heads.
    head_dim: size of a head.
    mlp_dim: hidden width of the MLPs.
    condition_features: size of the embedding of an action.
    dropout: rate on the input and inside the blocks.
  """

  name: ClassVar[str] = 'concatenated'

  history: int = 3
  width: int = 0
  depth: int = 6
  num_heads: int = 16
  head_dim: int = 64
  mlp_dim: int = 2048
  condition_features: int = 10
  dropout: float = 0.1

  def __post_init__(self) -> None:
    """Checks every field.

    Raises:
      ValueError: a field out of its range; the message names it.
    """
    fields.check(self, may_be_zero=('width',))
    if self.dropout >= 1:
      raise ValueError(f'dropout must be below 1, got {self.dropout!r}.')

  def build(
    self, grid: tuple[int, int], dtype: Any, *, state_dim: int = 0
  ) -> nn.Module:
    """See `predictors.PredictorConfig`."""
    del state_dim  # Embedded in every token.
    core = ConcatenationPredictor(
      **{x.name: getattr(self, x.name) for x in dataclasses.fields(self)},
      dtype=dtype,
    )
    return frames.FramePredictor(core, num_tokens=grid[0] * grid[1])


class ConcatenationPredictor(nn.Module):
  """Frames of tokens to the next ones, the action beside every token.

  Every condition (the action, say) is embedded by a linear map and its
  embedding is concatenated to every token of its frame. With `width` zero that
  is the width of the transformer, as published, and what comes out beside the
  next tokens is dropped; otherwise one linear map leads in and one out.
  Positions are learned, one per place in the window.

  Source: DINO-WM, arXiv 2411.04983, section 3.2 and appendix.

  Attributes:
    history: longest window, frames.
    depth: blocks.
    num_heads: attention heads.
    head_dim: size of a head.
    mlp_dim: hidden width of the MLPs.
    condition_features: size of the embedding of a condition.
    width: of the tokens inside, 0 for that of token and conditions.
    dropout: rate on the input and inside the blocks.
    dtype: of the computation.
    param_dtype: of the parameters.
  """

  history: int
  depth: int
  num_heads: int
  head_dim: int
  mlp_dim: int
  condition_features: int = 10
  width: int = 0
  dropout: float = 0.0
  dtype: Any = jnp.float32
  param_dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self,
    frames: jax.Array,
    conditions: Sequence[jax.Array],
    *,
    past: block_causal.Past | None = None,
    last_only: bool = False,
    train: bool = False,
  ) -> tuple[jax.Array, block_causal.Past]:
    """Predicts for every frame the one after it.

    Args:
      frames: `[..., T, P, D]`, `T` at most `history`.
      conditions: each `[..., T, C]`.
      past: of the first F frames of this very window.
      last_only: whether only the frame after the window is asked for.
      train: whether dropout is on.

    Returns:
      `[..., T - F, P, D]`, or `[..., 1, P, D]`, and the past of all frames.

    Raises:
      ValueError: the window is longer than `history`, or the conditions are
        not as many as the frames.
    """
    block_causal.check_window(frames, conditions, self.history)
    dtypes: Any = {'dtype': self.dtype, 'param_dtype': self.param_dtype}
    *_, num_frames, size, features = frames.shape
    num_past = block_causal.count_past(past, size)
    parts = [frames[..., num_past:, :, :].astype(self.dtype)]
    for index, condition in enumerate(conditions):
      embedded = layers.uniform_dense(
        self.condition_features,
        condition.shape[-1],
        name=f'condition_{index}',
        **dtypes,
      )(condition[..., num_past:, :].astype(self.dtype))
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
    )[num_past:num_frames].astype(self.dtype)
    lead = (1,) * (tokens.ndim - positions.ndim)
    tokens = tokens + positions.reshape(*lead, *positions.shape)
    tokens = nn.Dropout(self.dropout, deterministic=not train)(tokens)
    tokens, past = block_causal.run_blocks(
      self,
      tokens,
      past,
      num_last=size if last_only else None,
      epsilon=1e-5,
      qkv_bias=False,
      dropout=self.dropout,
      train=train,
    )
    tokens = layers.layer_norm(1e-5, name='norm', **dtypes)(tokens)
    if self.width:
      tokens = layers.uniform_dense(
        features, self.width, name='output', **dtypes
      )(tokens)
    return tokens[..., :features], past
