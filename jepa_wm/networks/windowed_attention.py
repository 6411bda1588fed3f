"""Attention to the last few tokens, near or apart, at a cost linear in time."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm.networks import layers, rotary

_LEAST_BLOCK = 16  # Tokens that are worth a product of matrices of their own.


class Memory(NamedTuple):
  """What a layer remembers of the last `R` tokens, oldest first.

  Attributes:
    keys: `[..., R, num_heads * head_dim]`, not turned.
    values: `[..., R, num_heads * head_dim]`.
    filled: int32 `[...]`, how many there are, the last ones.
  """

  keys: jax.Array
  values: jax.Array
  filled: jax.Array


class WindowedAttention(layers.Module):
  """Softmax attention of tokens to `window` tokens, their own the last.

  These are `dilation` apart, so that a few keys span a longer past. Positions
  are rotary, of differences alone: keys turn when they are looked at, by how
  long ago they were, which is as exact after a million tokens as after ten.

  Source: Kairos (arXiv 2606.16533), whose tokens of one phase of the dilation
  attend to one another, which is the same.

  Attributes:
    num_heads: attention heads.
    head_dim: size of a head, at least 6.
    window: tokens that one sees.
    dilation: tokens from one to the next of them.
  """

  num_heads: int
  head_dim: int
  window: int
  dilation: int = 1

  @property
  def reach(self) -> int:
    """Tokens `R` from the oldest that is seen to the one that sees it."""
    return (self.window - 1) * self.dilation

  @nn.nowrap
  def empty(self, lead: Sequence[int]) -> Memory:
    """The memory of nothing, for tokens with these leading dims."""
    shape = *lead, self.reach, self.num_heads * self.head_dim
    none = jnp.zeros(shape, self.dtype)
    return Memory(none, none, jnp.zeros(lead, jnp.int32))

  @nn.compact
  def __call__(
    self, tokens: jax.Array, memory: Memory | None = None
  ) -> tuple[jax.Array, Memory]:
    """Mixes tokens with those in their windows.

    Args:
      tokens: `[..., T, D]`.
      memory: of the tokens before these; None where there are none.

    Returns:
      `[..., T, D]`, and the memory after these.
    """
    *lead, number, width = tokens.shape
    inner, reach = self.num_heads * self.head_dim, self.reach
    dense: layers.DenseFn = functools.partial(
      layers.uniform_dense, use_bias=False, **self.dtypes
    )
    projected = dense(3 * inner, width, name='projections')(tokens)
    queries, keys, values = jnp.split(projected, 3, axis=-1)
    if memory is None:
      memory = self.empty(lead)
    keys = jnp.concatenate([memory.keys, keys], axis=-2)
    values = jnp.concatenate([memory.values, values], axis=-2)
    mixed = self._attend(queries, keys, values, memory.filled)
    after = Memory(
      keys[..., number:, :],
      values[..., number:, :],
      jnp.minimum(memory.filled + number, reach),
    )
    return dense(width, inner, name='out')(mixed), after

  def _attend(
    self,
    queries: jax.Array,
    keys: jax.Array,
    values: jax.Array,
    filled: jax.Array,
  ) -> jax.Array:
    """Mixes block by block: a block looks at itself and `R` tokens before it.

    Args:
      queries: `[..., T, num_heads * head_dim]`.
      keys: `[..., R + T, num_heads * head_dim]`, as are `values`.
      filled: int32 `[...]`, how many of the first R there are.
    """
    number, reach = queries.shape[-2], self.reach
    block = min(number, max(reach, _LEAST_BLOCK))
    queries = _cut(queries, block, 0)
    keys, values = (_cut(x, block, reach) for x in (keys, values))
    split = lambda x: x.reshape(*x.shape[:-1], self.num_heads, self.head_dim)
    queries, keys, values = map(split, (queries, keys, values))
    queries = _turned(queries, reach) * self.head_dim**-0.5
    logits = jnp.einsum(
      '...qhd,...khd->...hqk',
      queries,
      _turned(keys, 0),
      preferred_element_type=jnp.float32,
    )
    ago = reach + np.arange(block)[:, None] - np.arange(reach + block)
    is_near = (ago >= 0) & (ago <= reach) & (ago % self.dilation == 0)
    # Of the first block alone can keys be missing: those before all tokens.
    first = np.arange(logits.shape[-4])[:, None] * block
    place = first + np.arange(reach + block)
    lead = (1,) * filled.ndim
    is_there = place.reshape(*lead, *place.shape) >= (
      reach - filled[..., None, None]
    )
    is_seen = is_there[..., None, None, :] & is_near.reshape(
      *lead, 1, 1, *is_near.shape
    )
    weights = jax.nn.softmax(jnp.where(is_seen, logits, -jnp.inf), axis=-1)
    mixed = jnp.einsum(
      '...hqk,...khd->...qhd', weights.astype(values.dtype), values
    )
    mixed = mixed.reshape(*mixed.shape[:-4], -1, self.num_heads * self.head_dim)
    return mixed[..., :number, :]


def _cut(tokens: jax.Array, block: int, reach: int) -> jax.Array:
  """Tokens `[..., reach + T, *]` as blocks `[..., N, reach + block, *]`.

  Each begins with the last `reach` tokens of those before it; zeros fill up.
  """
  *lead, number, size = tokens.shape
  count = -(-(number - reach) // block)
  more = reach + count * block - number
  tokens = jnp.pad(tokens, [(0, 0)] * len(lead) + [(0, more), (0, 0)])
  own = tokens[..., reach:, :].reshape(*lead, count, block, size)
  if not reach:
    return own
  if count == 1:
    before = tokens[..., None, :reach, :]
  else:
    before = tokens[..., : count * block, :].reshape(own.shape)[..., :reach, :]
  return jnp.concatenate([before, own], axis=-2)


def _turned(heads: jax.Array, first: int) -> jax.Array:
  """Heads `[..., T, num_heads, head_dim]` turned by `first + t`."""
  number, _, size = heads.shape[-3:]
  times = np.zeros((number, 3))
  times[:, 0] = first + np.arange(number)
  by = rotary.rotation(jnp.asarray(times), head_dim=size, style='interleaved')
  return rotary.rotate(heads, by)
