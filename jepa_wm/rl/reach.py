"""How near in latents counts as there: the radius of success.

Fitted with the true state, as the distance that tells pairs apart which the
world calls solved, or without it, as how far a player gets in some steps.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm.envs import environment
from jepa_wm.rl import rewards

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
  """

  value: float
  used_truth: bool
  how: str
  balanced_accuracy: float | None = None


def from_truth(
  world: environment.Environment,
  latents: jax.Array,
  states: Any,
  *,
  distance_fn: rewards.DistanceFn = rewards.squared_distance,
  num_pairs: int = 400_000,
  seed: int = 0,
) -> Reach:
  """The distance that best tells pairs the world calls solved from others.

  Args:
    world: says what is solved.
    latents: `[M, D]`, of frames of the world.
    states: of those frames, leaves `[M, ...]`.
    distance_fn: of latents.
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
  def look(latents: jax.Array, states: Any, rows: jax.Array) -> Any:
    both = jax.tree.map(lambda x: x[rows], (latents, states))
    (here, there), (state, goal) = (
      [jax.tree.map(lambda x, i=i: x[i], part) for i in range(2)]
      for part in both
    )
    return jax.vmap(world.success)(state, goal), distance_fn(here, there)

  solved, distances = map(np.asarray, look(latents, states, rows))
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
  )


def from_time(
  latents: np.ndarray,
  offsets: np.ndarray,
  lengths: np.ndarray,
  *,
  num_steps: int = 10,
  distance_fn: rewards.DistanceFn = rewards.squared_distance,
) -> Reach:
  """The median distance of frames some steps apart; no true state is asked.

  Args:
    latents: `[N, D]`, of all frames of some episodes.
    offsets: `[E]`, first frame of each episode.
    lengths: `[E]`, frames of each.
    num_steps: environment steps between the two frames.
    distance_fn: of latents.

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
  distances = np.asarray(distance_fn(here, there))
  _check(distances)
  return Reach(
    float(np.median(distances)),
    False,
    f'the median distance of frames {num_steps} steps apart in '
    f'{len(lengths)} episodes; no true state was asked',
  )


def given(value: float) -> Reach:
  """A radius of one's own."""
  return Reach(value, False, 'given')


def _check(distances: np.ndarray) -> None:
  if not np.all(np.isfinite(distances)):
    raise ValueError(
      'reach: distances of latents are NaN or infinite; the model or its '
      'frames are broken.'
    )
