"""State and goal to actions; knows callables, never networks."""

from collections.abc import Callable

from jepa_wm.planning.categorical_cem import categorical_cem_plan
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
from jepa_wm.planning.gradient import gradient_plan
from jepa_wm.planning.grasp import grasp_plan
from jepa_wm.planning.icem import icem_plan
from jepa_wm.planning.mpc import (
  MpcOutput,
  PlanFn,
  bind,
  mpc_step,
  plan_step,
  run_mpc,
)
from jepa_wm.planning.mpc_state import (
  Memory,
  MpcState,
  WarmStart,
  first_state,
)
from jepa_wm.planning.mppi import mppi_plan
from jepa_wm.planning.predictive_sampling import predictive_sampling_plan
from jepa_wm.planning.problems import Diagnostics, Plan
from jepa_wm.planning.random_shooting import random_shooting_plan
from jepa_wm.planning.rollout import rollout_path

PLANNERS: dict[str, Callable[..., Plan]] = {
  'cem': cem_plan,
  'icem': icem_plan,
  'mppi': mppi_plan,
  'gradient': gradient_plan,
  'grasp': grasp_plan,
  'predictive_sampling': predictive_sampling_plan,
  'random_shooting': random_shooting_plan,
}
"""Planners over continuous actions by name; all take the same arguments."""

DISCRETE_PLANNERS: dict[str, Callable[..., Plan]] = {
  'categorical_cem': categorical_cem_plan
}
"""Planners over actions that are one-hot rows; these take no constraints."""

__all__ = [
  'DISCRETE_PLANNERS',
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
  'PlanFn',
  'RateLimit',
  'RawUnits',
  'WarmStart',
  'bind',
  'categorical_cem_plan',
  'cem_plan',
  'cosine_distance',
  'first_state',
  'gradient_plan',
  'grasp_plan',
  'icem_plan',
  'l1_distance',
  'l2_distance',
  'mean_over_goals',
  'mpc_step',
  'mppi_plan',
  'nearest_goal',
  'per_part',
  'plan_step',
  'predictive_sampling_plan',
  'random_shooting_plan',
  'reading',
  'rollout_path',
  'run_mpc',
  'squared_distance',
  'step_weights',
  'weighted_sum',
]
