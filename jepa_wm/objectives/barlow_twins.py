"""Barlow Twins: two views of a batch agree dimension by dimension, only so."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from jepa_wm.objectives import terms

# Added to the variance, as by the batch normalisation of the released code:
# what keeps a dimension from dying, since a correlation knows no scale.
_EPSILON = 1e-5


@terms.TERMS.register
@dataclasses.dataclass(frozen=True)
class BarlowTwins(terms.Shaping):
  """Correlates first predictions with their targets, `barlow_twins`.

  All frames of the batch count as one; see `barlow_twins` of its scale.

  Attributes:
    weight: in the loss, R2-Dreamer's.
    redundancy: lambda, of the off-diagonal.
  """

  name: ClassVar[str] = 'barlow_twins'

  weight: float = 0.05
  redundancy: float = 0.005

  def value(self, outcome: terms.Outcome, rng_key: jax.Array) -> jax.Array:
    """See `terms.OneValue`."""
    del rng_key
    first, second = (x.reshape(-1, x.shape[-1]) for x in outcome.rolled[0])
    return barlow_twins(first, second, redundancy_weight=self.redundancy)


def barlow_twins(
  first: jax.Array, second: jax.Array, *, redundancy_weight: float = 0.005
) -> jax.Array:
  """How far the cross-correlation of two views is from the identity.

  `sum_i (1 - C_ii)^2 + lambda sum_{i != j} C_ij^2`, summed and not averaged
  over the dimensions, as published: `D` for collapsed views, 0 for views that
  agree and whose dimensions are uncorrelated.

  In a world model the views are a prediction and its target, the encoding of
  the frame predicted (so NE-Dreamer, arXiv 2603.02765; R2-Dreamer, arXiv
  2603.18202, has the model's state and the encoding of the same frame).
  Consecutive frames would be two views that an action has made different, and
  image models have none. The gradient reaches both views; the caller stops
  what must not learn.

  Latents of any scale cost the same, down to a standard deviation of about
  .01. A prediction loss that shrinks with them pulls them there; a cosine
  distance does not.

  Args:
    first: `[..., B, D]`; every leading index has its own statistics, those of
      the whole batch, also where it is sharded.
    second: the same shape.
    redundancy_weight: lambda.

  Returns:
    `[...]`, float32.

  Raises:
    ValueError: shapes that differ, no batch axis, or fewer than two samples.

  Source: Barlow Twins (arXiv 2103.03230), equation 1.
  """
  correlation = cross_correlation(first, second)
  diagonal = jnp.diagonal(correlation, axis1=-2, axis2=-1)
  identity = jnp.eye(correlation.shape[-1], dtype=bool)
  identity = jnp.expand_dims(identity, range(correlation.ndim - 2))
  others = jnp.where(identity, 0.0, correlation)
  invariance = jnp.sum(jnp.square(1 - diagonal), axis=-1)
  redundancy = jnp.sum(jnp.square(others), axis=(-2, -1))
  return invariance + redundancy_weight * redundancy


def cross_correlation(first: jax.Array, second: jax.Array) -> jax.Array:
  """Correlation of every dimension of one view with every one of the other.

  Args:
    first: `[..., B, D]`.
    second: the same shape.

  Returns:
    `[..., D, D]`, float32, in -1..1, rows for `first`; 0 where a dimension
    does not vary (1e-5 is added to its variance).

  Raises:
    ValueError: shapes that differ, no batch axis, or fewer than two samples.

  Source: Barlow Twins (arXiv 2103.03230), equation 2.
  """
  if first.shape != second.shape:
    raise ValueError(
      f'first has shape {first.shape} and second {second.shape}: give two '
      'views of the same samples.'
    )
  if first.ndim < 2 or first.shape[-2] < 2:
    raise ValueError(
      'first and second must be [..., B, D] with at least two samples B, got '
      f'shape {first.shape}.'
    )
  products = jnp.einsum(
    '...bi,...bj->...ij', _standardize(first), _standardize(second)
  )
  return products / first.shape[-2]


def _standardize(view: jax.Array) -> jax.Array:
  """Mean 0 and variance 1 over the batch, in float32."""
  view = view.astype(jnp.float32)
  view -= view.mean(-2, keepdims=True)
  variance = jnp.square(view).mean(-2, keepdims=True)
  return view * jax.lax.rsqrt(variance + _EPSILON)
