"""What surprise is ordinary: undisturbed play of a model with its planner."""

import dataclasses

import tqdm

from jepa_wm.envs import stage as stage_lib
from jepa_wm.evaluation.planning import (
  closed_loop,
  planner_settings,
  planning_model,
  replanning,
)
from jepa_wm.evaluation.planning import pairs as pairs_lib
from jepa_wm.evaluation.planning import programs as programs_lib
from jepa_wm.evaluation.planning import protocol as protocol_lib


def calibrated(
  model: planning_model.PlanningModel,
  protocol: protocol_lib.Protocol,
  settings: planner_settings.PlannerSettings,
  pairs: pairs_lib.Pairs,
  *,
  stage: stage_lib.Stage,
  programs: programs_lib.Programs,
  batch_size: int,
  seed: int = 0,
) -> replanning.Replanning:
  """The bounds that the surprises of undisturbed play give.

  Args:
    model: the world model.
    protocol: how long and how blindly plans are played; nothing disturbs.
    settings: of the planner, which says the quantile.
    pairs: others than those that a result is of, see `pairs.development`.
    stage: of the world.
    programs: what was compiled.
    batch_size: problems planned at once.
    seed: of the planner's draws.

  Raises:
    ValueError: too few plays to tell the quantile.
  """
  given = settings.replanning
  assert given is not None
  never = replanning.uncalibrated(given.quantile, protocol.receding_horizon)
  loop = closed_loop.ClosedLoop(
    model,
    dataclasses.replace(protocol, disturb=None, disturb_at=None),
    pairs,
    dataclasses.replace(settings, replanning=never),
    seed,
    min(batch_size, len(pairs)),
    stage,
    programs,
  )
  loop.run(tqdm.tqdm(disable=True))
  return never.calibrated(loop.looks)
