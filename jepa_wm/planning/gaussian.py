"""Distributions that candidates are drawn from: a mean and a deviation."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jepa_wm.planning import sampling
from jepa_wm.planning.task import Answer, Start, Task


class Gaussian(NamedTuple):
  """A normal distribution for every step and action dimension, `[B, H, A]`."""

  mean: jax.Array
  std: jax.Array

  @property
  def answer(self) -> Answer:
    """The mean as the plan."""
    return Answer(self.mean, self.mean, self.std)


@dataclasses.dataclass(frozen=True, kw_only=True)
class GaussianSampling(sampling.Sampling[Gaussian]):
  """A planner that draws from a Gaussian, and whose plan is the last mean.

  Attributes:
    init_std: first standard deviation, a number, `[A]`, `[H, A]` or
      `[B, H, A]`.
  """

  init_std: jax.Array | float = 1.0

  def init(self, task: Task, start: Start) -> Gaussian:
    """The distribution of the first iteration."""
    return Gaussian(start.mean, task.first_std(self.init_std))

  def propose(self, task: Task, carry: Gaussian, noise: jax.Array) -> jax.Array:
    """The mean, and draws around it."""
    return sampling.draw(*carry, noise)

  def answer(self, task: Task, carry: Gaussian) -> Answer:
    """The mean."""
    return carry.answer


def fit(
  mean: jax.Array, std: jax.Array, elites: jax.Array, elite_costs: jax.Array
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
