"""Linear attention that forgets and corrects: Gated DeltaNet.

A head remembers by one matrix `S` `[V, K]` that maps keys to values. A token
first lets it decay, then moves what it holds for its key towards its value:

  `S' = exp(g) S;  S = S' + beta (v - S' k) k^T;  o = S q`.

Token by token that is `recurrent`; `chunked` gives the same, many tokens at
once by products of matrices.

Source: Gated Delta Networks, arXiv 2412.06464.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm.networks import layers

# What is summed up over thousands of steps is float32 on every device.
_einsum = functools.partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)


class Given(NamedTuple):
  """What tokens bring to the rule, float32.

  Attributes:
    queries: `[..., T, num_heads, K]`.
    keys: `[..., T, num_heads, K]`, of length 1 or 0.
    values: `[..., T, num_heads, V]`.
    decays: `[..., T, num_heads]`, `g`, logarithms of what is kept, at most 0.
    rates: `[..., T, num_heads]`, `beta`, 0 to 1.
  """

  queries: jax.Array
  keys: jax.Array
  values: jax.Array
  decays: jax.Array
  rates: jax.Array


# Up to this size powers are a handful, and numbers in them small.
_LEAST_INVERSE = 4

_TIME = (-3, -3, -3, -2, -2)  # The axes of time in `Given`.


class Memory(NamedTuple):
  """What a layer remembers of all tokens so far, of one size.

  Attributes:
    matrices: float32 `[..., num_heads, V, K]`.
    recent: `[..., kernel_size - 1, 3 * num_heads * head_dim]`, what the
      convolutions look back on.
  """

  matrices: jax.Array
  recent: jax.Array


def recurrent(given: Given, matrices: jax.Array) -> tuple[jax.Array, jax.Array]:
  """The rule token by token.

  Args:
    given: of T tokens.
    matrices: `[..., num_heads, V, K]`, before them.

  Returns:
    Outputs `[..., T, num_heads, V]` and the matrices after them.
  """

  def step(matrices: jax.Array, token: Given) -> tuple[jax.Array, jax.Array]:
    queries, keys, values, decays, rates = token
    matrices = jnp.exp(decays)[..., None, None] * matrices
    error = values - _einsum('...vk,...k->...v', matrices, keys)
    write = rates[..., None] * error
    matrices = matrices + write[..., :, None] * keys[..., None, :]
    return matrices, _einsum('...vk,...k->...v', matrices, queries)

  number = given.rates.shape[-2]
  if number == 1:
    token = Given(*map(jnp.squeeze, given, _TIME))
    matrices, output = step(matrices, token)
    return jnp.expand_dims(output, -3), matrices
  tokens = Given(*(jnp.moveaxis(x, a, 0) for x, a in zip(given, _TIME)))
  matrices, outputs = jax.lax.scan(step, matrices, tokens)
  return jnp.moveaxis(outputs, 0, -3), matrices


def chunked(
  given: Given, matrices: jax.Array, *, chunk: int
) -> tuple[jax.Array, jax.Array]:
  """The rule, `chunk` tokens at once.

  What the tokens of a chunk write is the solution of one triangular system (the
  WY form of a product of reflections), linear in the matrix before it; only the
  matrices go from chunk to chunk.

  Args:
    given: of T tokens.
    matrices: `[..., num_heads, V, K]`, before them.
    chunk: tokens of a chunk; T need not be a multiple of it.

  Returns:
    As `recurrent`.
  """
  number, size = given.rates.shape[-2], given.values.shape[-1]
  queries, keys, values, decays, rates = _chunks(given, min(chunk, number))
  kept = jnp.cumsum(decays, axis=-1)  # Since the chunk began, its logarithm.
  whole = kept[..., -1:]
  between = jnp.exp(jnp.tril(kept[..., :, None] - kept[..., None, :]))
  alike = _einsum('...ik,...jk->...ij', keys, keys)
  system = jnp.tril(rates[..., None] * between * alike, -1)
  since = jnp.exp(kept)[..., None]
  right = jnp.concatenate([values, since * keys], -1) * rates[..., None]
  solved = _einsum('...ij,...jx->...ix', _inverse(system), right)
  mixing = jnp.tril(_einsum('...ik,...jk->...ij', queries, keys) * between)
  parts = (
    solved[..., :size],
    solved[..., size:],
    since * queries,
    mixing,
    jnp.exp(whole - kept)[..., None] * keys,
    jnp.exp(whole)[..., None],
  )

  def step(
    matrices: jax.Array, parts: tuple[jax.Array, ...]
  ) -> tuple[jax.Array, jax.Array]:
    fresh, stale, queries, mixing, keys, left = parts
    writes = fresh - _einsum('...ck,...vk->...cv', stale, matrices)
    outputs = _einsum('...ck,...vk->...cv', queries, matrices)
    outputs = outputs + _einsum('...ij,...jv->...iv', mixing, writes)
    matrices = left * matrices + _einsum('...cv,...ck->...vk', writes, keys)
    return matrices, outputs

  matrices, outputs = jax.lax.scan(step, matrices, parts)
  # [N, ..., heads, C, V] to [..., T, heads, V].
  outputs = jnp.moveaxis(jnp.moveaxis(outputs, 0, -4), -3, -2)
  outputs = outputs.reshape(*outputs.shape[:-4], -1, *outputs.shape[-2:])
  return outputs[..., :number, :, :], matrices


@jax.custom_jvp
def _inverse(system: jax.Array) -> jax.Array:
  """The inverse of the identity plus `[..., C, C]`, strictly lower triangular.

  Blocks on the diagonal are inverted, then pairs of them at once: products of
  matrices alone, whose numbers stay small. Those of the powers of the whole
  system would cancel where keys repeat.
  """
  size, length = system.shape[-1], _LEAST_INVERSE
  eye = jnp.eye(size).reshape(*[1] * (system.ndim - 2), size, size)
  part = _masked(system, _is_within(size, length))
  found = _product(eye - part, eye + _product(part, part))
  while length < size:
    within = _is_within(size, 2 * length) & ~_is_within(size, length)
    below = _masked(system, within)
    found = found - _product(_product(found, below), found)
    length *= 2
  return found


@_inverse.defjvp
def _inverse_slope(
  primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
  """That of an inverse: far less to compile than that of its products."""
  found = _inverse(*primals)
  return found, -_product(_product(found, *tangents), found)


def _product(left: jax.Array, right: jax.Array) -> jax.Array:
  """Of matrices `[..., C, C]`."""
  return _einsum('...ij,...jk->...ik', left, right)


def _is_within(size: int, length: int) -> np.ndarray:
  """Where two of `size` numbers are in one run of `length`: `[size, size]`."""
  run = np.arange(size) // length
  return run[:, None] == run


def _masked(matrices: jax.Array, mask: np.ndarray) -> jax.Array:
  """Matrices `[..., C, C]` where `mask` is, 0 elsewhere."""
  lead = [1] * (matrices.ndim - 2)
  return jnp.where(mask.reshape(*lead, *mask.shape), matrices, 0.0)


def _chunks(given: Given, size: int) -> Given:
  """Leaves `[N, ..., num_heads, C, *]`; tokens after the last do nothing."""

  def split(x: jax.Array, axis: int) -> jax.Array:
    axis %= x.ndim
    more = -x.shape[axis] % size
    x = jnp.pad(x, [(0, more if i == axis else 0) for i in range(x.ndim)])
    x = x.reshape(*x.shape[:axis], -1, size, *x.shape[axis + 1 :])
    return jnp.moveaxis(jnp.moveaxis(x, axis, 0), axis + 1, axis + 2)

  return Given(*map(split, given, _TIME))


class GatedDeltaNet(layers.Module):
  """A layer of heads that follow the rule, in training and step by step.

  Queries, keys and values go through short causal convolutions and a SiLU;
  queries and keys then have length 1. What comes out is normalised head by head
  and gated. `exp(g)` starts evenly spread over heads, between 0.9 and 0.999 a
  step (the published draw leaves some layers without a slow head).

  Source: arXiv 2412.06464, section 3.4, and its released code.

  Attributes:
    num_heads: of the rule.
    head_dim: size of keys and of values, `K` and `V`.
    kernel_size: tokens that a convolution sees, its own among them.
    chunk: tokens at once, where there are several.
  """

  num_heads: int
  head_dim: int
  kernel_size: int = 4
  chunk: int = 32

  @nn.nowrap
  def empty(self, lead: Sequence[int]) -> Memory:
    """The memory of nothing, for tokens with these leading dims."""
    heads, size = self.num_heads, self.head_dim
    return Memory(
      jnp.zeros((*lead, heads, size, size), jnp.float32),
      jnp.zeros((*lead, self.kernel_size - 1, 3 * heads * size), self.dtype),
    )

  @nn.compact
  def __call__(
    self, tokens: jax.Array, memory: Memory | None = None
  ) -> tuple[jax.Array, Memory]:
    """Mixes tokens with all those before them.

    Args:
      tokens: `[..., T, D]`.
      memory: of the tokens before these; None where there are none.

    Returns:
      `[..., T, D]`, and the memory after these.
    """
    *lead, number, width = tokens.shape
    heads, size = self.num_heads, self.head_dim
    dense: layers.DenseFn = functools.partial(
      layers.uniform_dense, **self.dtypes
    )
    if memory is None:
      memory = self.empty(lead)
    given, recent = self._given(tokens, memory.recent)
    if number == 1:
      outputs, matrices = recurrent(given, memory.matrices)
    else:
      outputs, matrices = chunked(given, memory.matrices, chunk=self.chunk)
    norm = nn.RMSNorm(epsilon=1e-6, name='norm', **self.dtypes)
    gate = dense(heads * size, width, use_bias=False, name='gate')(tokens)
    outputs = norm(outputs).reshape(gate.shape) * nn.silu(gate)
    outputs = dense(width, heads * size, use_bias=False, name='out')(outputs)
    return outputs, Memory(matrices, recent)

  def _given(
    self, tokens: jax.Array, recent: jax.Array
  ) -> tuple[Given, jax.Array]:
    """What tokens bring, and what the next convolution looks back on."""
    width, inner = tokens.shape[-1], self.num_heads * self.head_dim
    dense: layers.DenseFn = functools.partial(
      layers.uniform_dense, **self.dtypes
    )
    projected = dense(3 * inner, width, use_bias=False, name='projections')(
      tokens
    )
    convolved, recent = self._convolve(projected, recent)

    def split(x: jax.Array) -> jax.Array:
      x = x.reshape(*x.shape[:-1], self.num_heads, self.head_dim)
      return x.astype(jnp.float32)

    queries, keys, values = map(split, jnp.split(convolved, 3, axis=-1))
    per_head = lambda name, **how: dense(
      self.num_heads, width, name=name, **how
    )(tokens).astype(jnp.float32)
    rates = nn.sigmoid(per_head('rate', use_bias=False))
    log_scale = self.param(
      'log_scale', nn.initializers.zeros, (self.num_heads,), self.param_dtype
    )  # A_log
    bias = self.param(
      'step_bias',
      lambda _: jnp.asarray(step_bias(self.num_heads), self.param_dtype),
    )  # dt_bias
    lead = (1,) * (tokens.ndim - 1)
    scale, bias = (
      x.astype(jnp.float32).reshape(*lead, -1) for x in (log_scale, bias)
    )
    moves = per_head('step', use_bias=False)
    decays = -jnp.exp(scale) * nn.softplus(moves + bias)
    given = Given(_direction(queries), _direction(keys), values, decays, rates)
    return given, recent

  def _convolve(
    self, tokens: jax.Array, recent: jax.Array
  ) -> tuple[jax.Array, jax.Array]:
    """Channel by channel over time, causal; and the newest inputs."""
    number, channels = tokens.shape[-2:]
    kernel = self.param(
      'convolution',
      nn.initializers.variance_scaling(
        1 / 3, 'fan_in', 'uniform', in_axis=0, out_axis=1
      ),
      (self.kernel_size, channels),
      self.param_dtype,
    ).astype(self.dtype)
    seen = jnp.concatenate([recent.astype(tokens.dtype), tokens], axis=-2)
    lead = (1,) * (tokens.ndim - 1)
    summed = sum(
      kernel[i].reshape(*lead, channels) * seen[..., i : i + number, :]
      for i in range(self.kernel_size)
    )
    return nn.silu(summed), seen[..., number:, :]


def step_bias(num_heads: int) -> np.ndarray:
  """The `dt_bias` `[num_heads]` that layers start with.

  Where tokens say nothing, steps are then from 0.001 to 0.1, as published, but
  evenly spread over heads.
  """
  steps: np.ndarray = np.geomspace(1e-3, 1e-1, num_heads)
  inverse: np.ndarray = np.log(np.expm1(steps))  # Of the softplus.
  return inverse


def _direction(vectors: jax.Array) -> jax.Array:
  """Vectors `[..., K]` at length 1."""
  squares = jnp.sum(jnp.square(vectors), axis=-1, keepdims=True)
  return vectors * jax.lax.rsqrt(squares + 1e-6)
