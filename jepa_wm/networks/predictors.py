"""From latents and actions to the latents that follow."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jepa_wm.networks import transformer


class ActionEncoder(nn.Module):
  """Action blocks to conditions: a linear bottleneck, then a SiLU MLP.

  Source: LeWM. Its first map is published as a convolution of kernel one.

  Attributes:
    features: size of a condition.
    smoothed_dim: size of the bottleneck.
    hidden_dim: width of the MLP.
    dtype: of the computation.
    param_dtype: of the parameters.
  """

  features: int
  smoothed_dim: int
  hidden_dim: int
  dtype: Any = jnp.float32
  param_dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, actions: jax.Array) -> jax.Array:
    """Encodes `actions` `[..., A]` as `[..., features]`."""
    dense = functools.partial(
      transformer.uniform_dense, dtype=self.dtype, param_dtype=self.param_dtype
    )
    smoothed = dense(self.smoothed_dim, actions.shape[-1], name='smoothing')(
      actions
    )
    hidden = dense(self.hidden_dim, self.smoothed_dim, name='hidden')(smoothed)
    return dense(self.features, self.hidden_dim, name='out')(nn.silu(hidden))


class CausalPredictor(nn.Module):
  """A causal transformer whose every block the action modulates (AdaLN-zero).

  Token `t` sees latents and actions up to `t` and is trained to become the
  latent at `t + 1`. Positions count from the start of the window, and only the
  latents get them. Where latents or conditions are not `width` wide, one
  linear map each brings them there.

  Source: LeWM.

  Attributes:
    width: size of a token inside and of the output.
    history: longest window.
    depth: blocks.
    num_heads: attention heads.
    head_dim: size of a head.
    mlp_dim: hidden width of the MLPs.
    dropout: rate inside the blocks.
    dtype: of the computation.
    param_dtype: of the parameters.
  """

  width: int
  history: int
  depth: int
  num_heads: int
  head_dim: int
  mlp_dim: int
  dropout: float = 0.0
  dtype: Any = jnp.float32
  param_dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, latents: jax.Array, conditions: jax.Array, *, train: bool = False
  ) -> jax.Array:
    """Predicts one step on for every token of a window.

    Args:
      latents: `[..., T, D]`, `T` at most `history`.
      conditions: `[..., T, C]`, the encoded action taken at each latent.
      train: whether dropout is on.

    Returns:
      `[..., T, width]`.

    Raises:
      ValueError: the window is longer than `history`, or the two do not match.
    """
    *lead, num_tokens, latent_dim = latents.shape
    if num_tokens > self.history:
      raise ValueError(
        f'latents hold a window of {num_tokens} steps, but the predictor was '
        f'built for history={self.history}; pass the last {self.history}.'
      )
    if conditions.shape[:-1] != (*lead, num_tokens):
      raise ValueError(
        'latents and conditions must agree in all but the last axis, got '
        f'{latents.shape} and {conditions.shape}.'
      )
    dtypes: Any = {'dtype': self.dtype, 'param_dtype': self.param_dtype}
    positions = self.param(
      'positions',
      nn.initializers.normal(1.0),
      (self.history, latent_dim),
      self.param_dtype,
    )[:num_tokens]
    positions = positions.reshape((1,) * len(lead) + positions.shape)
    tokens = (latents + positions).astype(self.dtype)
    conditions = conditions.astype(self.dtype)
    if latent_dim != self.width:
      tokens = transformer.uniform_dense(
        self.width, latent_dim, name='input', **dtypes
      )(tokens)
    if conditions.shape[-1] != self.width:
      conditions = transformer.uniform_dense(
        self.width, conditions.shape[-1], name='condition', **dtypes
      )(conditions)
    for index in range(self.depth):
      tokens = transformer.ModulatedBlock(
        num_heads=self.num_heads,
        head_dim=self.head_dim,
        mlp_dim=self.mlp_dim,
        dropout=self.dropout,
        name=f'block_{index}',
        **dtypes,
      )(tokens, conditions, train=train)
    return transformer.layer_norm(1e-5, name='norm', **dtypes)(tokens)
