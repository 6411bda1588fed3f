"""Attention, MLP, the pre-norm block and the action-modulated block."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jepa_wm.networks import rotary

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


def depth_scaled_dense(index: int) -> DenseFn:
  """How linear maps of block `index` start whose depth scales its outputs.

  As `normal_dense`, the maps that end in the residual stream divided by the
  root of twice the number of blocks up to here.

  Args:
    index: of the block, from 0.

  Returns:
    Takes what `normal_dense` takes.

  Source: BEiT (arXiv 2106.08254), section 2.5; V-JEPA 2's released code.
  """

  def dense(features: int, fan_in: int, **fields: Any) -> nn.Dense:
    if fields.get('name') == 'out':
      std = 0.02 / (2 * (index + 1)) ** 0.5
      fields['kernel_init'] = nn.initializers.normal(std)
    return normal_dense(features, fan_in, **fields)

  return dense


def gelu(x: jax.Array) -> jax.Array:
  """Exact GELU by erf, as PyTorch has it; `nn.gelu` takes the slower erfc."""
  return 0.5 * x * (1.0 + jax.lax.erf(x * 0.5**0.5))


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


_FEW_KEYS = 4
"""Up to so many keys, attention is sums and not matrix products."""


class KeysValues(NamedTuple):
  """What attention remembers of tokens.

  Attributes:
    keys: `[..., T, num_heads * head_dim]`.
    values: `[..., T, num_heads * head_dim]`.
  """

  keys: jax.Array
  values: jax.Array


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
  def __call__(
    self,
    tokens: jax.Array,
    *,
    past: KeysValues | None = None,
    num_queries: int | None = None,
    rotation: rotary.Rotation | None = None,
    mask: jax.Array | None = None,
    train: bool = False,
  ) -> tuple[jax.Array, KeysValues]:
    """Mixes tokens.

    Args:
      tokens: `[..., T, D]`.
      past: keys and values of tokens before these.
      num_queries: Q, how many of the last tokens to mix for; all by default.
      rotation: of these tokens; past keys are turned already.
      mask: bool, broadcasts against `[..., num_heads, Q, P + T]`: which keys a
        query may see, at least one each.
      train: whether dropout is on.

    Returns:
      `[..., Q, D]`, and the keys and values of all tokens, past ones first.
    """
    *lead, num_tokens, width = tokens.shape
    num_queries = num_tokens if num_queries is None else num_queries
    inner = self.num_heads * self.head_dim
    dense = functools.partial(
      self.dense_fn, dtype=self.dtype, param_dtype=self.param_dtype
    )
    drop = nn.Dropout(self.dropout, deterministic=not train)

    def project(name, tokens):
      return dense(inner, width, use_bias=self.qkv_bias, name=name)(tokens)

    def heads(x):
      return x.reshape(*x.shape[:-1], self.num_heads, self.head_dim)

    def turned(x, count):
      if rotation is None:
        return x
      return rotary.rotate(heads(x), rotation.last(count)).reshape(x.shape)

    keys = turned(project('key', tokens), num_tokens)
    values = project('value', tokens)
    if past is not None:
      keys = jnp.concatenate([past.keys, keys], axis=-2)
      values = jnp.concatenate([past.values, values], axis=-2)
    num_keys = keys.shape[-2]
    # A token that sees itself alone has weight one whatever its query and key;
    # the compiler drops the keys where nobody wants them.
    alone = num_keys == 1 or (
      self.causal and num_queries == num_keys and not train and mask is None
    )
    parts = []
    if alone and not self.is_initializing():
      weights = jnp.ones((*lead, 1, self.num_heads, 1), self.dtype)
      parts.append(heads(values[..., :1, :]) * drop(weights))
      num_queries -= 1
    if num_queries:
      asking = tokens[..., num_tokens - num_queries :, :]
      query = turned(project('query', asking), num_queries)
      query = query * self.head_dim**-0.5
      # The backward pass of the written-out sums would be the slow one.
      few = num_keys <= _FEW_KEYS and not train
      # Many keys come before the queries: XLA's softmax over columns takes half
      # the time of one over rows on a CPU.
      keys_axis = -1 if few else -2
      if few:
        logits = _few_logits(heads(query), heads(keys))
      else:
        logits = jnp.einsum(
          '...qhd,...khd->...hkq',
          heads(query),
          heads(keys),
          preferred_element_type=jnp.float32,
        )
      if self.causal:
        seen = jnp.tril(jnp.ones((num_keys, num_keys), bool))[-num_queries:]
        seen = seen if few else seen.T
        seen = seen.reshape((1,) * (logits.ndim - 2) + seen.shape)
        logits = jnp.where(seen, logits, -jnp.inf)
      if mask is not None:
        shape = (1,) * (logits.ndim - mask.ndim) + mask.shape
        seen = mask.reshape(shape)
        seen = seen if few else jnp.swapaxes(seen, -2, -1)
        logits = jnp.where(seen, logits, -jnp.inf)
      weights = drop(jax.nn.softmax(logits, axis=keys_axis)).astype(self.dtype)
      if few:
        parts.append(_few_mixed(weights, heads(values)))
      else:
        parts.append(
          jnp.einsum('...hkq,...khd->...qhd', weights, heads(values))
        )
    mixed = jnp.concatenate(parts, axis=-3)
    mixed = mixed.reshape(*mixed.shape[:-2], inner)
    mixed = drop(dense(width, inner, name='out')(mixed))
    return mixed, KeysValues(keys, values)


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
    hidden = drop(gelu(hidden))
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
  def __call__(
    self,
    tokens: jax.Array,
    *,
    rotation: rotary.Rotation | None = None,
    mask: jax.Array | None = None,
    train: bool = False,
  ) -> jax.Array:
    """Maps `tokens` `[..., T, D]` to `[..., T, D]`; see `Attention`."""
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
    mixed, _ = attention(
      attention_norm(tokens), rotation=rotation, mask=mask, train=train
    )
    tokens = tokens + mixed
    return tokens + mlp(mlp_norm(tokens), train=train)


class BlockCache(NamedTuple):
  """What a modulated block remembers.

  Attributes:
    modulations: `[..., M, 6 * D]`, a linear map of the condition alone.
    past: keys and values `[..., P, *]`, valid where the tokens keep their
      positions; P may be less than M.
  """

  modulations: jax.Array
  past: KeysValues


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
    self,
    tokens: jax.Array,
    condition: jax.Array,
    *,
    cache: BlockCache | None = None,
    num_queries: int | None = None,
    train: bool = False,
  ) -> tuple[jax.Array, BlockCache]:
    """Maps tokens under their conditions.

    Args:
      tokens: `[..., T, D]`, those that come after the P remembered ones.
      condition: `[..., P + T - M, C]`, those that come after the M whose
        modulations are remembered.
      cache: what is remembered; nothing by default.
      num_queries: Q, how many of the last tokens to answer for; all by
        default. The others are only looked at.
      train: whether dropout is on.

    Returns:
      `[..., Q, D]`, and the cache of all `P + T` tokens.
    """
    dtypes: Any = {'dtype': self.dtype, 'param_dtype': self.param_dtype}
    modulations = nn.Dense(
      6 * tokens.shape[-1],
      kernel_init=nn.initializers.zeros,
      name='modulation',
      **dtypes,
    )(nn.silu(condition))
    past = None
    if cache is not None:
      modulations = jnp.concatenate([cache.modulations, modulations], axis=-2)
      past = cache.past
    num_tokens = tokens.shape[-2]
    num_queries = num_tokens if num_queries is None else num_queries
    modulation = modulations[..., modulations.shape[-2] - num_tokens :, :]
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

    def modulate(name, tokens, shift, scale):
      bare = layer_norm(1e-6, use_scale=False, use_bias=False, dtype=self.dtype)
      affine = layer_norm(1e-5, name=name, **dtypes)
      return affine(bare(tokens) * (1 + scale) + shift)

    def last(x):
      return x[..., num_tokens - num_queries :, :]

    mixed, past = attention(
      modulate('attention_norm', tokens, shifts[0], scales[0]),
      past=past,
      num_queries=num_queries,
      train=train,
    )
    tokens = last(tokens) + last(gates[0]) * mixed
    tokens = tokens + last(gates[1]) * mlp(
      modulate('mlp_norm', tokens, last(shifts[1]), last(scales[1])),
      train=train,
    )
    return tokens, BlockCache(modulations, past)


def _few_logits(query: jax.Array, keys: jax.Array) -> jax.Array:
  """Products `[..., heads, Q, T]` of `[..., Q, heads, d]` and `[..., T, ...]`.

  As a matrix product, a handful of keys is too large a batch of too small
  matrices; as a sum over an axis, XLA merges it into the products before and
  after it, which are then slow (CPU, jax 0.10). So the sum is written out,
  halving what is left.
  """
  query, keys = query.astype(jnp.float32), keys.astype(jnp.float32)
  products = jnp.expand_dims(query, -3) * jnp.expand_dims(keys, -4)
  while (size := products.shape[-1]) > 1:
    half = size // 2
    rest = products[..., 2 * half :]
    products = products[..., :half] + products[..., half : 2 * half]
    products = jnp.concatenate([products, rest], axis=-1)
  return jnp.moveaxis(products[..., 0], -1, -3)


def _few_mixed(weights: jax.Array, values: jax.Array) -> jax.Array:
  """Sums `[..., Q, heads, d]` of `values` `[..., T, heads, d]`, likewise."""
  weights = jnp.moveaxis(weights, -3, -1)
  parts = [
    jnp.expand_dims(weights[..., k, :], -1)
    * jnp.expand_dims(values[..., k, :, :], -3)
    for k in range(values.shape[-3])
  ]
  return functools.reduce(jnp.add, parts)
