"""Plays the problems of a protocol with a planner, and keeps the score."""

import collections
import dataclasses
import functools
import json
import os
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import tqdm

from jepa_wm import files, planning, provenance, sharding
from jepa_wm.envs import stage as stage_lib
from jepa_wm.envs import worlds
from jepa_wm.evaluation.planning import (
  agent_scores,
  baselines,
  closed_loop,
  disturbance,
  fitting,
  loop_records,
  planner_settings,
  planning_model,
  undivided,
)
from jepa_wm.evaluation.planning import pairs as pairs_lib
from jepa_wm.evaluation.planning import programs as programs_lib
from jepa_wm.evaluation.planning import protocol as protocol_lib
from jepa_wm.evaluation.planning import subgoals as subgoals_lib
from jepa_wm.evaluation.statistics import intervals
from jepa_wm.types import Params

_MOMENTS = (10, 25, 50, 75, 100, 150, 200)
"""Environment steps at which success so far is recorded."""


@dataclasses.dataclass(frozen=True)
class Episode:
  """How one problem went.

  Attributes:
    pair: id of the problem.
    success: whether the goal was reached, by the protocol's rule.
    success_at_end: whether the episode ended in the goal.
    first_success_step: environment steps until it was reached, None if never.
    start_distance: from start to goal, in the world's unit.
    final_distance: where the episode ended.
    solved_at_start: whether the start lay in the goal.
    failure: what went wrong with the world, None where nothing did.
    steps_inside: environment steps in what was forbidden.
    num_stopped: plans that stood still since nothing was allowed.
  """

  pair: int
  success: bool
  success_at_end: bool
  first_success_step: int | None
  start_distance: float
  final_distance: float
  solved_at_start: bool = False
  failure: str | None = None
  steps_inside: int | None = None
  num_stopped: int | None = None


@dataclasses.dataclass(frozen=True)
class Baseline:
  """What others reach on the same pairs.

  Attributes:
    floor: success rate of random actions, 0..1.
    ceiling: of the expert.
    floor_recovery: the same of tries that were disturbed, where some were.
    ceiling_recovery: of the expert.
    floor_agents: success rate of each of several agents with random actions.
    ceiling_agents: with the expert's.
  """

  floor: float
  ceiling: float
  floor_recovery: float | None = None
  ceiling_recovery: float | None = None
  floor_agents: Sequence[float] | None = None
  ceiling_agents: Sequence[float] | None = None


@dataclasses.dataclass(frozen=True)
class Result:
  """A benchmark run: the record that is kept, and what is drawn from it.

  Attributes:
    record: design.md's keys, ready for JSON.
    protocol: what was measured.
    pairs: the problems.
    episodes: one row per problem.
    goals: `[P, V]`, true states.
    vectors: `[P, budget + 1, V]`, true states; after an end the last one.
    planned: one entry per moment of planning.
    diagnostics: of the first plan of every problem that needed one, `[I, n]`.
    moved: problems that were disturbed, None of none.
    subgoals: of plans that have a level above, as states; else empty.
  """

  record: dict[str, Any]
  protocol: protocol_lib.Protocol
  pairs: pairs_lib.Pairs
  episodes: list[Episode]
  goals: np.ndarray
  vectors: np.ndarray
  planned: list[closed_loop.PlannedPath]
  diagnostics: planning.Diagnostics
  moved: disturbance.Moved | None = None
  subgoals: Sequence[subgoals_lib.Reading] = ()


