"""Predictive sampling: draw around the nominal plan and take the best."""

import dataclasses

import jax
import jax.numpy as jnp

from jepa_wm.planning import sampling
from jepa_wm.planning.gaussian import Gaussian
from jepa_wm.planning.task import Answer, Start, Task


@dataclasses.dataclass(frozen=True, kw_only=True)
class PredictiveSampling(sampling.Sampling[Gaussian]):
  """Draws around the nominal sequence and takes the cheapest.

  The nominal sequence is the first candidate, so that one iteration makes a
  plan no worse. A single iteration is meant for a loop that plans often, each
  time from what is left of the plan before. Where no candidate has a finite
  cost the nominal sequence stays.

  Attributes:
    num_samples: see `sampling.Sampling`, as `num_kept` and `patience`.
    num_iterations: I; each draws around the best of the one before.
    init_std: standard deviation of the draws, a number, `[A]`, `[H, A]` or
      `[B, H, A]`.

  Source: Howell et al. (arXiv 2212.00541), without its splines.
  """

  num_iterations: int = 1
  init_std: jax.Array | float = 1.0

  def init(self, task: Task, start: Start) -> Gaussian:
    """The first nominal sequence."""
    return Gaussian(start.mean, task.first_std(self.init_std))

  def propose(self, task: Task, carry: Gaussian, noise: jax.Array) -> jax.Array:
    """The nominal sequence, and draws around it."""
    return sampling.draw(*carry, noise)

  def update(
    self, task: Task, carry: Gaussian, elites: jax.Array, costs: jax.Array
  ) -> Gaussian:
    """Takes the cheapest."""
    found = jnp.isfinite(costs).reshape(-1, 1, 1)
    return carry._replace(mean=jnp.where(found, elites[:, 0], carry.mean))

  def answer(self, task: Task, carry: Gaussian) -> Answer:
    """The nominal sequence."""
    return carry.answer
