"""Model-predictive path integral control."""

import dataclasses

import jax
import jax.numpy as jnp

from jepa_wm.planning import checks, gaussian
from jepa_wm.planning.gaussian import Gaussian
from jepa_wm.planning.task import Task


@dataclasses.dataclass(frozen=True, kw_only=True)
class MPPI(gaussian.GaussianSampling):
  """Averages sequences, the cheap ones counting exponentially more.

  Each iteration draws N sequences around the mean, the first of them the mean
  itself, and moves the mean to their average under `soft_weights`. The
  standard deviation stays what it was. The plan is the last mean.

  A candidate whose cost is not finite weighs nothing; where none is finite
  the mean stays as it was.

  Attributes:
    num_samples: see `sampling.Sampling`, as `num_iterations`, `num_kept` and
      `patience`; and `gaussian.GaussianSampling` of `init_std`.
    num_elites: K, how many of the cheapest are averaged; all by default.
    temperature: in units of the cost: how much dearer than the cheapest a
      candidate is that weighs 1/e of it.

  Raises:
    ValueError: a temperature that is not positive, more elites than samples
      or fewer than two, and what `sampling.Sampling` refuses.

  Source: Williams et al., Information theoretic MPC for model-based
    reinforcement learning (2017), without its price of control; the cheapest
    K as in TD-MPC2 and stable-worldmodel.
  """

  num_elites: int | None = None
  temperature: float = 0.5

  def __post_init__(self) -> None:
    super().__post_init__()
    num_averaged = self.num_elites
    if num_averaged is None:
      num_averaged = self.num_samples
    checks.elites(num_averaged, self.num_samples, self.num_kept)
    checks.finite(temperature=self.temperature)
    if not self.temperature > 0.0:
      raise ValueError(f'temperature must be positive, got {self.temperature}.')

  @property
  def learns_from(self) -> int | None:
    """K."""
    return None if self.num_elites == self.num_samples else self.num_elites

  def update(
    self, task: Task, carry: Gaussian, elites: jax.Array, costs: jax.Array
  ) -> Gaussian:
    """Moves the mean to the elites' average."""
    weights = soft_weights(costs, self.temperature)
    weights = weights.reshape(*weights.shape, 1, 1)
    mean = jnp.sum(weights * elites, axis=1)
    learnt = jnp.any(jnp.isfinite(costs), axis=1).reshape(-1, 1, 1)
    mean = jnp.where(learnt, mean, carry.mean)
    # A mean of allowed sequences may round out of the set.
    return carry._replace(mean=task.project(mean))


def soft_weights(costs: jax.Array, temperature: float) -> jax.Array:
  """Computes `softmax(-(cost - min) / temperature)`.

  Args:
    costs: `[B, N]`; what is not finite weighs nothing.
    temperature: in the costs' units.

  Returns:
    `[B, N]`, rows that sum to one, or to zero where no cost is finite.
  """
  finite = jnp.isfinite(costs)
  low = jnp.min(costs, axis=1, where=finite, initial=jnp.inf, keepdims=True)
  # Not costs - low before the mask: inf - inf is NaN.
  above = jnp.where(finite, costs, 0.0) - jnp.where(jnp.isinf(low), 0.0, low)
  weights = jnp.where(finite, jnp.exp(-above / temperature), 0.0)
  total = jnp.sum(weights, axis=1, keepdims=True)
  return weights / jnp.where(total > 0.0, total, 1.0)
