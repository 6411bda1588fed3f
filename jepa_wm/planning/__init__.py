"""State and goal to actions; knows callables, never networks."""

from jepa_wm.planning.cem import cem_plan
from jepa_wm.planning.constraints import (
  ActionBounds,
  Guardrail,
  NormBall,
  RateLimit,
  RawUnits,
)
from jepa_wm.planning.costs import (
  DISTANCES,
  STEP_WEIGHTS,
  cosine_distance,
  l1_distance,
  l2_distance,
  mean_over_goals,
  nearest_goal,
  per_part,
  reading,
  squared_distance,
  step_weights,
  weighted_sum,
)
from jepa_wm.planning.mpc import MpcOutput, bind, mpc_step, run_mpc
from jepa_wm.planning.mpc_state import (
  Memory,
  MpcState,
  WarmStart,
  first_state,
)
from jepa_wm.planning.problems import Diagnostics, Plan
from jepa_wm.planning.rollout import rollout_path

PLANNERS = {'cem': cem_plan}
"""Planners over continuous actions by name; all take the same arguments."""

__all__ = [
  'DISTANCES',
  'PLANNERS',
  'STEP_WEIGHTS',
  'ActionBounds',
  'Diagnostics',
  'Guardrail',
  'Memory',
  'MpcOutput',
  'MpcState',
  'NormBall',
  'Plan',
  'RateLimit',
  'RawUnits',
  'WarmStart',
  'bind',
  'cem_plan',
  'cosine_distance',
  'first_state',
  'l1_distance',
  'l2_distance',
  'mean_over_goals',
  'mpc_step',
  'nearest_goal',
  'per_part',
  'reading',
  'rollout_path',
  'run_mpc',
  'squared_distance',
  'step_weights',
  'weighted_sum',
]
