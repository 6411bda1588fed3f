"""Distances that keep the triangle inequality, whatever is learnt."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jepa_wm.networks import layers, mlp


def residual_distance(here: jax.Array, there: jax.Array) -> jax.Array:
  """How far it is from `here` to `there`, a quasimetric.

  The norm of the difference of the first halves, the same both ways, plus the
  largest amount by which a number of the second halves is more here than there.
  It is 0 from a point to itself, never negative, and never more than by way of
  a third point; the way back may be longer.

  Args:
    here: `[..., 2 K]`.
    there: the same; leading dims broadcast.

  Returns:
    `[...]`.

  Source: MRN (arXiv 2208.08133), with the norm in place of its square, which
    breaks the inequality (arXiv 2211.15120).
  """
  one, other = (jnp.split(x, 2, axis=-1) for x in (here, there))
  square = jnp.sum(jnp.square(one[0] - other[0]), axis=-1)
  # The root's gradient is infinite at 0.
  apart = square > 0.0
  both_ways = jnp.where(apart, jnp.sqrt(jnp.where(apart, square, 1.0)), 0.0)
  one_way = jnp.max(jax.nn.relu(one[1] - other[1]), axis=-1)
  return both_ways + one_way


class Quasimetric(layers.Module):
  """An MLP puts points where `residual_distance` is how far they are.

  Attributes:
    features: size of where they are put, even.
    width: see `mlp.MLP`, as `depth`.
    depth: hidden layers.
  """

  features: int = 64
  width: int = 256
  depth: int = 2

  @nn.compact
  def __call__(self, here: jax.Array, there: jax.Array) -> jax.Array:
    """Says float32 `[...]` of points `[..., X]`; leading dims broadcast."""
    place = mlp.MLP(
      self.features, self.width, self.depth, name='place', **self.dtypes
    )
    return residual_distance(place(here), place(there))
