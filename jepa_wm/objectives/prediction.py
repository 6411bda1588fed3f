"""How far a prediction is from its target."""

import jax
import jax.numpy as jnp


def squared_error(prediction: jax.Array, target: jax.Array) -> jax.Array:
  """Squared difference, element by element, in float32; the caller averages.

  The gradient reaches both arguments: a target that must not learn is stopped
  by the caller (LeWM's learns).

  Args:
    prediction: `[...]`.
    target: `[...]`, the same shape.

  Returns:
    `[...]`.

  Raises:
    ValueError: the shapes differ; nothing is broadcast.
  """
  if prediction.shape != target.shape:
    raise ValueError(
      f'prediction has shape {prediction.shape} and target {target.shape}: '
      'give both the same shape.'
    )
  difference = prediction.astype(jnp.float32) - target.astype(jnp.float32)
  return jnp.square(difference)
