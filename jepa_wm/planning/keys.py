"""Random draws that belong to one problem, whatever batch it is in.

`jax.vmap` of a draw gives each problem the numbers it would draw alone only
for threefry keys. Keys of other kinds ('rbg', which accelerators are often
set to) draw together under `vmap`, so problems with such keys draw in turn.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def problem_keys(rng_key: jax.Array, num_problems: int) -> jax.Array:
  """Gives every problem a key of its own.

  Args:
    rng_key: one key, of which problem i gets `fold_in(rng_key, i)`, or
      `[B]` keys, which are the problems' own.
    num_problems: B.

  Returns:
    `[B]` keys.

  Raises:
    ValueError: not made by `jax.random.key`, or not one and not B of them.
  """
  dtype = getattr(rng_key, 'dtype', type(rng_key))
  if not jnp.issubdtype(dtype, jax.dtypes.prng_key):
    raise ValueError(
      'rng_key must be made by jax.random.key (or split from one), got'
      f' {dtype}: wrap an old one with jax.random.wrap_key_data.'
    )
  if rng_key.shape == ():
    repeated = jnp.broadcast_to(rng_key, (num_problems,))
    numbers = jnp.arange(num_problems, dtype=jnp.uint32)
    return per_problem(jax.random.fold_in, repeated, numbers)
  if rng_key.shape != (num_problems,):
    raise ValueError(
      f'rng_key must be one key or one for each of the {num_problems}'
      f' problems, got shape {list(rng_key.shape)}.'
    )
  return rng_key


def fold_keys(rng_keys: jax.Array, number: jax.Array | int) -> jax.Array:
  """Folds one number into the key of every problem, `[B]`."""
  return per_problem(lambda key: jax.random.fold_in(key, number), rng_keys)


def split_keys(rng_keys: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Two keys for every problem, each `[B]`."""
  pairs = per_problem(jax.random.split, rng_keys)
  return pairs[:, 0], pairs[:, 1]


def white_noise(rng_keys: jax.Array, shape: tuple[int, ...]) -> jax.Array:
  """Draws standard normals `[B, *shape]` float32, each from its own key."""
  return draw(jax.random.normal, rng_keys, shape)


def gumbel_noise(rng_keys: jax.Array, shape: tuple[int, ...]) -> jax.Array:
  """Draws standard Gumbel numbers, otherwise as `white_noise`."""
  return draw(jax.random.gumbel, rng_keys, shape)


def draw(
  draw_fn: Callable[..., jax.Array], rng_keys: jax.Array, shape: tuple[int, ...]
) -> jax.Array:
  """Draws `[B, *shape]` float32 by `draw_fn(rng_key, shape, dtype)`."""

  def draw_flat(rng_key: jax.Array) -> jax.Array:
    # The same numbers in one row: XLA compiles that three times as fast.
    flat = draw_fn(rng_key, (math.prod(shape),), jnp.float32)
    return flat.reshape(shape)

  return per_problem(draw_flat, rng_keys)


def per_problem(
  function: Callable[..., jax.Array], rng_keys: jax.Array, *rest: Any
) -> jax.Array:
  """`function(key, *rest)` for each of `[B]`, as if each were alone."""
  if str(jax.random.key_impl(rng_keys)) == 'threefry2x32':
    return jax.vmap(function)(rng_keys, *rest)
  mapped: jax.Array = jax.lax.map(
    lambda arguments: function(*arguments), (rng_keys, *rest)
  )
  return mapped
