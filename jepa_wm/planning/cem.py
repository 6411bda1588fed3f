"""The cross-entropy method over action sequences."""

import dataclasses

import jax
import jax.numpy as jnp

from jepa_wm.planning import checks, gaussian
from jepa_wm.planning.gaussian import Gaussian
from jepa_wm.planning.task import Task


@dataclasses.dataclass(frozen=True, kw_only=True)
class CEM(gaussian.GaussianSampling):
  """Draws sequences, keeps the cheapest, and draws near them.

  Each iteration draws N sequences from a Gaussian with a mean and a standard
  deviation for every step and action dimension, the first of them the mean
  itself, and fits the Gaussian to the K cheapest (standard deviation
  unbiased: divided by K - 1). The plan is the last mean, not the cheapest
  sequence seen. Where fewer than two candidates have a finite cost the
  distribution stays as it was.

  Attributes:
    num_samples: see `sampling.Sampling`, as `num_iterations`, `num_kept` and
      `patience`; and `gaussian.GaussianSampling` of `init_std`.
    num_elites: K, how many of the cheapest are learnt from; by default a
      tenth of `num_samples`, and not fewer than are kept or than two.
    min_std: the standard deviation does not shrink below it.
    mean_momentum: share of the old mean in the new one, 0..1.
    std_momentum: share of the old standard deviation in the new one, 0..1.

  Raises:
    ValueError: more elites than samples or fewer than two, momentum outside
      0..1, and what `sampling.Sampling` refuses.

  Source: de Boer et al., A tutorial on the cross-entropy method (2005), with
    the conventions and defaults of LeWM's planner (stable-worldmodel).
  """

  num_elites: int | None = None
  min_std: float = 0.0
  mean_momentum: float = 0.0
  std_momentum: float = 0.0

  def __post_init__(self) -> None:
    super().__post_init__()
    if self.num_elites is None:
      number = checks.tenth(self.num_samples, self.num_kept)
      object.__setattr__(self, 'num_elites', number)
    checks.elites(self.learns_from, self.num_samples, self.num_kept)
    checks.momentum(self.mean_momentum, self.std_momentum)
    checks.not_negative(min_std=self.min_std)

  @property
  def learns_from(self) -> int:
    """K."""
    assert self.num_elites is not None
    return self.num_elites

  def update(
    self, task: Task, carry: Gaussian, elites: jax.Array, costs: jax.Array
  ) -> Gaussian:
    """Fits the distribution to the elites."""
    mean, std = gaussian.fit(*carry, elites, costs)
    mean = self.mean_momentum * carry.mean + (1.0 - self.mean_momentum) * mean
    std = self.std_momentum * carry.std + (1.0 - self.std_momentum) * std
    # A mean of allowed sequences may round out of the set.
    return Gaussian(task.project(mean), jnp.maximum(std, self.min_std))