def run(
  model: planning_model.PlanningModel,
  protocol: protocol_lib.Protocol,
  pairs: pairs_lib.Pairs,
  *,
  settings: planner_settings.PlannerSettings | None = None,
  seed: int = 0,
  batch_size: int | None = None,
  stage: stage_lib.Stage | None = None,
  checkpoint: str = '',
  shift: str | None = None,
  num_floor_repeats: int = 20,
  baseline: Baseline | None = None,
  programs: programs_lib.Programs | None = None,
  bar: tqdm.tqdm | None = None,
) -> Result:
  """Plans and plays all problems of a protocol.

  A problem's random numbers come from its pair's id, so neither the batch size
  nor its neighbours decide how it goes (but for the rounding of the model's
  arithmetic).

  Args:
    model: the world model.
    protocol: what is measured.
    pairs: the problems.
    settings: of the planner; its own defaults if left out.
    seed: of the planner's and the random policy's draws.
    batch_size: problems planned at once; by default all of them, or on a CPU
      four per device. Smaller ones need less memory, and waste less on
      problems already solved.
    stage: of the world, at the model's image size; the protocol's world with
      default factors of variation if left out.
    checkpoint: what the record says was tested.
    shift: what the record says of the worlds that the pairs bring along.
    num_floor_repeats: how often the random policy tries every pair.
    baseline: floor and ceiling, where they have been measured already.
    programs: what earlier calls have compiled, to be used again where it fits.
    bar: counts plans; `protocol.num_plans` for every pair in all.

  Returns:
    The result. `ms_per_plan` is the time spent in the program (rendering,
    encoding, all iterations, playing; not compiling) over the number of plans
    made for problems that were still open.

  Raises:
    ValueError: no pairs, a batch size below one, a model of another world or
      whose blocks are not the protocol's, that sees proprio that the world has
      not, that looks back less than `history` frames or has no such `memory`,
      that has one agent where settings say how to plan for several, or that
      prices plans with NaN or infinity; settings that the planner refuses, or a
      planner for the other kind of actions.
  """
  if settings is None:
    settings = planner_settings.PlannerSettings()
  fitting.check_model(model, settings)
  fitting.check_blocks(model, protocol)
  with worlds.on_stage(
    stage, protocol.environment, image_size=model.image_size
  ) as opened:
    fitting.check_world(model, protocol, settings, opened)
    if len(pairs) < 1:
      raise ValueError('pairs must hold at least one problem, got none.')
    if batch_size is None:
      batch_size = default_batch_size(len(pairs))
    if batch_size < 1:
      raise ValueError(f'batch_size must be at least 1, got {batch_size}.')
    batch_size = min(batch_size, len(pairs))
    undivided.tell(batch_size, settings.planner.populations())
    began = time.perf_counter()
    if baseline is None:
      baseline = measure_baseline(
        protocol,
        pairs,
        stage=opened,
        seed=seed,
        num_floor_repeats=num_floor_repeats,
      )
    loop = closed_loop.ClosedLoop(
      model,
      protocol,
      pairs,
      settings,
      seed,
      batch_size,
      opened,
      programs_lib.Programs() if programs is None else programs,
    )
    loop.run(tqdm.tqdm(disable=True) if bar is None else bar)
    episodes = [_episode(loop, i) for i in range(len(pairs))]
    readings, said = subgoals_lib.read(
      model, pairs, opened, loop.score.vectors, loop.subgoals
    )
    record = {
      **_describe(loop, episodes, baseline),
      **said,
      'checkpoint': checkpoint,
      'shift': shift,
      'seconds': time.perf_counter() - began,
      'episodes': None,
    }
    return Result(
      record=record,
      protocol=dataclasses.replace(protocol, num_pairs=len(pairs)),
      pairs=pairs,
      episodes=episodes,
      goals=opened.vectors(pairs.goals, pairs.worlds),
      vectors=loop.score.vectors,
      planned=loop.planned,
      diagnostics=loop.first_diagnostics(),
      moved=disturbance.together(loop.moved),
      subgoals=readings,
    )


def _describe(
  loop: closed_loop.ClosedLoop, episodes: list[Episode], baseline: Baseline
) -> dict[str, Any]:
  """What a record says, in its order; None where `run` alone knows it."""
  model, pairs = loop.model, loop.pairs
  solved = pairs.initially_solved
  if solved is None:
    solved = float(np.mean(loop.score.initially_solved))
  return {
    'protocol': {**loop.protocol.to_dict(), 'num_pairs': len(pairs)},
    'manifest_sha256': pairs.manifest_sha256,
    **summarize(episodes, loop.protocol),
    'initially_solved': solved,
    'random_floor': baseline.floor,
    'expert_ceiling': baseline.ceiling,
    'ms_per_plan': 1e3 * loop.planning_seconds / max(loop.num_plans, 1),
    'flops_per_plan': loop.flops_per_plan,
    'num_parameters': _count(model.params),
    'planner': loop.settings.to_dict(),
    **loop_records.describe(
      loop,
      [episode.success for episode in episodes],
      [episode.first_success_step for episode in episodes],
      (baseline.floor_recovery, baseline.ceiling_recovery),
    ),
    **agent_scores.describe(
      loop.protocol,
      agent_scores.reached(
        loop.protocol.environment,
        loop.score.vectors,
        pairs.goals,
        pairs.worlds,
      ),
      baseline.floor_agents,
      baseline.ceiling_agents,
    ),
    'checkpoint': None,
    'training': _training(model),
    'shift': None,
    'num_invalid': pairs.num_invalid,
    'seed': loop.seed,
    'device': sharding.device_description(),
    'versions': provenance.versions(),
    'commit': provenance.commit(),
  }


