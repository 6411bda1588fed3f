"""Where the subgoals of plans lie: latents read by what the benchmark saw."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jepa_wm.envs import stage as stage_lib
from jepa_wm.evaluation.planning import observations, planning_model
from jepa_wm.evaluation.planning import pairs as pairs_lib

_NUM_FRAMES, _NUM_READ, _BATCH = 2048, 256, 64
_SAME = 1e-3
"""Share of the latents' spread below which a subgoal is the goal."""


class Moment(NamedTuple):
  """Subgoals of the plans made at one moment.

  Attributes:
    step: environment steps already played.
    indices: `[n]`, rows of the problems.
    latents: `[n, D]`, what the level right above wanted to be reached first.
  """

  step: int
  indices: np.ndarray
  latents: np.ndarray


class Reading(NamedTuple):
  """Subgoals of a moment as states of the world.

  Attributes:
    moment: whose they are.
    vectors: `[n, V]`, the true state that was seen whose latent is nearest.
    is_goal: bool `[n]`, whether the subgoal is the goal itself.
  """

  moment: Moment
  vectors: np.ndarray
  is_goal: np.ndarray


def read(
  model: planning_model.PlanningModel,
  pairs: pairs_lib.Pairs,
  stage: stage_lib.Stage,
  ways: np.ndarray,
  moments: Sequence[Moment],
) -> tuple[list[Reading], dict[str, Any]]:
  """Reads subgoals as the nearest of the states that the agents were in.

  Args:
    model: encodes.
    pairs: the `P` problems.
    stage: of the world; its rows are placed anew.
    ways: `[P, T, V]`, true states of the episodes that were played.
    moments: subgoals, one entry a moment; none where there is no level above.

  Returns:
    The readings, and what a record says under 'subgoals', if there are any:
    plans, those that went for the goal itself, the median distance from agent
    to subgoal in the world's unit (of those that did not), and how far a
    reading is off: the median distance of a state from the one that it is read
    as by the episodes of other problems.
  """
  if not moments:
    return [], {}
  owners, states = _frames(ways)
  latents = _encode(model, pairs, stage, owners, states)
  everyone = np.arange(len(pairs))
  goal_vectors = stage.vectors(pairs.goals, pairs.worlds)
  goals = _encode(model, pairs, stage, everyone, goal_vectors)
  near = _SAME * float(np.std(latents)) + np.finfo(np.float32).tiny
  readings, far = [], []
  for moment in moments:
    vectors = states[_nearest(moment.latents, latents)]
    off = np.max(np.abs(moment.latents - goals[moment.indices]), axis=-1)
    readings.append(Reading(moment, vectors, off <= near))
    agents = ways[moment.indices, moment.step]
    distances = _distances(pairs, stage, moment.indices, agents, vectors)
    far.append(distances[off > near])
  number = sum(len(reading.is_goal) for reading in readings)
  num_goal = sum(int(reading.is_goal.sum()) for reading in readings)
  distance = None
  if num_goal < number:
    distance = float(np.median(np.concatenate(far)))
  said = {
    'num_plans': number,
    'num_goal': num_goal,
    'distance': distance,
    'reading_error': _error(pairs, stage, owners, states, latents),
    'num_frames': len(states),
  }
  return readings, {'subgoals': said}


def _frames(ways: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Problems `[F]` and states `[F, V]` of some of the steps, standing once."""
  moved = np.any(np.diff(ways, axis=1) != 0, axis=-1)
  counts = np.concatenate([np.ones((len(ways), 1), bool), moved], axis=1)
  owners, steps = np.nonzero(counts)
  if len(owners) > _NUM_FRAMES:
    rng = np.random.default_rng(0)
    chosen = np.sort(rng.choice(len(owners), _NUM_FRAMES, replace=False))
    owners, steps = owners[chosen], steps[chosen]
  return owners, ways[owners, steps]


def _encode(
  model: planning_model.PlanningModel,
  pairs: pairs_lib.Pairs,
  stage: stage_lib.Stage,
  owners: np.ndarray,
  vectors: np.ndarray,
) -> np.ndarray:
  """Latents `[F, D]` of states `[F, V]` in the worlds of their problems."""
  names, parts = observations.shapes(model), []
  encode = jax.jit(lambda params, seen: model.root(params, seen, seen).goal)
  size = min(_BATCH, stage.num_rows, len(vectors))
  for first in range(0, len(vectors), size):
    # The last is repeated: one shape, one compilation.
    some = np.minimum(np.arange(first, first + size), len(vectors) - 1)
    states = stage.states(vectors[some])
    own = pairs.take(owners[some]).worlds
    stage.place(np.arange(size), stage_lib.Problems(states, states, own))
    seen = stage.observe(np.arange(size))
    found = encode(model.params, {name: seen[name] for name in names})
    parts.append(np.asarray(found)[: len(vectors) - first])
  return np.concatenate(parts)


def _nearest(
  wanted: np.ndarray, known: np.ndarray, allowed: np.ndarray | None = None
) -> np.ndarray:
  """Index `[n]` of the nearest of `known` `[F, D]` to each of `wanted`."""
  square = functools.partial(np.sum, axis=-1)
  far = square(known**2)[None] - 2.0 * wanted @ known.T
  if allowed is not None:
    far = np.where(allowed, far, np.inf)
  return np.argmin(far, axis=1)


def _distances(
  pairs: pairs_lib.Pairs,
  stage: stage_lib.Stage,
  owners: np.ndarray,
  ones: np.ndarray,
  others: np.ndarray,
) -> np.ndarray:
  """Distances `[n]` of states `[n, V]`, in the worlds of their problems."""
  states = stage.states(ones), stage.states(others)
  return stage.survey(*states, pairs.take(owners).worlds).distances


def _error(
  pairs: pairs_lib.Pairs,
  stage: stage_lib.Stage,
  owners: np.ndarray,
  states: np.ndarray,
  latents: np.ndarray,
) -> float | None:
  """How far states are read off by episodes of others, None of one problem."""
  if len(set(owners.tolist())) < 2:
    return None
  rng = np.random.default_rng(0)
  some = rng.permutation(len(owners))[:_NUM_READ]
  others = owners[some][:, None] != owners[None]
  found = states[_nearest(latents[some], latents, others)]
  distances = _distances(pairs, stage, owners[some], states[some], found)
  return float(np.median(distances))
