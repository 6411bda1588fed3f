"""Predictive sampling: draw around the nominal plan and take the best."""

import dataclasses

import jax
import jax.numpy as jnp

from jepa_wm.planning import gaussian
from jepa_wm.planning.gaussian import Gaussian
from jepa_wm.planning.task import Task


@dataclasses.dataclass(frozen=True, kw_only=True)
class PredictiveSampling(gaussian.GaussianSampling):
  """Draws around the nominal sequence and takes the cheapest.

  The nominal sequence is the mean, and the first candidate, so that one
  iteration makes a plan no worse. A single iteration is meant for a loop that
  plans often, each time from what is left of the plan before. Where no
  candidate has a finite cost the nominal sequence stays.

  Attributes:
    num_samples: see `sampling.Sampling`, as `num_kept` and `patience`; and
      `gaussian.GaussianSampling` of `init_std`.
    num_iterations: I; each draws around the best of the one before.

  Source: Howell et al. (arXiv 2212.00541), without its splines.
  """

  num_iterations: int = 1

  def update(
    self, task: Task, carry: Gaussian, elites: jax.Array, costs: jax.Array
  ) -> Gaussian:
    """Takes the cheapest."""
    found = jnp.isfinite(costs).reshape(-1, 1, 1)
    return carry._replace(mean=jnp.where(found, elites[:, 0], carry.mean))
