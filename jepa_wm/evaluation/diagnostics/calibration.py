"""Whether a distance says how far it is: in steps, and along the true way."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jepa_wm.evaluation.diagnostics.finding import Cell, Finding, Table
from jepa_wm.evaluation.report import plots
from jepa_wm.evaluation.statistics import ranks

DistanceFn = Callable[[Any, Any], jax.Array]
"""`(latents [M, D], goals [M, D]) -> [M]`."""

_NUM_BINS = 5
_MOST_POINTS = 2000


def steps_scalars(said: np.ndarray, steps: np.ndarray) -> dict[str, float]:
  """How well predicted steps agree with those that an episode took.

  Args:
    said: `[M]`, predicted.
    steps: `[M]`, true.

  Returns:
    `spearman`, their rank correlation; `bias`, the mean of what is said too
    much; `off`, the mean error; `slope`, by how much more is said for every
    step more, 1 of a calibrated distance.
  """
  apart = steps - steps.mean()
  return {
    'spearman': ranks.spearman(said, steps),
    'bias': float(np.mean(said - steps)),
    'off': float(np.mean(np.abs(said - steps))),
    'slope': float(apart @ (said - said.mean()) / max(apart @ apart, 1e-12)),
  }


def in_steps(
  distance_fn: DistanceFn,
  baseline_fn: DistanceFn,
  latents: np.ndarray,
  steps: np.ndarray,
) -> Finding:
  """Predicted steps against those that held-out episodes took.

  Args:
    distance_fn: predicts environment steps.
    baseline_fn: another distance, for comparison.
    latents: `[M, 2, D]`, two frames of an episode each, the later one last.
    steps: `[M]`, between the two.

  Raises:
    ValueError: fewer than two pairs.
  """
  pairs = latents[:, 0], latents[:, 1]
  said, other = (np.asarray(x(*pairs)) for x in (distance_fn, baseline_fn))
  scalars = steps_scalars(said, steps)
  scalars['spearman_latents'] = ranks.spearman(other, steps)
  edges = np.linspace(0, max(steps.max(), 1), _NUM_BINS + 1)
  number = np.clip(np.digitize(steps, edges) - 1, 0, _NUM_BINS - 1)
  rows: list[list[Cell]] = [
    [
      f'{edges[i]:.0f} to {edges[i + 1]:.0f}',
      int(np.sum(number == i)),
      *map(float, np.percentile(said[number == i], [10, 50, 90])),
    ]
    for i in range(_NUM_BINS)
    if np.any(number == i)
  ]
  few = slice(_MOST_POINTS)
  along = np.unique(steps)
  draw = functools.partial(
    plots.points,
    {'predicted': (steps[few], said[few]), 'as it was': (along, along)},
    title='Steps that are predicted, and those that were taken',
    labels=('true environment steps', 'predicted'),
  )
  return Finding(
    title='Whether the distance counts steps',
    scalars=scalars,
    table=Table(('true steps', 'pairs', '10 %', 'median', '90 %'), rows),
    figures=plots.both('calibration', draw),
    sentence='Pairs of frames of held-out episodes. Players wander and wait, '
    'so that the steps between two frames are no shortest way: a distance that '
    'is learnt of them is their mean, and lies below the longest gaps. '
    'spearman_latents is the rank correlation of the squared distance of '
    'latents.',
  )


def in_paths(
  distance_fn: DistanceFn,
  baseline_fn: DistanceFn,
  latents: np.ndarray,
  paths: np.ndarray,
  straight: np.ndarray,
  unit: str,
) -> Finding:
  """Rank correlation with the length of the true way, by how far it is.

  Args:
    distance_fn: of latents.
    baseline_fn: another, for comparison.
    latents: `[M, 2, D]`, any two frames each.
    paths: `[M]`, the true way between the two.
    straight: `[M]`, the straight line.
    unit: of both.

  Raises:
    ValueError: fewer than two pairs.
  """
  pairs = latents[:, 0], latents[:, 1]
  said, other = (np.asarray(x(*pairs)) for x in (distance_fn, baseline_fn))
  is_round = paths > straight * 1.001 + 1e-3
  edges = np.quantile(paths, [1 / 3, 2 / 3])
  groups = {
    'all': np.ones(len(paths), bool),
    'straight': ~is_round,
    'round something': is_round,
    f'to {edges[0]:.0f} {unit}': paths <= edges[0],
    f'to {edges[1]:.0f} {unit}': (paths > edges[0]) & (paths <= edges[1]),
    'farther': paths > edges[1],
  }
  both = {
    name: [ranks.spearman(x[some], paths[some]) for x in (said, other)]
    for name, some in groups.items()
    if some.sum() > 1
  }
  rows: list[list[Cell]] = [
    [name, int(groups[name].sum()), *x] for name, x in both.items()
  ]
  return Finding(
    title='Whether the distance ranks as the way does',
    scalars=dict(zip(('spearman', 'spearman_latents'), both['all'])),
    table=Table(('ways', 'pairs', 'distance', 'squared, of latents'), rows),
    sentence='Spearman correlation of pairs of held-out frames, of the same '
    'episode or not, with the length of the way between them, in the world as '
    'it is by default: of episodes from another variation of it, such as one '
    'with its door elsewhere, the ways are others. The true state is asked for '
    'this alone.',
  )
