"""How far a prediction is from its target; the caller averages.

The gradient reaches both arguments: a target that must not learn is stopped by
the caller (LeWM's learns).
"""

import jax
import jax.numpy as jnp

# Shortest vector that has a direction (the epsilon of PyTorch's cosine).
_EPSILON = 1e-8


def squared_error(prediction: jax.Array, target: jax.Array) -> jax.Array:
  """Squared difference, element by element, in float32.

  Args:
    prediction: `[...]`.
    target: `[...]`, the same shape.

  Returns:
    `[...]`.

  Raises:
    ValueError: the shapes differ; nothing is broadcast.
  """
  return jnp.square(_difference(prediction, target))


def absolute_error(prediction: jax.Array, target: jax.Array) -> jax.Array:
  """Absolute difference, element by element, in float32.

  Where the two are equal the gradient is 0.

  Args:
    prediction: `[...]`.
    target: `[...]`, the same shape.

  Returns:
    `[...]`.

  Raises:
    ValueError: the shapes differ; nothing is broadcast.

  Source: V-JEPA (arXiv 2404.08471), equation 1.
  """
  difference = _difference(prediction, target)
  # The slope of `jnp.abs` at 0 would be 1.
  return difference * jnp.sign(difference)


def smooth_absolute_error(
  prediction: jax.Array, target: jax.Array, *, beta: float = 1.0
) -> jax.Array:
  """Absolute difference with a rounded tip, element by element, in float32.

  `d^2 / (2 beta)` where `|d|` is below `beta`, `|d| - beta / 2` beyond.

  Args:
    prediction: `[...]`.
    target: `[...]`, the same shape.
    beta: where the parabola meets the line.

  Returns:
    `[...]`.

  Raises:
    ValueError: the shapes differ (nothing is broadcast), or `beta` is not
      positive.

  Source: Fast R-CNN (arXiv 1504.08083), equation 3, for `beta` 1.
  """
  if not beta > 0:
    raise ValueError(f'beta must be positive, got {beta}.')
  distance = jnp.abs(_difference(prediction, target))
  below = jnp.minimum(distance, beta)
  return below * (distance - below / 2) / beta


def cosine_distance(prediction: jax.Array, target: jax.Array) -> jax.Array:
  """One minus the cosine of the angle between two vectors, in float32.

  A vector shorter than 1e-8 has no direction: its cosine is 0, and it sends
  back no gradient.

  Args:
    prediction: `[..., D]`.
    target: `[..., D]`, the same shape.

  Returns:
    `[...]`, in 0..2: one number a vector.

  Raises:
    ValueError: the shapes differ (nothing is broadcast), or are scalars.
  """
  _check_shapes(prediction, target)
  if not prediction.shape:
    raise ValueError('prediction and target must be [..., D], got scalars.')
  return 1 - jnp.sum(_direction(prediction) * _direction(target), axis=-1)


DISTANCES = {
  'squared': squared_error,
  'l1': absolute_error,
  'smooth_l1': smooth_absolute_error,
  'cosine': cosine_distance,
}
"""The distances by the names that configs have for them."""


def _check_shapes(prediction: jax.Array, target: jax.Array) -> None:
  if prediction.shape != target.shape:
    raise ValueError(
      f'prediction has shape {prediction.shape} and target {target.shape}: '
      'give both the same shape.'
    )


def _difference(prediction: jax.Array, target: jax.Array) -> jax.Array:
  _check_shapes(prediction, target)
  return prediction.astype(jnp.float32) - target.astype(jnp.float32)


def _direction(vector: jax.Array) -> jax.Array:
  """`vector` `[..., D]` at length 1, or 0 where it has no direction."""
  vector = vector.astype(jnp.float32)
  squared_length = jnp.sum(jnp.square(vector), axis=-1, keepdims=True)
  points = squared_length > _EPSILON**2
  # The square root's slope is infinite at 0: it must not see one.
  length = jnp.sqrt(jnp.where(points, squared_length, 1.0))
  return jnp.where(points, vector / length, 0.0)
