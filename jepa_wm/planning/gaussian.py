"""Distributions that candidates are drawn from: a mean and a deviation."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jepa_wm.planning.task import Answer


class Gaussian(NamedTuple):
  """A normal distribution for every step and action dimension, `[B, H, A]`."""

  mean: jax.Array
  std: jax.Array

  @property
  def answer(self) -> Answer:
    """The mean as the plan."""
    return Answer(self.mean, self.mean, self.std)


def fit(
  mean: jax.Array,
  std: jax.Array,
  elites: jax.Array,
  elite_costs: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  """Fits the Gaussian to the elites of finite cost.

  Args:
    mean: `[B, H, A]`, kept for problems without two such elites.
    std: `[B, H, A]`, likewise.
    elites: `[B, K, H, A]`.
    elite_costs: `[B, K]`.

  Returns:
    mean `[B, H, A]` and unbiased standard deviation `[B, H, A]`.
  """
  weights = jnp.isfinite(elite_costs).astype(elites.dtype)
  number = jnp.sum(weights, axis=1).reshape(-1, 1, 1)
  weights = weights.reshape(*weights.shape, 1, 1)
  elite_mean = jnp.sum(weights * elites, axis=1) / jnp.maximum(number, 1.0)
  squares = weights * (elites - jnp.expand_dims(elite_mean, 1)) ** 2
  variance = jnp.sum(squares, axis=1) / jnp.maximum(number - 1.0, 1.0)
  learnt = number >= 2.0
  mean = jnp.where(learnt, elite_mean, mean)
  return mean, jnp.where(learnt, jnp.sqrt(variance), std)
