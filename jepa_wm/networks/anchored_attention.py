"""Causal attention of a few tokens, at the price of one token less."""

import math
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import export

from jepa_wm.networks import attention, layers, plain_attention


class Anchored(NamedTuple):
  """What is remembered of a window's first token, and of those after it.

  Attributes:
    first: `[..., F, D]`, the token itself; F is 1, or 0 where it is older.
    carried: `[..., F, D]`, what it gives to every token, its own included.
    keys: `[..., T, num_heads * head_dim]`, of T others, less the first's.
    values: `[..., T, num_heads * head_dim]`, alike.
  """

  first: jax.Array
  carried: jax.Array
  keys: jax.Array
  values: jax.Array

  @property
  def num_tokens(self) -> int:
    """All of them."""
    return self.first.shape[-2] + self.keys.shape[-2]


class AnchoredAttention(layers.Module):
  """Computes `attention.Attention`, causal and without biases, out of training.

  The weights of a query add up to one, and stay as they are when all of its
  logits move alike. So keys and values may be those of `x_j - x_0`, the first
  token's then zero:

    out(sum_j w_j value(x_j)) = out(value(x_0))
      + out(sum_{j > 0} w_j value(x_j - x_0))

  The first part is one small matrix, the product of two maps, that a compiler
  takes out of the loops of a planner. T tokens take `4 (T - 1)` wide maps in
  place of `4 T`, and one token none. Results agree to rounding.

  Its variables are those of `attention.Attention`, which starts and trains
  them.

  Attributes:
    num_heads: attention heads.
    head_dim: size of a head.
  """

  num_heads: int
  head_dim: int

  @nn.compact
  def __call__(
    self,
    tokens: jax.Array,
    *,
    past: Anchored | None = None,
    asked: attention.Asked | None = None,
    mask: jax.Array | None = None,
  ) -> tuple[jax.Array, Anchored]:
    """Mixes tokens.

    Args:
      tokens: `[..., T, D]`, the first of all among them unless there is a past.
      past: of tokens before these.
      asked: the Q tokens to mix for; all by default.
      mask: bool, broadcasts against `[..., num_heads, Q, T]`; which of the
        tokens a query may see, the first always. Said where a place is asked
        for; by default what is causal.

    Returns:
      `[..., Q, D]`, and what is to be remembered of these tokens.
    """
    *lead, num_tokens, width = tokens.shape
    inner = self.num_heads * self.head_dim
    query, key, value = (
      nn.Dense(inner, use_bias=False, name=name, **self.dtypes)
      for name in ('query', 'key', 'value')
    )
    out = nn.Dense(width, name='out', **self.dtypes)

    def heads(x):
      return x.reshape(*x.shape[:-1], self.num_heads, self.head_dim)

    def weights(dense, name):
      return jnp.asarray(dense.variables['params'][name], self.dtype)

    def carry(first):
      kernels = weights(value, 'kernel'), weights(out, 'kernel')
      # Of a few, outside of loops, the product would cost more than it saves.
      is_known = not any(map(export.is_symbolic_dim, lead))
      if is_known and 4 * math.prod(lead) < width:
        return first @ kernels[0] @ kernels[1]
      return first @ (kernels[0] @ kernels[1])

    if past is not None and not past.num_tokens:
      past = None
    if past is None:
      first, rest = tokens[..., :1, :], tokens[..., 1:, :]
      carried = carry(first)
      own = Anchored(first, carried, key(rest - first), value(rest - first))
      keys, values = own.keys, own.values
    else:
      none, changes = tokens[..., :0, :], tokens - past.first
      own = Anchored(none, none, key(changes), value(changes))
      carried = past.carried
      keys = jnp.concatenate([past.keys, own.keys], axis=-2)
      values = jnp.concatenate([past.values, own.values], axis=-2)

    asking = tokens if asked is None else asked.of(tokens)
    parts = []
    all_asked = mask is None and asking.shape[-2] == num_tokens
    if past is None and (all_asked or num_tokens == 1):
      # The first sees itself alone.
      bias = weights(out, 'bias').reshape((1,) * len(lead) + (1, width))
      parts.append(carried + bias)
      asking = asking[..., 1:, :]
    if not asking.shape[-2]:
      return parts[0], own
    mixed = _mix(
      heads(query(asking) * self.head_dim**-0.5),
      heads(keys),
      heads(values),
      mask,
    )
    mixed = carried + out(mixed.reshape(*mixed.shape[:-2], inner))
    return jnp.concatenate([*parts, mixed], axis=-2), own


def _mix(
  query: jax.Array, keys: jax.Array, values: jax.Array, mask: jax.Array | None
) -> jax.Array:
  """Attention to T tokens and to one before them, whose key and value are zero.

  Args:
    query: `[..., Q, heads, d]`, divided by the root of `d`.
    keys: `[..., T, heads, d]`.
    values: `[..., T, heads, d]`.
    mask: bool, broadcasts against `[..., heads, Q, 1 + T]`; by default the
      queries are those of the last Q tokens, which see none after them.

  Returns:
    `[..., Q, heads, d]`.
  """
  num_queries, num_keys = query.shape[-3], keys.shape[-3]
  if mask is None and num_queries > 1:
    mask = jnp.tril(jnp.ones((num_keys, num_keys), bool))[-num_queries:]
    mask = jnp.pad(mask, ((0, 0), (1, 0)), constant_values=True)
  few = num_keys < plain_attention.FEW_KEYS
  if few:
    logits = plain_attention.few_logits(query, keys)
  else:
    logits = jnp.einsum(
      '...qhd,...khd->...hqk', query, keys, preferred_element_type=jnp.float32
    )
  logits = jnp.pad(logits, ((0, 0),) * (logits.ndim - 1) + ((1, 0),))
  if mask is not None:
    mask = mask.reshape((1,) * (logits.ndim - mask.ndim) + mask.shape)
    logits = jnp.where(mask, logits, -jnp.inf)
  weights = jax.nn.softmax(logits, axis=-1)
  weights = weights[..., 1:].astype(values.dtype)
  if few:
    return plain_attention.few_mixed(weights, values)
  return jnp.einsum('...hqk,...khd->...qhd', weights, values)
