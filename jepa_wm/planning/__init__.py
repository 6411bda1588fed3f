"""State and goal to actions; knows callables, never networks."""

from jepa_wm.planning.cem import cem_plan
from jepa_wm.planning.constraints import (
  ActionBounds,
  Guardrail,
  NormBall,
  RateLimit,
  RawUnits,
)
from jepa_wm.planning.costs import squared_distance, step_weights
from jepa_wm.planning.mpc import MpcOutput, mpc_step, run_mpc
from jepa_wm.planning.problems import Diagnostics, Plan
from jepa_wm.planning.rollout import rollout_path

__all__ = [
  'ActionBounds',
  'Diagnostics',
  'Guardrail',
  'MpcOutput',
  'NormBall',
  'Plan',
  'RateLimit',
  'RawUnits',
  'cem_plan',
  'mpc_step',
  'rollout_path',
  'run_mpc',
  'squared_distance',
  'step_weights',
]
