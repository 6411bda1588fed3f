import dataclasses
import math

import numpy as np
import pytest

from jepa_wm import planning
from jepa_wm.evaluation.planning import (
  calibrating,
  pairs,
  planner_settings,
  programs,
  protocol,
)
from jepa_wm.evaluation.planning import replanning as replanning_lib
from jepa_wm.recipes import replanning

SHAKEN = protocol.get(
  'short', receding_horizon=2, disturb='teleport', disturb_at=10
)
SETTINGS = planner_settings.PlannerSettings(planning.CEM(num_elites=4))


def test_where_there_is_nothing_to_give_up_it_is_refused():
  assert replanning.uncalibrated(None, SETTINGS, SHAKEN) == SETTINGS
  asked = replanning.uncalibrated(0.9, SETTINGS, SHAKEN)
  assert asked.replanning.bounds == (math.inf, math.inf)
  assert asked.to_dict()['replan_on_surprise'] == {'quantile': 0.9}
  with pytest.raises(ValueError, match="protocol 'long' plans after every"):
    replanning.uncalibrated(0.9, SETTINGS, protocol.LONG)


def test_it_is_calibrated_once_undisturbed_on_other_pairs(monkeypatch):
  played = []

  class Loop:
    """After one block surprised by 0 to 99, after two by twice that."""

    def __init__(self, model, chosen, problems, settings, seed, *rest):
      played.append((chosen, problems, settings, seed))
      no, count = np.zeros(100, bool), np.arange(100)
      self.looks = [
        replanning_lib.Look(
          5 * since, count, no, since * count, no, no + since, ~no
        )
        for since in (1, 2)
      ]

    def run(self, bar):
      del bar

  monkeypatch.setattr(calibrating.closed_loop, 'ClosedLoop', Loop)
  development = lambda chosen, count, episodes: np.arange(count)
  monkeypatch.setattr(pairs, 'development', development)
  calibrations = replanning.Calibrations(None)
  asked = replanning.uncalibrated(0.95, SETTINGS, SHAKEN)

  def bounds(chosen):
    given = 'encoder', object(), chosen, asked
    found = calibrations.settings(
      *given, stage=None, programs=programs.Programs(), batch_size=None
    )
    return found.replanning.bounds

  # The 96th of a hundred.
  assert bounds(SHAKEN) == (95.0, 190.0)
  calm = dataclasses.replace(SHAKEN, disturb=None, disturb_at=None)
  assert bounds(calm) == (95.0, 190.0)
  ((chosen, problems, settings, seed),) = played
  assert chosen == calm and len(problems) == 100 and seed == 0
  assert settings.replanning.bounds == (math.inf, math.inf)
