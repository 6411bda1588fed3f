"""Random shooting: the floor under every planner that learns."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jepa_wm.planning import sampling
from jepa_wm.planning.task import Answer, Start, Task


class Shot(NamedTuple):
  """The cheapest sequence so far, and what sequences are drawn from."""

  best: jax.Array  # [B, H, A]
  cost: jax.Array  # [B]
  mean: jax.Array  # [B, H, A]
  std: jax.Array  # [B, H, A]


@dataclasses.dataclass(frozen=True, kw_only=True)
class RandomShooting(sampling.Sampling[Shot]):
  """Draws N times I sequences and takes the cheapest of all.

  Nothing is learnt between iterations: all draw from the first distribution,
  a Gaussian, and rounds only keep the memory that of N candidates. Where no
  candidate has a finite cost the plan is the first mean. A plan's `mean` and
  `std` are those that the search was given.

  Attributes:
    num_samples: see `sampling.Sampling`, as `num_iterations`, `num_kept` and
      `patience`.
    init_std: standard deviation of the draws, a number, `[A]`, `[H, A]` or
      `[B, H, A]`.

  Source: Nagabandi et al. (arXiv 1708.02596), section IV.
  """

  init_std: jax.Array | float = 1.0

  def init(self, task: Task, start: Start) -> Shot:
    """The first mean, until something is cheaper."""
    mean, std = start.mean, task.first_std(self.init_std)
    return Shot(mean, jnp.full(task.shape[:1], jnp.inf, jnp.float32), mean, std)

  def propose(self, task: Task, carry: Shot, noise: jax.Array) -> jax.Array:
    """The mean, and draws around it."""
    return sampling.draw(carry.mean, carry.std, noise)

  def update(
    self, task: Task, carry: Shot, elites: jax.Array, costs: jax.Array
  ) -> Shot:
    """Takes what is cheaper than all before."""
    best, cost = sampling.cheaper(
      carry.best, carry.cost, elites[:, 0], costs[:, 0]
    )
    return carry._replace(best=best, cost=cost)

  def answer(self, task: Task, carry: Shot) -> Answer:
    """The cheapest of all."""
    return Answer(carry.best, carry.mean, carry.std)
