"""Self-attention that remembers keys and values, fast for a few of them."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jepa_wm.networks import attention_kernels, layers, rotary, windows

FEW_KEYS = 4
"""Up to so many keys, attention is sums and not matrix products."""


class KeysValues(NamedTuple):
  """What attention remembers of tokens.

  Attributes:
    keys: `[..., T, num_heads * head_dim]`.
    values: `[..., T, num_heads * head_dim]`.
  """

  keys: jax.Array
  values: jax.Array


class Asked(NamedTuple):
  """Which tokens are asked for: the last of one frame of them, or the first.

  Attributes:
    number: how many.
    place: int32 `[...]`, number of the frame; the last where None.
    frame: tokens of a frame.
    is_first: whether the first of all tokens are asked for, such as a class
      token; there is no place then, and nothing may be causal.
  """

  number: int
  place: jax.Array | None = None
  frame: int = 1
  is_first: bool = False

  def of(self, tokens: jax.Array) -> jax.Array:
    """Those of tokens `[..., T * frame, *]`: `[..., number, *]`."""
    if self.is_first:
      return tokens[..., : self.number, :]
    if self.place is not None:
      tokens = windows.take(tokens, self.place, self.frame)
    return tokens[..., tokens.shape[-2] - self.number :, :]


class Attention(layers.Module):
  """Multi-head self-attention over the second last axis, softmax in float32.

  Attributes:
    num_heads: attention heads.
    head_dim: size of a head; `num_heads * head_dim` need not be the width.
    causal: whether a token sees only itself and those before it.
    qkv_bias: whether queries, keys and values have a bias.
    dropout: rate on the attention weights and on the output.
    dense_fn: how the linear maps start.
  """

  num_heads: int
  head_dim: int
  causal: bool = False
  qkv_bias: bool = True
  dropout: float = 0.0
  dense_fn: layers.DenseFn = layers.uniform_dense

  @nn.compact
  def __call__(
    self,
    tokens: jax.Array,
    *,
    past: KeysValues | None = None,
    asked: Asked | None = None,
    rotation: rotary.Rotation | None = None,
    mask: jax.Array | None = None,
    train: bool = False,
  ) -> tuple[jax.Array, KeysValues]:
    """Mixes tokens, plainly or by what `attention_kernels.use` says.

    Args:
      tokens: `[..., T, D]`.
      past: keys and values of tokens before these.
      asked: the Q tokens to mix for; all by default.
      rotation: of these tokens; past keys are turned already.
      mask: bool, broadcasts against `[..., num_heads, Q, P + T]`: which keys a
        query may see, at least one each; says also what is causal where a place
        is asked for.
      train: whether dropout is on.

    Returns:
      `[..., Q, D]`, and the keys and values of these tokens.
    """
    *lead, num_tokens, width = tokens.shape
    asked = Asked(num_tokens) if asked is None else asked
    num_queries = asked.number
    inner = self.num_heads * self.head_dim
    dense = functools.partial(self.dense_fn, **self.dtypes)
    drop = nn.Dropout(self.dropout, deterministic=not train)

    def project(name, tokens):
      return dense(inner, width, use_bias=self.qkv_bias, name=name)(tokens)

    def heads(x):
      return x.reshape(*x.shape[:-1], self.num_heads, self.head_dim)

    def turned(x, asked):
      if rotation is None:
        return x
      by = rotary.Rotation(*map(asked.of, rotation))
      return rotary.rotate(heads(x), by).reshape(x.shape)

    keys = turned(project('key', tokens), Asked(num_tokens))
    values = project('value', tokens)
    own = KeysValues(keys, values)
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
      asked = Asked(num_queries)
    if num_queries:
      query = turned(project('query', asked.of(tokens)), asked)
      query = query * self.head_dim**-0.5
      parts.append(
        attend(
          heads(query),
          heads(keys),
          heads(values),
          mask,
          drop,
          causal=self.causal and asked.place is None,
          train=train,
        )
      )
    mixed = jnp.concatenate(parts, axis=-3)
    mixed = mixed.reshape(*mixed.shape[:-2], inner)
    mixed = drop(dense(width, inner, name='out')(mixed))
    return mixed, own


def attend(
  query: jax.Array,
  keys: jax.Array,
  values: jax.Array,
  mask: jax.Array | None,
  drop: nn.Dropout,
  *,
  causal: bool = False,
  train: bool = False,
) -> jax.Array:
  """Softmax attention, by what `attention_kernels.use` says, or plainly.

  Args:
    query: `[..., Q, heads, d]`, divided by the root of `d`.
    keys: `[..., T, heads, d]`.
    values: `[..., T, heads, d]`.
    mask: bool, broadcasts against `[..., heads, Q, T]`; None where all is seen.
    drop: drops some of the weights.
    causal: whether a query sees none that come after it, those of the last `Q`
      keys being the queries' own.
    train: whether dropout is on.

  Returns:
    `[..., Q, heads, d]`.
  """
  mixed = attention_kernels.attend(
    query,
    keys,
    values,
    mask=mask,
    causal=causal,
    dropout=train and drop.rate > 0,
  )
  if mixed is not None:
    return mixed
  # The backward pass of the written-out sums would be the slow one.
  few = keys.shape[-3] <= FEW_KEYS and not train
  return _attend(query, keys, values, mask, drop, causal=causal, few=few)


def _attend(
  query: jax.Array,
  keys: jax.Array,
  values: jax.Array,
  mask: jax.Array | None,
  drop: Callable[[jax.Array], jax.Array],
  *,
  causal: bool,
  few: bool,
) -> jax.Array:
  """Softmax attention as `attention_kernels.attend` has it, plainly.

  Args:
    query: as there, as `keys`, `values`, `mask` and `causal`.
    drop: drops some of the weights.
    few: whether sums are written out.
  """
  num_queries, num_keys = query.shape[-3], keys.shape[-3]
  # Many keys come before the queries: XLA's softmax over columns takes half
  # the time of one over rows on a CPU.
  keys_axis = -1 if few else -2
  if few:
    logits = few_logits(query, keys)
  else:
    logits = jnp.einsum(
      '...qhd,...khd->...hkq', query, keys, preferred_element_type=jnp.float32
    )
  if causal:
    seen = jnp.tril(jnp.ones((num_keys, num_keys), bool))[-num_queries:]
    seen = seen if few else seen.T
    seen = seen.reshape((1,) * (logits.ndim - 2) + seen.shape)
    logits = jnp.where(seen, logits, -jnp.inf)
  if mask is not None:
    shape = (1,) * (logits.ndim - mask.ndim) + mask.shape
    seen = mask.reshape(shape)
    seen = seen if few else jnp.swapaxes(seen, -2, -1)
    logits = jnp.where(seen, logits, -jnp.inf)
  weights = drop(jax.nn.softmax(logits, axis=keys_axis)).astype(values.dtype)
  if few:
    return few_mixed(weights, values)
  return jnp.einsum('...hkq,...khd->...qhd', weights, values)


def few_logits(query: jax.Array, keys: jax.Array) -> jax.Array:
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


def few_mixed(weights: jax.Array, values: jax.Array) -> jax.Array:
  """Sums `[..., Q, heads, d]` of `values` `[..., T, heads, d]`, likewise."""
  weights = jnp.moveaxis(weights, -3, -1)
  parts = [
    jnp.expand_dims(weights[..., k, :], -1)
    * jnp.expand_dims(values[..., k, :, :], -3)
    for k in range(values.shape[-3])
  ]
  return functools.reduce(jnp.add, parts)
