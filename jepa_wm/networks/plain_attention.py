"""Softmax attention by matrix products, and by sums over a handful of keys."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

FEW_KEYS = 4
"""Up to so many keys, attention is sums and not matrix products."""


def attend(
  query: jax.Array,
  keys: jax.Array,
  values: jax.Array,
  mask: jax.Array | None = None,
  *,
  kept: jax.Array | None = None,
  causal: bool = False,
  train: bool = False,
) -> jax.Array:
  """Mixes values by the softmax, in float32, of products with keys.

  Args:
    query: `[..., Q, heads, d]`, divided by the root of `d`.
    keys: `[..., T, heads, d]`.
    values: `[..., T, heads, d]`.
    mask: bool, broadcasts against `[..., heads, Q, T]`; None where all is seen.
    kept: what weights are multiplied by, `[..., heads, Q, T]`: dropout.
    causal: whether a query sees none that come after it, those of the last `Q`
      keys being the queries' own.
    train: whether gradients are wanted, in reverse mode alone.

  Returns:
    `[..., Q, heads, d]`.
  """
  num_queries, num_keys = query.shape[-3], keys.shape[-3]
  if mask is not None:
    mask = mask.reshape((1,) * (query.ndim - mask.ndim) + mask.shape)
  if causal:
    seen = jnp.tril(jnp.ones((num_keys, num_keys), bool))[-num_queries:]
    seen = seen.reshape((1,) * (query.ndim - 2) + seen.shape)
    mask = seen if mask is None else mask & seen
  if train:
    mixed: jax.Array = _trained(query, keys, values, mask, kept)
    return mixed
  # The backward pass of the written-out sums would be the slow one.
  if num_keys <= FEW_KEYS and kept is None:
    weights = _weights(few_logits(query, keys), mask)
    return few_mixed(weights.astype(values.dtype), values)
  return _forward(query, keys, values, mask, kept)[0]


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


def _weights(logits: jax.Array, mask: jax.Array | None) -> jax.Array:
  if mask is not None:
    logits = jnp.where(mask, logits, -jnp.inf)
  return jax.nn.softmax(logits)


def _forward(
  query: jax.Array,
  keys: jax.Array,
  values: jax.Array,
  mask: jax.Array | None,
  kept: jax.Array | None,
) -> tuple[jax.Array, Any]:
  """What is mixed, and what the backward pass needs.

  Heads come first: each is a matrix of its own, and a CPU multiplies those that
  lie together twice as fast as those between which other heads lie.
  """
  query, keys, values = (jnp.swapaxes(x, -3, -2) for x in (query, keys, values))
  logits = jnp.einsum(
    '...qd,...kd->...qk', query, keys, preferred_element_type=jnp.float32
  )
  weights = _weights(logits, mask)
  used = weights if kept is None else weights * kept
  mixed = jnp.einsum('...qk,...kd->...qd', used.astype(values.dtype), values)
  return jnp.swapaxes(mixed, -3, -2), (
    query,
    keys,
    values,
    kept,
    weights,
    mixed,
  )


@jax.custom_vjp
def _trained(
  query: jax.Array,
  keys: jax.Array,
  values: jax.Array,
  mask: jax.Array | None,
  kept: jax.Array | None,
) -> jax.Array:
  return _forward(query, keys, values, mask, kept)[0]


def _backward(residuals: Any, cotangent: jax.Array) -> tuple[Any, ...]:
  """Gradients of queries, keys and values.

  The sum over keys that a softmax's gradient takes is one over channels of what
  was mixed, which is shorter (FlashAttention, arXiv 2205.14135, appendix B.2).
  """
  query, keys, values, kept, weights, mixed = residuals
  cotangent = jnp.swapaxes(cotangent, -3, -2)
  used = weights if kept is None else weights * kept
  of_values = jnp.einsum(
    '...qk,...qd->...kd', used.astype(values.dtype), cotangent
  )
  of_weights = jnp.einsum(
    '...qd,...kd->...qk', cotangent, values, preferred_element_type=jnp.float32
  )
  if kept is not None:
    of_weights = of_weights * kept
  products = cotangent.astype(jnp.float32) * mixed.astype(jnp.float32)
  mean = jnp.sum(products, axis=-1, keepdims=True)
  of_logits = (weights * (of_weights - mean)).astype(query.dtype)
  of_query = jnp.einsum('...qk,...kd->...qd', of_logits, keys)
  of_keys = jnp.einsum('...qk,...qd->...kd', of_logits, query)
  found = of_query, of_keys, of_values
  return *(jnp.swapaxes(x, -3, -2) for x in found), None, None


_trained.defvjp(_forward, _backward)
