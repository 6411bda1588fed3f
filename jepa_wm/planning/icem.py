"""The improved cross-entropy method: coloured noise, elites that stay."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jepa_wm.planning import checks, colored_noise, gaussian, sampling
from jepa_wm.planning.task import Answer, Start, Task


class Improved(NamedTuple):
  """The distribution, and the cheapest sequence of all iterations."""

  mean: jax.Array  # [B, H, A]
  std: jax.Array  # [B, H, A]
  best: jax.Array  # [B, H, A]
  best_cost: jax.Array  # [B]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ICEM(sampling.Sampling[Improved]):
  """The cross-entropy method (`cem.CEM`), smooth and with a memory.

  Noise is correlated over the steps of a sequence (`colored_noise`), the
  best elites are candidates again in the next iteration and in the next
  plan, and later iterations may draw fewer candidates.

  Attributes:
    num_samples: N, candidates in the first iteration.
    num_iterations: see `sampling.Sampling`, as `num_kept` and `patience`.
    num_elites: K, how many of the cheapest are learnt from; by default a
      tenth of `num_samples`, and not fewer than are kept or than two.
    init_std: first standard deviation, a number, `[A]`, `[H, A]` or
      `[B, H, A]`.
    mean_momentum: share of the old mean in the new one, 0..1.
    std_momentum: share of the old standard deviation in the new one, 0..1.
    noise_beta: exponent of the noise's power spectrum over the steps; 0 is
      white, the larger the smoother.
    decay: iteration i draws `max(N / decay^i, 2 K)` candidates (and no more
      than N); each size but a repeated one is compiled on its own.
    return_mean: whether the plan is the last mean or the cheapest sequence
      of all iterations (the mean where none had a finite cost).

  Raises:
    ValueError: `decay` below one, and what `cem.CEM` refuses.

  Source: Pinneri et al. (arXiv 2008.06389), with stable-worldmodel's order of
    candidates and defaults.
  """

  num_kept: int = 5
  num_elites: int | None = None
  init_std: jax.Array | float = 1.0
  mean_momentum: float = 0.1
  std_momentum: float = 0.1
  noise_beta: float = 2.0
  decay: float = 1.0
  return_mean: bool = True

  def __post_init__(self) -> None:
    super().__post_init__()
    if self.num_elites is None:
      number = checks.tenth(self.num_samples, self.num_kept)
      object.__setattr__(self, 'num_elites', number)
    checks.elites(self.learns_from, self.num_samples, self.num_kept)
    checks.momentum(self.mean_momentum, self.std_momentum)
    checks.finite(noise_beta=self.noise_beta, decay=self.decay)
    if not self.decay >= 1.0:
      raise ValueError(f'decay must be at least 1, got {self.decay}.')

  @property
  def learns_from(self) -> int:
    """K."""
    assert self.num_elites is not None
    return self.num_elites

  def populations(self) -> list[int]:
    """Fewer candidates from iteration to iteration (algorithm 1, line 4)."""
    least = min(self.num_samples, 2 * self.learns_from)
    return [
      max(int(self.num_samples * self.decay**-iteration), least)
      for iteration in range(self.num_iterations)
    ]

  def init(self, task: Task, start: Start) -> Improved:
    """The distribution of the first iteration."""
    std = task.first_std(self.init_std)
    unknown = jnp.full(task.shape[:1], jnp.inf, jnp.float32)
    return Improved(start.mean, std, start.mean, unknown)

  def propose(self, task: Task, carry: Improved, noise: jax.Array) -> jax.Array:
    """The mean, and smooth draws around it."""
    noise = colored_noise.color(noise, self.noise_beta)
    return sampling.draw(carry.mean, carry.std, noise)

  def update(
    self, task: Task, carry: Improved, elites: jax.Array, costs: jax.Array
  ) -> Improved:
    """Fits the distribution to the elites, and remembers the best."""
    mean, std = gaussian.fit(carry.mean, carry.std, elites, costs)
    mean = self.mean_momentum * carry.mean + (1.0 - self.mean_momentum) * mean
    std = self.std_momentum * carry.std + (1.0 - self.std_momentum) * std
    best, cost = sampling.cheaper(
      carry.best, carry.best_cost, elites[:, 0], costs[:, 0]
    )
    # A mean of allowed sequences may round out of the set.
    return Improved(task.project(mean), std, best, cost)

  def answer(self, task: Task, carry: Improved) -> Answer:
    """The mean or the best."""
    actions = carry.mean
    if not self.return_mean:
      found = jnp.isfinite(carry.best_cost).reshape(-1, 1, 1)
      actions = jnp.where(found, carry.best, carry.mean)
    return Answer(actions, carry.mean, carry.std)
