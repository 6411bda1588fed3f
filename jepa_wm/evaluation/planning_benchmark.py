"""Plays the problems of a protocol with a planner, and keeps the score."""

import dataclasses
import json
import os
import pathlib
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import tqdm

from jepa_wm import planning, sharding
from jepa_wm.envs import environment as environment_lib
from jepa_wm.envs import worlds
from jepa_wm.evaluation import (
  baselines,
  closed_loop,
  intervals,
  observations,
  planner_settings,
  provenance,
)
from jepa_wm.evaluation import pairs as pairs_lib
from jepa_wm.evaluation import protocol as protocol_lib
from jepa_wm.types import Params


@dataclasses.dataclass(frozen=True)
class Episode:
  """How one problem went.

  Attributes:
    pair: id of the problem.
    success: whether the goal was reached within the budget.
    first_success_step: environment steps until then, None if never.
    start_distance: from start to goal, in the world's unit.
    final_distance: at the end, or where the agent stopped on success.
  """

  pair: int
  success: bool
  first_success_step: int | None
  start_distance: float
  final_distance: float


@dataclasses.dataclass(frozen=True)
class Result:
  """A benchmark run: the record that is kept, and what is drawn from it.

  Attributes:
    record: design.md's keys, ready for JSON.
    protocol: what was measured.
    pairs: the problems.
    episodes: one row per problem.
    vectors: `[P, budget + 1, V]`, true states; frozen after success.
    planned: one entry per moment of planning.
    diagnostics: of every problem's first plan, `[I, P]`.
  """

  record: dict[str, Any]
  protocol: protocol_lib.Protocol
  pairs: pairs_lib.Pairs
  episodes: list[Episode]
  vectors: np.ndarray
  planned: list[closed_loop.PlannedPath]
  diagnostics: planning.Diagnostics


def run(
  model: closed_loop.PlanningModel,
  protocol: protocol_lib.Protocol,
  pairs: pairs_lib.Pairs,
  *,
  settings: planner_settings.PlannerSettings | None = None,
  seed: int = 0,
  batch_size: int | None = None,
  environment: environment_lib.Environment | None = None,
  checkpoint: str = '',
  num_floor_repeats: int = 20,
  show_progress: bool = False,
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
    environment: the world; the protocol's with default factors of variation if
      left out. It is rendered at the model's image size.
    checkpoint: what the record says was tested.
    num_floor_repeats: how often the random policy tries every pair.
    show_progress: whether to draw a progress bar.

  Returns:
    The result. `ms_per_plan` is the time spent in the program (rendering,
    encoding, all iterations, playing; not compiling) over the number of plans
    made for problems that were still open.

  Raises:
    ValueError: no pairs, a batch size below one, a model of another world or
      whose blocks are not the protocol's, that sees proprio that the world has
      not, that looks back less than `history` frames, or that prices plans
      with NaN or infinity; settings that the planner refuses.
  """
  if settings is None:
    settings = planner_settings.PlannerSettings()
  closed_loop.check_history(model, settings.history)
  if model.action_block != protocol.action_block:
    raise ValueError(
      f'action_block of the model is {model.action_block}, but protocol '
      f'{protocol.name!r} counts its horizon in blocks of '
      f'{protocol.action_block} environment steps; change the protocol.'
    )
  env = environment or worlds.get(protocol.environment).make()
  if model.action_dim != model.action_block * env.action_dim:
    raise ValueError(
      f'action_dim of the model is {model.action_dim}, but a block of '
      f'{model.action_block} actions in {protocol.environment!r} has '
      f'{model.action_block * env.action_dim} numbers; the model was trained '
      'in another world.'
    )
  observations.check_proprio(model, env)
  if len(pairs) < 1:
    raise ValueError('pairs must hold at least one problem, got none.')
  if batch_size is None:
    batch_size = _default_batch_size(len(pairs))
  if batch_size < 1:
    raise ValueError(f'batch_size must be at least 1, got {batch_size}.')
  batch_size = min(batch_size, len(pairs))
  began = time.perf_counter()
  # The bar appears before the first compilation, which takes a while.
  with tqdm.tqdm(
    total=len(pairs) * protocol.num_plans,
    desc=f'planning ({protocol.name})',
    unit='plan',
    disable=not show_progress,
  ) as bar:
    floor = baselines.random_floor(
      protocol,
      pairs,
      environment=env,
      seed=seed,
      num_repeats=num_floor_repeats,
    )
    ceiling = baselines.expert_ceiling(protocol, pairs, environment=env)
    loop = closed_loop.ClosedLoop(
      model, protocol, pairs, settings, seed, batch_size, env
    )
    loop.run(bar)
  episodes = [_episode(loop, i) for i in range(len(pairs))]
  num_successes = sum(episode.success for episode in episodes)
  record = {
    'protocol': {**protocol.to_dict(), 'num_pairs': len(pairs)},
    'manifest_sha256': pairs.manifest_sha256,
    'num_pairs': len(pairs),
    'num_successes': num_successes,
    'success_rate': num_successes / len(pairs),
    'interval_95': list(intervals.wilson_interval(num_successes, len(pairs))),
    'random_floor': floor,
    'expert_ceiling': ceiling,
    'ms_per_plan': 1e3 * loop.planning_seconds / loop.num_plans,
    'num_parameters': _count(model.params),
    'planner': settings.to_dict(),
    'checkpoint': checkpoint,
    'seed': seed,
    'device': sharding.device_description(),
    'versions': provenance.versions(),
    'commit': provenance.commit(),
    'seconds': time.perf_counter() - began,
  }
  return Result(
    record=record,
    protocol=dataclasses.replace(protocol, num_pairs=len(pairs)),
    pairs=pairs,
    episodes=episodes,
    vectors=loop.vectors,
    planned=loop.planned,
    diagnostics=loop.first_diagnostics(),
  )


def write_results(
  records: Sequence[dict[str, Any]], path: str | os.PathLike[str]
) -> None:
  """Writes a list of records as JSON: beside, then renamed, so never half.

  Raises:
    OSError: the file cannot be written.
  """
  path = pathlib.Path(path)
  beside = path.with_name(f'.{path.name}.writing')
  beside.write_text(json.dumps(list(records), indent=2) + '\n')
  os.replace(beside, path)


def _default_batch_size(num_pairs: int) -> int:
  """All problems at once, but on a CPU only what fits into its caches."""
  if jax.default_backend() == 'cpu':
    return min(num_pairs, 4 * jax.device_count())
  return num_pairs


def _episode(loop: closed_loop.ClosedLoop, index: int) -> Episode:
  step = int(loop.first_success[index])
  return Episode(
    pair=int(loop.pairs.ids[index]),
    success=step >= 0,
    first_success_step=step if step >= 0 else None,
    start_distance=float(loop.start_distance[index]),
    final_distance=float(loop.final_distance[index]),
  )


def _count(params: Params) -> int:
  """Trainable numbers: running statistics are not counted."""
  if isinstance(params, dict) and 'params' in params:
    params = params['params']
  return sum(int(np.size(leaf)) for leaf in jax.tree.leaves(params))
