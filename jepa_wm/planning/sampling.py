"""What planners that draw candidates share: draw, price, pick, learn."""

import abc
import dataclasses
import functools
from typing import Generic, NamedTuple

import jax
import jax.numpy as jnp

from jepa_wm import sharding
from jepa_wm.planning import checks, keeping, keys, limits
from jepa_wm.planning.driver import Carry
from jepa_wm.planning.problem import Diagnostics, WarmStart
from jepa_wm.planning.task import Answer, Start, Task
from jepa_wm.planning.traits import Traits


class Sampled(NamedTuple, Generic[Carry]):
  """What one iteration leaves to the next.

  Attributes:
    carry: the planner's own.
    given: `[B, F, H, A]`, candidates that are not drawn: kept elites first.
    num_given: `[]`, how many of them count.
    kept: what the forms of guardrails remember.
  """

  carry: Carry
  given: jax.Array
  num_given: jax.Array
  kept: keeping.Kept = keeping.Kept()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampling(Traits, abc.ABC, Generic[Carry]):
  """A planner that draws candidates, and learns from the cheapest of them.

  A planner of this kind is four functions: `init`, `propose`, `update` and
  `answer`. The driver and this class project, add proposals and kept elites,
  price, rank, and keep the record.

  A candidate whose cost is not finite, or that a hard guardrail forbids, ranks
  last and is counted in the diagnostics.

  Attributes:
    num_samples: N, candidates per iteration.
    num_iterations: I.
    num_kept: how many elites are candidates again, in the next iteration and
      in the next plan.
    patience: a problem whose elites have not become cheaper for so many
      iterations is left as it is.

  Raises:
    ValueError: no sample, no iteration, no patience, or fewer samples than
      elites that are kept.
  """

  num_samples: int = 300
  num_iterations: int = 30
  num_kept: int = 0
  patience: int | None = None

  def __post_init__(self) -> None:
    checks.at_least(
      num_samples=(self.num_samples, 1), num_iterations=(self.num_iterations, 1)
    )
    checks.kept(self.num_kept, self.patience, num_samples=self.num_samples)

  @property
  def keeps(self) -> tuple[str, ...]:
    """Guardrails of any form."""
    return limits.FORMS

  @property
  def learns_from(self) -> int | None:
    """K, how many of the cheapest `update` is given; all where None."""
    return 1

  @abc.abstractmethod
  def init(self, task: Task, start: Start) -> Carry:
    """Where the search stands before the first iteration."""

  @abc.abstractmethod
  def propose(self, task: Task, carry: Carry, noise: jax.Array) -> jax.Array:
    """Makes candidates of `noise`, both `[B, N, H, A]`, the mean first."""

  @abc.abstractmethod
  def update(
    self, task: Task, carry: Carry, elites: jax.Array, costs: jax.Array
  ) -> Carry:
    """Learns from elites `[B, K, H, A]`, cheapest first.

    Their `costs` `[B, K]` are infinite where they are not finite. With K
    None, all candidates come as they were drawn, with the costs they have.
    """

  @abc.abstractmethod
  def answer(self, task: Task, carry: Carry) -> Answer:
    """What the plan would be now."""

  def noise(self, rng_keys: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Draws `[B, *shape]` of unit scale."""
    return keys.white_noise(rng_keys, shape)

  def populations(self) -> list[int]:
    """As many candidates in every iteration."""
    return [self.num_samples] * self.num_iterations

  def num_keys(self) -> int:
    """Every iteration uses its own number."""
    return self.num_iterations

  def begin(self, task: Task, start: Start) -> Sampled[Carry]:
    """See `driver.Planner`."""
    return Sampled(
      self.init(task, start), start.given, start.num_given, keeping.start(task)
    )

  def iterate(
    self, task: Task, carry: Sampled[Carry], size: int, iteration: jax.Array
  ) -> tuple[Sampled[Carry], Diagnostics]:
    """See `driver.Planner`."""
    own = carry.carry
    noise_keys, model_keys = task.keys(iteration)
    noise = task.noise(
      self.noise, noise_keys, iteration, size, self.num_samples
    )
    candidates = self.propose(task, own, noise)
    candidates = insert(candidates, carry.given, carry.num_given)
    candidates = task.project(candidates)
    prices = task.price(candidates, model_keys)
    costs = keeping.rank(task, carry.kept, prices)
    picked, kept = self.learns_from, self.num_kept
    number = picked or max(size // 10, 1)
    rails = keeping.learn(task, carry.kept, candidates, prices, costs, number)
    elites, elite_costs, ordered = candidates, costs, costs
    if picked is None:
      # All of them: they stay where they are, and only `kept` travel.
      ordered = jnp.sort(jnp.where(jnp.isfinite(costs), costs, jnp.inf), axis=1)
      best = cheapest(candidates, costs, kept)[1] if kept else candidates
    else:
      _, best, best_costs = cheapest(candidates, costs, max(picked, kept))
      elites, elite_costs = best[:, :picked], best_costs[:, :picked]
      ordered = elite_costs
    diagnostics = diagnose(costs, ordered, self.answer(task, own).std)
    own = self.update(task, own, elites, elite_costs)
    given = jnp.concatenate([best[:, :kept], carry.given[:, kept:]], axis=1)
    return Sampled(own, given, jnp.int32(kept), rails), diagnostics

  def finish(
    self, task: Task, carry: Sampled[Carry]
  ) -> tuple[Answer, jax.Array]:
    """See `driver.Planner`."""
    answer = self.answer(task, carry.carry)
    answer = answer._replace(allowed=carry.kept.allowed)
    return answer, carry.given[:, : self.num_kept]

  def shift(self, left: WarmStart, num_played: int) -> WarmStart:
    """Drops what has been played and pads the end with zeros."""
    return left.shifted(num_played)


def draw(mean: jax.Array, std: jax.Array, noise: jax.Array) -> jax.Array:
  """Turns noise into candidates, the first of which is the mean.

  Args:
    mean: `[B, H, A]`.
    std: `[B, H, A]`.
    noise: `[B, N, H, A]` of unit scale.

  Returns:
    `[B, N, H, A]`.
  """
  mean, std = jnp.expand_dims(mean, 1), jnp.expand_dims(std, 1)
  index = jnp.arange(noise.shape[1]).reshape(1, -1, 1, 1)
  # A mask and not `.at[:, 0]`: it needs nothing from other devices.
  return jnp.where(index == 0, mean, mean + std * noise)


def insert(
  candidates: jax.Array, given: jax.Array, num_given: jax.Array | int
) -> jax.Array:
  """Puts given candidates after the first one.

  Args:
    candidates: `[B, N, H, A]`.
    given: `[B, F, H, A]`; of more than N - 1 the first count, and one that
      holds a NaN or an infinity is none.
    num_given: how many of them count, from the first on; may be traced.

  Returns:
    `[B, N, H, A]`, spread over devices.
  """
  number = candidates.shape[1]
  given = given[:, : number - 1]
  if given.shape[1]:
    index = jnp.arange(number).reshape(1, -1, 1, 1)
    after = number - 1 - given.shape[1]
    padded = jnp.pad(given, ((0, 0), (1, after), (0, 0), (0, 0)))
    is_given = (index >= 1) & (index <= num_given)
    is_given &= jnp.all(jnp.isfinite(padded), axis=(2, 3), keepdims=True)
    candidates = jnp.where(is_given, padded, candidates)
  return sharding.constrain(candidates, 'data', 'samples')


def cheapest(
  candidates: jax.Array, costs: jax.Array, number: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Picks the cheapest candidates, cheapest first.

  Args:
    candidates: `[B, N, H, A]`.
    costs: `[B, N]`; what is not finite ranks last, ties rank by index.
    number: K.

  Returns:
    indices `[B, K]`, elites `[B, K, H, A]` and their costs `[B, K]`,
    infinite where the candidate's is not finite.
  """
  costs = sharding.constrain(costs, 'data')
  costs = jnp.where(jnp.isfinite(costs), costs, jnp.inf)
  pick = functools.partial(jax.lax.top_k, k=number)
  negative, indices = sharding.row_by_row(pick, -costs)
  elites = jnp.take_along_axis(
    candidates, indices.reshape(*indices.shape, 1, 1), axis=1
  )
  return indices, sharding.constrain(elites, 'data'), -negative


def cheaper(
  actions: jax.Array,
  cost: jax.Array,
  other_actions: jax.Array,
  other_cost: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  """Picks the cheaper of two sequences for every problem.

  Args:
    actions: `[B, H, A]`.
    cost: `[B]`, infinite where there is none yet.
    other_actions: `[B, H, A]`, taken only where it costs less.
    other_cost: `[B]`; what is NaN is not less.

  Returns:
    `[B, H, A]` and `[B]`.
  """
  less = other_cost < cost
  actions = jnp.where(less.reshape(-1, 1, 1), other_actions, actions)
  return actions, jnp.where(less, other_cost, cost)


def diagnose(
  costs: jax.Array, elite_costs: jax.Array, std: jax.Array
) -> Diagnostics:
  """Describes one iteration.

  Args:
    costs: `[B, N]`, what the candidates were ranked by.
    elite_costs: `[B, K]`, of those that were learnt from, cheapest first.
    std: `[B, H, A]`, that they were drawn with.

  Returns:
    Leaves `[B]`.
  """
  return Diagnostics(
    best_cost=elite_costs[:, 0],
    mean_cost=_mean_finite(costs),
    elite_cost=_mean_finite(elite_costs),
    spread=jnp.mean(std, axis=(1, 2)),
    num_nonfinite=jnp.sum(~jnp.isfinite(costs), axis=1, dtype=jnp.int32),
  )


def _mean_finite(costs: jax.Array) -> jax.Array:
  """Mean of the finite costs `[B, N]`, infinite where there is none."""
  finite = jnp.isfinite(costs)
  number = jnp.sum(finite, axis=1, dtype=costs.dtype)
  total = jnp.sum(jnp.where(finite, costs, 0.0), axis=1)
  return jnp.where(number > 0, total / jnp.maximum(number, 1), jnp.inf)
