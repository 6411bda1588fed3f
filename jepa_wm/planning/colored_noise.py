"""Noise that is correlated over the steps of a sequence."""

import jax
import jax.numpy as jnp
import numpy as np


def color(noise: jax.Array, beta: float) -> jax.Array:
  """Gives white noise a power spectrum `1 / frequency^beta` over the steps.

  Frequency zero gets the power of the first one, and every sequence is
  divided by its own unbiased standard deviation over the steps (whose mean is
  not removed). Up to three steps have one frequency only: white noise is then
  returned as it is.

  Args:
    noise: `[B, N, H, A]`.
    beta: exponent.

  Returns:
    `[B, N, H, A]`.

  Source: the filter of stable-worldmodel's iCEM, after Timmer and Koenig, On
    generating power law noise (1995).
  """
  horizon = noise.shape[2]
  if beta == 0.0 or horizon <= 3:
    return noise
  frequency = np.fft.rfftfreq(horizon)
  frequency[0] = frequency[1]
  spectrum = np.fft.rfft(np.eye(horizon), axis=0)
  scale = np.expand_dims(frequency ** (-beta / 2.0), 1)
  # A small matrix and not an FFT, which the partitioner would not split.
  filter_ = np.fft.irfft(scale * spectrum, n=horizon, axis=0)
  noise = jnp.einsum(
    'hk,bnka->bnha',
    jnp.asarray(filter_, noise.dtype),
    noise,
    precision=jax.lax.Precision.HIGHEST,
  )
  std = jnp.std(noise, axis=2, ddof=1, keepdims=True)
  return noise / jnp.maximum(std, 1e-8)