def measure_baseline(
  protocol: protocol_lib.Protocol,
  pairs: pairs_lib.Pairs,
  *,
  stage: stage_lib.Stage | None = None,
  seed: int = 0,
  num_floor_repeats: int = 20,
) -> Baseline:
  """Floor and ceiling of the same pairs; arguments as for `run`."""
  given = functools.partial(baselines.tries, protocol, pairs, stage=stage)
  floor = given('random', seed=seed, num_repeats=num_floor_repeats)
  ceiling = given('expert')
  return Baseline(
    floor.rate,
    ceiling.rate,
    floor.recovery,
    ceiling.recovery,
    floor.agents,
    ceiling.agents,
  )


def write_results(
  records: Sequence[dict[str, Any]], path: str | os.PathLike[str]
) -> None:
  """Writes a list of records as JSON, whole or not at all.

  Raises:
    OSError: the file cannot be written.
  """
  files.write_whole(path, json.dumps(list(records), indent=2) + '\n')


def default_batch_size(num_pairs: int) -> int:
  """All problems at once, but on a CPU only what fits into its caches.

  There about 4 a device, such that few are planned twice to fill the last
  batch.
  """
  if jax.default_backend() != 'cpu':
    return num_pairs
  sizes = [each * jax.device_count() for each in (4, 5, 3)]
  return min(num_pairs, min(sizes, key=lambda size: -num_pairs % size))


def _episode(loop: closed_loop.ClosedLoop, index: int) -> Episode:
  score, watch = loop.score, loop.watch
  step = int(score.first_success[index])
  at_end = bool(score.at_end[index])
  rule = loop.protocol.success
  return Episode(
    pair=int(loop.pairs.ids[index]),
    success=at_end if rule == 'at the end' else step >= 0,
    success_at_end=at_end,
    first_success_step=step if step >= 0 else None,
    start_distance=float(score.start_distance[index]),
    final_distance=float(score.final_distance[index]),
    solved_at_start=bool(score.initially_solved[index]),
    failure=score.failures.get(index),
    steps_inside=None if watch is None else int(watch.inside[index]),
    num_stopped=None if watch is None else int(watch.stopped[index]),
  )


def summarize(
  episodes: Sequence[Episode], protocol: protocol_lib.Protocol
) -> dict[str, Any]:
  """The part of a record that episodes decide.

  Args:
    episodes: at least one, of pairs of the protocol.
    protocol: what they were played by.

  Returns:
    Counts, rates with their interval, steps and distances, and failures by
    their sentence, as `Result.record` holds them.
  """
  num_pairs = len(episodes)
  num_successes = sum(episode.success for episode in episodes)
  steps = [
    episode.first_success_step
    for episode in episodes
    if episode.first_success_step is not None
  ]
  failures = [episode.failure for episode in episodes if episode.failure]
  moments = [*(k for k in _MOMENTS if k < protocol.budget), protocol.budget]
  return {
    'num_pairs': num_pairs,
    'num_successes': num_successes,
    'success_rate': num_successes / num_pairs,
    'interval_95': list(intervals.wilson_interval(num_successes, num_pairs)),
    'success_any_time': len(steps) / num_pairs,
    'success_at_end': sum(e.success_at_end for e in episodes) / num_pairs,
    'success_at': {
      str(moment): sum(step <= moment for step in steps) / num_pairs
      for moment in moments
    },
    'steps_to_success': float(np.median(steps)) if steps else None,
    'final_distance': float(np.median([e.final_distance for e in episodes])),
    'num_failed': len(failures),
    'failures': dict(collections.Counter(failures)),
  }


def _training(model: planning_model.PlanningModel) -> dict[str, Any]:
  """Which training this was, as far as the model knows: seeds apart."""
  config = model.record.get('config', {})
  text = json.dumps({**config, 'seed': None}, sort_keys=True, default=str)
  return {
    'seed': config.get('seed'),
    'config': files.digest(text)[:16] if config else None,
  }


def _count(params: Params) -> int:
  """Trainable numbers: running statistics are not counted."""
  if isinstance(params, dict) and 'params' in params:
    params = params['params']
  return sum(int(np.size(leaf)) for leaf in jax.tree.leaves(params))
