"""The cross-entropy method over sequences of discrete actions."""

import dataclasses

import jax
import jax.numpy as jnp

from jepa_wm.planning import checks, gaussian, keys, sampling
from jepa_wm.planning.problem import WarmStart
from jepa_wm.planning.task import Answer, Start, Task


@dataclasses.dataclass(frozen=True, kw_only=True)
class CategoricalCEM(sampling.Sampling[jax.Array]):
  """Plans which of A actions to take at every step, as one-hot rows.

  Each iteration draws N sequences, every step on its own from its own
  probabilities, and sets the probabilities to how often the K cheapest take
  each action. The first candidate takes the likeliest action at every step,
  and so does the plan. A warm start's mean are probabilities: not negative,
  they need not sum to one, and a row that sums to zero is uniform. A plan's
  `mean` are the last probabilities p and its `std` `sqrt(p (1 - p))`.

  Attributes:
    num_samples: see `sampling.Sampling`, as `num_iterations`, `num_kept` and
      `patience`.
    num_elites: K, how many of the cheapest are learnt from; by default a
      tenth of `num_samples`, and not fewer than are kept or than two.
    smoothing: added to every frequency before they are made to sum to one
      again, so that no action is given up for good.
    mean_momentum: share of the old probabilities in the new ones, 0..1.

  Raises:
    ValueError: negative smoothing, and what `cem.CEM` refuses.

  Source: Rubinstein and Kroese, The cross-entropy method (2004), section 5.1;
    the order of candidates as in stable-worldmodel.
  """

  num_elites: int | None = None
  smoothing: float = 0.01
  mean_momentum: float = 0.0

  def __post_init__(self) -> None:
    super().__post_init__()
    if self.num_elites is None:
      number = checks.tenth(self.num_samples, self.num_kept)
      object.__setattr__(self, 'num_elites', number)
    checks.elites(self.learns_from, self.num_samples, self.num_kept)
    checks.momentum(self.mean_momentum)
    checks.not_negative(smoothing=self.smoothing)

  @property
  def discrete(self) -> bool:
    """Actions are choices."""
    return True

  @property
  def keeps(self) -> tuple[str, ...]:
    """All but hard guardrails: no choice stands still."""
    return ('off', 'soft', 'lagrangian')

  @property
  def learns_from(self) -> int:
    """K."""
    assert self.num_elites is not None
    return self.num_elites

  def noise(self, rng_keys: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Where log-probability plus Gumbel noise is largest is a draw."""
    return keys.gumbel_noise(rng_keys, shape)

  def init(self, task: Task, start: Start) -> jax.Array:
    """Probabilities `[B, H, A]`."""
    return _allowed(task, normalize(start.mean))

  def propose(
    self, task: Task, carry: jax.Array, noise: jax.Array
  ) -> jax.Array:
    """The likeliest actions, and draws."""
    drawn = _one_hot(jnp.expand_dims(jnp.log(carry), 1) + noise)
    is_first = jnp.arange(noise.shape[1]).reshape(1, -1, 1, 1) == 0
    return jnp.where(is_first, jnp.expand_dims(_one_hot(carry), 1), drawn)

  def update(
    self, task: Task, carry: jax.Array, elites: jax.Array, costs: jax.Array
  ) -> jax.Array:
    """How often the elites take each action."""
    frequencies, _ = gaussian.fit(carry, carry, elites, costs)
    new = _allowed(task, normalize(frequencies + self.smoothing))
    new = self.mean_momentum * carry + (1.0 - self.mean_momentum) * new
    # Where `fit` learnt nothing, nothing is smoothed either.
    learnt = jnp.sum(jnp.isfinite(costs), axis=1) >= 2
    return jnp.where(learnt.reshape(-1, 1, 1), new, carry)

  def answer(self, task: Task, carry: jax.Array) -> Answer:
    """The likeliest actions."""
    return Answer(_one_hot(carry), carry, jnp.sqrt(carry * (1.0 - carry)))

  def shift(self, left: WarmStart, num_played: int) -> WarmStart:
    """A row of zeros is no action: the last one is repeated in elites."""
    after = left.shifted(num_played)
    if after.elites is None or left.elites is None:
      return after
    last = jnp.repeat(left.elites[:, :, -1:], num_played, axis=2)
    elites = jnp.concatenate([left.elites[:, :, num_played:], last], axis=2)
    return after._replace(elites=elites)


def _allowed(task: Task, chances: jax.Array) -> jax.Array:
  """Probabilities `[B, H, A]` of what may be chosen."""
  if task.problem.limits.allowed is None:
    return chances
  return normalize(task.project(chances))


def normalize(chances: jax.Array) -> jax.Array:
  """Makes rows `[..., A]` sum to one; those that sum to zero are uniform."""
  total = jnp.sum(chances, axis=-1, keepdims=True)
  some = total > 0.0
  return jnp.where(
    some, chances / jnp.where(some, total, 1.0), 1.0 / chances.shape[-1]
  )


def _one_hot(scores: jax.Array) -> jax.Array:
  """One where a row `[..., A]` is largest, the first of equals."""
  return jax.nn.one_hot(
    jnp.argmax(scores, axis=-1), scores.shape[-1], dtype=jnp.float32
  )
