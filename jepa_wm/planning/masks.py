"""One of two trees, problem by problem."""

from typing import Any

import jax
import jax.numpy as jnp


def where(mask: jax.Array, one: Any, other: Any) -> Any:
  """Leaves `[B, ...]` of one where the mask `[B]` says so, else the other's."""

  def choose(x: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.where(mask.reshape(-1, *(1,) * (x.ndim - 1)), x, y)

  return jax.tree.map(choose, one, other)
