"""Tokens in memory or on disk, as probes are trained on them.

Those on disk are mapped and read a part at a time; the same examples are drawn
either way.
"""

import itertools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

Tokens = jax.Array | np.memmap
"""float32 `[N, P, D]`."""

_BLOCK = 256  # Examples that are looked at at once.
_CHUNK_BYTES = 2**28  # Of batches that are read together.


def are_finite(array: Tokens) -> bool:
  """Whether every number is."""
  if isinstance(array, np.memmap):
    return all(np.isfinite(block).all() for block in _blocks(array))
  return bool(jnp.isfinite(array).all())


def statistics_of(values: Tokens) -> tuple[jax.Array, jax.Array]:
  """Mean and deviation over all but the last axis, which is kept."""
  axes = tuple(range(values.ndim - 1))
  if isinstance(values, np.memmap):
    mean, std = _two_passes(values, axes)
  else:
    mean = jnp.mean(values, axis=axes, keepdims=True)
    std = jnp.std(values, axis=axes, keepdims=True)
  # What never changes is left as it is: zero, once the mean is taken off.
  return mean, jnp.where(std > 1e-6 * (1 + jnp.abs(mean)), std, 1.0)


def parts(
  tokens: Tokens,
  targets: jax.Array,
  batch_key: jax.Array,
  *,
  num_steps: int,
  batch_size: int,
  num_chunks: int,
) -> Iterator[tuple[int, int, jax.Array, jax.Array]]:
  """Updates in chunks, with the examples that they draw from.

  Args:
    tokens: of all examples.
    targets: of the same.
    batch_key: of `rows_of`.
    num_steps: updates.
    batch_size: examples of an update.
    num_chunks: how many chunks; more where they would take too much memory.

  Yields:
    The first update and one past the last, and tokens and targets: all of them
    in memory; of those on disk the batches of the chunk, one after another.
  """
  on_disk = isinstance(tokens, np.memmap)
  if on_disk:
    at_once = max(1, _CHUNK_BYTES // (batch_size * tokens[0].nbytes))
    num_chunks = max(num_chunks, -(-num_steps // at_once))
  cuts = np.linspace(0, num_steps, num_chunks + 1).astype(int)
  # Chunks of one length, so that one shape is compiled; the rest is not used.
  longest = int(np.diff(cuts).max())
  for first, end in itertools.pairwise(cuts):
    if not on_disk:
      yield first, end, jnp.asarray(tokens), targets
      continue
    steps = jnp.arange(first, first + longest)
    rows = _drawn(batch_key, steps, batch_size=batch_size, count=len(tokens))
    chosen = np.asarray(rows).ravel()
    yield first, end, jnp.asarray(tokens[chosen]), targets[chosen]


def rows_of(
  batch_key: jax.Array, step: jax.Array, batch_size: int, count: int
) -> jax.Array:
  """Examples `[batch_size]` that an update draws of `count`, put back."""
  key = jax.random.fold_in(batch_key, step)
  return jax.random.randint(key, (batch_size,), 0, count)


@jax.jit(static_argnames=('batch_size', 'count'))
def _drawn(
  batch_key: jax.Array, steps: jax.Array, *, batch_size: int, count: int
) -> jax.Array:
  """What several updates draw, `[steps, batch_size]`."""
  return jax.vmap(lambda step: rows_of(batch_key, step, batch_size, count))(
    steps
  )


def _blocks(tokens: np.memmap) -> Iterator[np.ndarray]:
  for first in range(0, len(tokens), _BLOCK):
    yield np.asarray(tokens[first : first + _BLOCK])


def _two_passes(
  tokens: np.memmap, axes: tuple[int, ...]
) -> tuple[jax.Array, jax.Array]:
  """Mean and deviation `[1, 1, D]`, a block at a time."""
  count = tokens.size // tokens.shape[-1]
  total = np.zeros(tokens.shape[-1])
  for block in _blocks(tokens):
    total += block.sum(axis=axes, dtype=np.float64)
  mean, squares = total / count, np.zeros_like(total)
  for block in _blocks(tokens):
    squares += np.square(block - mean).sum(axis=axes)
  shape = (*(1 for _ in axes), -1)
  return (
    jnp.asarray(mean, jnp.float32).reshape(shape),
    jnp.asarray(np.sqrt(squares / count), jnp.float32).reshape(shape),
  )
