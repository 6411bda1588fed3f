"""Self-attention that remembers keys and values, fast for a few of them."""

import functools
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jepa_wm.networks import (
  attention_kernels,
  layers,
  plain_attention,
  rotary,
  windows,
)


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
    query: see `plain_attention.attend`, as all that is not here.
    keys: likewise.
    values: likewise.
    mask: likewise.
    drop: drops some of the weights.
    causal: likewise.
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
  kept = None
  if train and drop.rate > 0:
    *lead, num_queries, num_heads, _ = query.shape
    # Drawn key by key: those are the numbers of all runs there have been.
    kept = drop(jnp.ones((*lead, num_heads, keys.shape[-3], num_queries)))
    kept = jnp.swapaxes(kept, -2, -1)
  return plain_attention.attend(
    query, keys, values, mask, kept=kept, causal=causal, train=train
  )
