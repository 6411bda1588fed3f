"""How much of a latent space is used: telemetry that shows collapse early."""

import jax
import jax.numpy as jnp


def latent_std(latents: jax.Array) -> jax.Array:
  """Standard deviation of every latent dimension (biased).

  Args:
    latents: `[M, D]`, one row per frame.

  Returns:
    `[D]`; about 1 everywhere under SIGReg, 0 where a dimension is dead.

  Raises:
    ValueError: `latents` is not `[M, D]` with at least two rows.
  """
  _check(latents)
  return jnp.std(latents.astype(jnp.float32), axis=0)


def effective_rank(latents: jax.Array) -> jax.Array:
  """Number of directions in which `latents` really vary.

  The exponential of the entropy of the covariance's normalised eigenvalues
  (effective rank of Roy and Vetterli, 2007, with eigenvalues of the covariance
  as the weights): `D` for white latents, 1 on a line, 0 where nothing varies.

  Args:
    latents: `[M, D]`, one row per frame. With `M` not much larger than `D`, the
      value is bounded by `M - 1` and underestimates.

  Returns:
    Scalar in `[0, D]`.

  Raises:
    ValueError: `latents` is not `[M, D]` with at least two rows.
  """
  _check(latents)
  centred = latents.astype(jnp.float32)
  centred = centred - jnp.mean(centred, axis=0, keepdims=True)
  covariance = centred.T @ centred / centred.shape[0]
  eigenvalues = jnp.maximum(jnp.linalg.eigvalsh(covariance), 0.0)
  total = jnp.sum(eigenvalues)
  # Rounding leaves a constant of size c about (1e-7 c)^2 of variance per
  # dimension, which must not pass for a full-rank latent space.
  floor = latents.shape[1] * (1e-6 * jnp.max(jnp.abs(latents))) ** 2
  weights = eigenvalues / jnp.maximum(total, jnp.finfo(jnp.float32).tiny)
  entropy = -jnp.sum(jax.scipy.special.xlogy(weights, weights))
  return jnp.where(total > floor, jnp.exp(entropy), 0.0)


def telemetry(latents: jax.Array) -> dict[str, jax.Array]:
  """The scalars worth a line in a training log.

  Args:
    latents: `[M, D]`, one row per frame.

  Returns:
    `latent_std_mean`, `latent_std_min` and `effective_rank`, all scalars.

  Raises:
    ValueError: `latents` is not `[M, D]` with at least two rows.
  """
  std = latent_std(latents)
  return {
    'latent_std_mean': jnp.mean(std),
    'latent_std_min': jnp.min(std),
    'effective_rank': effective_rank(latents),
  }


def _check(latents: jax.Array) -> None:
  if latents.ndim != 2 or latents.shape[0] < 2:
    raise ValueError(
      'latents must be [M, D] with at least two rows, got shape '
      f'{tuple(latents.shape)}; flatten batch and time first.'
    )
