"""How near in latents counts as there: the radius of success.

Fitted with the true state, as the distance that tells pairs apart which the
world calls solved, or without it, as how far a player gets in some steps: in
the model's own distance or in that of a head, which knows ways round walls.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm.envs import environment
from jepa_wm.rl import rewards

_SQUARED = rewards.Measure(rewards.squared_distance)
_AT_ONCE = 2**15
_QUANTILES = np.linspace(0.05, 0.95, 19)


@dataclasses.dataclass(frozen=True)
class Reach:
  """A distance in latents below which a goal counts as reached.

  Attributes:
    value: the distance.
    used_truth: whether true states have decided it.
    how: in words, for reports.
    balanced_accuracy: 0..1, mean share of solved pairs below and of unsolved
      ones above `value`; None where the truth was not asked.
    measure: name of the distance.
  """

  value: float
  used_truth: bool
  how: str
  balanced_accuracy: float | None = None
  measure: str = _SQUARED.name


def from_truth(
  world: environment.Environment,
  latents: jax.Array,
  states: Any,
  *,
  measure: rewards.Measure = _SQUARED,
  num_pairs: int = 400_000,
  seed: int = 0,
) -> Reach:
  """The distance that best tells pairs the world calls solved from others.

  Args:
    world: says what is solved.
    latents: `[M, D]`, of frames of the world.
    states: of those frames, leaves `[M, ...]`.
    measure: of latents.
    num_pairs: drawn of all pairs of frames.
    seed: of the draw.

  Returns:
    The radius, and how well it tells them apart.

  Raises:
    ValueError: no pair drawn is solved, or all are, or a distance is NaN.
  """
  draws = np.random.default_rng(seed)
  rows = draws.integers(len(latents), size=(2, num_pairs))

  @jax.jit
  def look(params: Any, latents: jax.Array, states: Any, rows: Any) -> Any:
    def one(pair: tuple[jax.Array, jax.Array]) -> Any:
      (here, there), (state, goal) = (
        [jax.tree.map(lambda x, i=i: x[i], part) for i in pair]
        for part in (latents, states)
      )
      distance = rewards.measured(measure.distance_fn, params, here, there)
      return world.success(state, goal), distance

    return jax.lax.map(one, rows, batch_size=min(_AT_ONCE, num_pairs))

  given = latents, states, tuple(rows)
  solved, distances = map(np.asarray, look(measure.params, *given))
  _check(distances)
  if not 0 < solved.sum() < num_pairs:
    raise ValueError(
      f'reach: of {num_pairs} pairs of {len(latents)} frames the world calls '
      f'{solved.sum()} solved, so no radius tells them apart; give more frames '
      '(num), or a reach of your own.'
    )
  candidates = np.quantile(distances[solved], _QUANTILES)
  accuracies = [
    (np.mean(distances[solved] < c) + np.mean(distances[~solved] >= c)) / 2
    for c in candidates
  ]
  best = int(np.argmax(accuracies))
  accuracy = float(accuracies[best])
  if not candidates[best] > 0.0:
    raise ValueError(
      f'reach: of {len(latents)} frames the world calls solved only pairs of '
      'one and the same latent, which gives no radius; give more frames (num), '
      'or a reach of your own.'
    )
  return Reach(
    float(candidates[best]),
    True,
    f'tells the pairs that the world calls solved from the others with '
    f'balanced accuracy {accuracy:.3f}',
    accuracy,
    measure.name,
  )


def from_time(
  latents: np.ndarray,
  offsets: np.ndarray,
  lengths: np.ndarray,
  *,
  num_steps: int = 10,
  measure: rewards.Measure = _SQUARED,
) -> Reach:
  """The median distance of frames some steps apart; no true state is asked.

  Args:
    latents: `[N, D]`, of all frames of some episodes.
    offsets: `[E]`, first frame of each episode.
    lengths: `[E]`, frames of each.
    num_steps: environment steps between the two frames.
    measure: of latents.

  Raises:
    ValueError: no episode is as long, or a distance is NaN.
  """
  firsts = [
    np.arange(offset, offset + length - num_steps)
    for offset, length in zip(offsets, lengths)
  ]
  rows = np.concatenate([np.zeros(0, int), *firsts])
  if not len(rows):
    raise ValueError(
      f'reach: no episode has frames {num_steps} steps apart, the longest has '
      f'{max(lengths, default=0)}; give fewer steps, or a reach of your own.'
    )
  here, there = (jnp.asarray(latents[x]) for x in (rows, rows + num_steps))
  measured = jax.jit(
    lambda *given: rewards.measured(measure.distance_fn, *given)
  )(measure.params, here, there)
  distances = np.asarray(measured)
  _check(distances)
  return Reach(
    float(np.median(distances)),
    False,
    f'the median {measure.name} of frames {num_steps} steps apart in '
    f'{len(lengths)} episodes; no true state was asked',
    measure=measure.name,
  )


def given(value: float, measure: rewards.Measure = _SQUARED) -> Reach:
  """A radius of one's own."""
  return Reach(value, False, 'given', measure=measure.name)


def _check(distances: np.ndarray) -> None:
  if not np.all(np.isfinite(distances)):
    raise ValueError(
      'reach: distances of latents are NaN or infinite; the model or its '
      'frames are broken.'
    )
