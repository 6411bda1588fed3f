"""Plans that are given up early: what is asked for, and its calibration."""

import dataclasses
import os

from jepa_wm import exports
from jepa_wm.envs import stage as stage_lib
from jepa_wm.evaluation.planning import (
  calibrating,
  pairs,
  planner_settings,
  planning_benchmark,
  programs,
  protocol,
)
from jepa_wm.evaluation.planning import replanning as replanning_lib


def uncalibrated(
  quantile: float | None,
  settings: planner_settings.PlannerSettings,
  chosen: protocol.Protocol,
) -> planner_settings.PlannerSettings:
  """Settings that give plans up where they are surprised.

  Args:
    quantile: of the surprise in undisturbed play; None for never.
    settings: of the planner.
    chosen: how many blocks are played before the next plan.

  Raises:
    ValueError: a quantile that is none, or plans that are made after every
      block anyway.
  """
  if quantile is None:
    return settings
  if chosen.receding_horizon == 1:
    raise ValueError(
      f'replan_on_surprise={quantile:g} would do nothing: protocol '
      f'{chosen.name!r} plans after every block; play more blocks of a plan '
      'with receding_horizon, or leave it out.'
    )
  never = replanning_lib.uncalibrated(quantile, chosen.receding_horizon)
  return dataclasses.replace(settings, replanning=never)


class Calibrations:
  """Bounds on surprise, found out once for all that differ in seed alone."""

  def __init__(self, episodes: str | os.PathLike[str] | None) -> None:
    """Plays nothing yet; `episodes` is an archive that pairs are cut from."""
    self._episodes = episodes
    self._known: list[tuple[object, replanning_lib.Replanning]] = []

  def settings(
    self,
    encoder: str,
    model: exports.WorldModel,
    chosen: protocol.Protocol,
    settings: planner_settings.PlannerSettings,
    *,
    stage: stage_lib.Stage,
    programs: programs.Programs,
    batch_size: int | None,
  ) -> planner_settings.PlannerSettings:
    """The settings, with bounds where they ask for any.

    Args:
      encoder: names the model.
      model: that plans.
      chosen: the protocol.
      settings: of the planner.
      stage: of the world as it is.
      programs: what was compiled.
      batch_size: as for `planning_benchmark.run`.

    Raises:
      ValueError: see `calibrating.calibrated`.
    """
    asked = settings.replanning
    if asked is None:
      return settings
    calm = dataclasses.replace(chosen, disturb=None, disturb_at=None)
    key = encoder, calm, settings
    found = next(
      (bounds for known, bounds in self._known if known == key), None
    )
    if found is None:
      problems = pairs.development(
        chosen, asked.num_pairs, episodes=self._episodes
      )
      if batch_size is None:
        batch_size = planning_benchmark.default_batch_size(len(problems))
      found = calibrating.calibrated(
        model,
        chosen,
        settings,
        problems,
        stage=stage,
        programs=programs,
        batch_size=batch_size,
      )
      self._known.append((key, found))
    return dataclasses.replace(settings, replanning=found)
