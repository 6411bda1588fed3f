"""Guardrails of a plan: what a head says of blocks, and what came of it."""

from collections.abc import Callable

import jax
import jax.numpy as jnp


def of_block(
  price_fn: Callable[[jax.Array], jax.Array],
  before: jax.Array,
  after: jax.Array,
  num_checks: int,
) -> jax.Array:
  """The highest price on the way of a block, `[...]`.

  Args:
    price_fn: latents `[..., D]` to prices `[...]`.
    before: `[..., D]`, where the block began.
    after: `[..., D]`, where it led.
    num_checks: places that are looked at, evenly spaced on the straight line
      between the two; the last is `after`.
  """
  shares = jnp.arange(1, num_checks + 1) / num_checks
  shares = shares.reshape(-1, *(1,) * after.ndim)
  before, after = (jnp.expand_dims(x, 0) for x in (before, after))
  between = before + shares * (after - before)
  return jnp.max(price_fn(between), axis=0)
