"""Attention, MLP, the pre-norm block and the action-modulated block."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

DenseFn = Callable[..., nn.Dense]
"""`(features, fan_in, **nn.Dense fields) -> nn.Dense`: how a map starts."""


def uniform_dense(features: int, fan_in: int, **fields: Any) -> nn.Dense:
  """A linear map whose kernel and bias start in `U(-1, 1) / sqrt(fan_in)`.

  PyTorch's default for `nn.Linear`, in which LeWM's predictor, projectors and
  action encoder start.

  Args:
    features: size of the output.
    fan_in: size of the input, which the bias cannot see for itself.
    **fields: fields of `nn.Dense`.

  Returns:
    The module, to be called within a compact `__call__`.
  """
  bound = fan_in**-0.5

  def bias_init(rng_key, shape, dtype=jnp.float32):
    return jax.random.uniform(rng_key, shape, dtype, -bound, bound)

  fields.setdefault('bias_init', bias_init)
  # 1/3 of the fan-in variance, drawn uniformly, has the bound 1/sqrt(fan_in).
  fields.setdefault(
    'kernel_init', nn.initializers.variance_scaling(1 / 3, 'fan_in', 'uniform')
  )
  return nn.Dense(features, **fields)


def normal_dense(features: int, fan_in: int, **fields: Any) -> nn.Dense:
  """A linear map whose kernel starts in `N(0, 0.02)` and whose bias at zero.

  The ViT convention.

  Args:
    features: size of the output.
    fan_in: unused, so that it can stand where `uniform_dense` stands.
    **fields: fields of `nn.Dense`.

  Returns:
    The module, to be called within a compact `__call__`.
  """
  del fan_in
  fields.setdefault('kernel_init', nn.initializers.normal(0.02))
  return nn.Dense(features, **fields)


def layer_norm(epsilon: float, **fields: Any) -> nn.LayerNorm:
  """A LayerNorm that also normalises features far smaller than one.

  The variance is computed in two passes: the fast formula's rounding drowns
  the epsilon of 1e-12 that published ViTs use.

  Args:
    epsilon: added to the variance.
    **fields: fields of `nn.LayerNorm`.

  Returns:
    The module, to be called within a compact `__call__`.
  """
  return nn.LayerNorm(epsilon=epsilon, use_fast_variance=False, **fields)


class Attention(nn.Module):
  """Multi-head self-attention over the second last axis.

  Attributes:
    num_heads: attention heads.
    head_dim: size of a head; `num_heads * head_dim` need not be the width.
    causal: whether a token sees only itself and those before it.
    qkv_bias: whether queries, keys and values have a bias.
    dropout: rate on the attention weights and on the output.
    dense_fn: how the linear maps start.
    dtype: of the computation; the softmax is in float32 in any case.
    param_dtype: of the parameters.
  """

  num_heads: int
  head_dim: int
  causal: bool = False
  qkv_bias: bool = True
  dropout: float = 0.0
  dense_fn: DenseFn = uniform_dense
  dtype: Any = jnp.float32
  param_dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, tokens: jax.Array, *, train: bool = False) -> jax.Array:
    """Mixes `tokens` `[..., T, D]` to `[..., T, D]`."""
    *lead, num_tokens, width = tokens.shape
    inner = self.num_heads * self.head_dim
    dense = functools.partial(
      self.dense_fn, dtype=self.dtype, param_dtype=self.param_dtype
    )
    drop = nn.Dropout(self.dropout, deterministic=not train)

    def project(name):
      heads = dense(inner, width, use_bias=self.qkv_bias, name=name)(tokens)
      return heads.reshape(*lead, num_tokens, self.num_heads, self.head_dim)

    value = project('value')
    # One token attends to itself with weight one whatever its query and key,
    # so these are skipped: half the work of a history of one frame.
    if num_tokens > 1 or self.is_initializing():
      query, key = project('query'), project('key')
    if num_tokens > 1:
      logits = jnp.einsum(
        '...qhd,...khd->...hqk',
        query * self.head_dim**-0.5,
        key,
        preferred_element_type=jnp.float32,
      )
      if self.causal:
        seen = jnp.tril(jnp.ones((num_tokens, num_tokens), bool))
        seen = seen.reshape((1,) * (logits.ndim - 2) + seen.shape)
        logits = jnp.where(seen, logits, -jnp.inf)
      weights = drop(jax.nn.softmax(logits, axis=-1)).astype(self.dtype)
      mixed = jnp.einsum('...hqk,...khd->...qhd', weights, value)
    else:
      weights = jnp.ones((*lead, 1, self.num_heads, 1), self.dtype)
      mixed = value * drop(weights)
    mixed = mixed.reshape(*lead, num_tokens, inner)
    return drop(dense(width, inner, name='out')(mixed))


class Mlp(nn.Module):
  """Linear, exact GELU, linear, back to the width of the input.

  Attributes:
    hidden_dim: width between the two maps.
    dropout: rate after the GELU and after the second map.
    dense_fn: how the linear maps start.
    dtype: of the computation.
    param_dtype: of the parameters.
  """

  hidden_dim: int
  dropout: float = 0.0
  dense_fn: DenseFn = uniform_dense
  dtype: Any = jnp.float32
  param_dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, tokens: jax.Array, *, train: bool = False) -> jax.Array:
    """Maps `tokens` `[..., D]` to `[..., D]`, each on its own."""
    width = tokens.shape[-1]
    dense = functools.partial(
      self.dense_fn, dtype=self.dtype, param_dtype=self.param_dtype
    )
    drop = nn.Dropout(self.dropout, deterministic=not train)
    hidden = dense(self.hidden_dim, width, name='hidden')(tokens)
    hidden = drop(nn.gelu(hidden, approximate=False))
    return drop(dense(width, self.hidden_dim, name='out')(hidden))


class Block(nn.Module):
  """Pre-norm transformer block: attention, then MLP, each added to its input.

  Attributes:
    num_heads: attention heads; they share the width evenly.
    mlp_dim: hidden width of the MLP.
    epsilon: of both LayerNorms.
    dense_fn: how the linear maps start.
    dtype: of the computation.
    param_dtype: of the parameters.
  """

  num_heads: int
  mlp_dim: int
  epsilon: float = 1e-12
  dense_fn: DenseFn = normal_dense
  dtype: Any = jnp.float32
  param_dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, tokens: jax.Array, *, train: bool = False) -> jax.Array:
    """Maps `tokens` `[..., T, D]` to `[..., T, D]`."""
    dtypes: Any = {'dtype': self.dtype, 'param_dtype': self.param_dtype}
    attention = Attention(
      num_heads=self.num_heads,
      head_dim=tokens.shape[-1] // self.num_heads,
      dense_fn=self.dense_fn,
      name='attention',
      **dtypes,
    )
    mlp = Mlp(
      hidden_dim=self.mlp_dim, dense_fn=self.dense_fn, name='mlp', **dtypes
    )
    attention_norm = layer_norm(self.epsilon, name='attention_norm', **dtypes)
    mlp_norm = layer_norm(self.epsilon, name='mlp_norm', **dtypes)
    tokens = tokens + attention(attention_norm(tokens), train=train)
    return tokens + mlp(mlp_norm(tokens), train=train)


class ModulatedBlock(nn.Module):
  """Causal block that a condition shifts, scales and gates (AdaLN-zero).

  Each half computes `x + gate * f(norm(x) * (1 + scale) + shift)`, with the
  six modulations a linear map of `silu(condition)` that starts at zero, so a
  fresh block is the identity. `f` begins with a LayerNorm of its own, as LeWM
  has it.

  Source: DiT, arXiv 2212.09748, section 3.2; LeWM.

  Attributes:
    num_heads: attention heads.
    head_dim: size of a head.
    mlp_dim: hidden width of the MLP.
    dropout: rate inside attention and MLP.
    dtype: of the computation.
    param_dtype: of the parameters.
  """

  num_heads: int
  head_dim: int
  mlp_dim: int
  dropout: float = 0.0
  dtype: Any = jnp.float32
  param_dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, tokens: jax.Array, condition: jax.Array, *, train: bool = False
  ) -> jax.Array:
    """Maps `tokens` `[..., T, D]` under `condition` `[..., T, C]`."""
    dtypes: Any = {'dtype': self.dtype, 'param_dtype': self.param_dtype}
    modulation = nn.Dense(
      6 * tokens.shape[-1],
      kernel_init=nn.initializers.zeros,
      name='modulation',
      **dtypes,
    )(nn.silu(condition))
    shifts, scales, gates = zip(
      *(jnp.split(half, 3, axis=-1) for half in jnp.split(modulation, 2, -1))
    )
    attention = Attention(
      num_heads=self.num_heads,
      head_dim=self.head_dim,
      causal=True,
      qkv_bias=False,
      dropout=self.dropout,
      name='attention',
      **dtypes,
    )
    mlp = Mlp(
      hidden_dim=self.mlp_dim, dropout=self.dropout, name='mlp', **dtypes
    )
    halves = (('attention_norm', attention), ('mlp_norm', mlp))
    for (name, layer), shift, scale, gate in zip(halves, shifts, scales, gates):
      bare = layer_norm(1e-6, use_scale=False, use_bias=False, dtype=self.dtype)
      affine = layer_norm(1e-5, name=name, **dtypes)
      modulated = bare(tokens) * (1 + scale) + shift
      tokens = tokens + gate * layer(affine(modulated), train=train)
    return tokens
