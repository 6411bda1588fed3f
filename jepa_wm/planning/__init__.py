"""State and goal to actions; knows callables, never networks."""

import importlib
import pkgutil

from jepa_wm.planning.agents import AgentCostsFn, Agents
from jepa_wm.planning.categorical_cem import CategoricalCEM
from jepa_wm.planning.cem import CEM
from jepa_wm.planning.compiled import CompiledPlanner
from jepa_wm.planning.constraints import (
  ActionBounds,
  ActionConstraint,
  NormBall,
  RateLimit,
  RawUnits,
)
from jepa_wm.planning.coordinate import Coordinate
from jepa_wm.planning.costs import (
  COSTS,
  DISTANCES,
  STEP_WEIGHTS,
  cosine_distance,
  l1_distance,
  l2_distance,
  mean_over_goals,
  nearest_goal,
  over_steps,
  per_part,
  reading,
  squared_distance,
  step_weights,
  weighted_sum,
)
from jepa_wm.planning.decentralised import PREDICTIONS, Decentralised
from jepa_wm.planning.driver import Planner, search
from jepa_wm.planning.faces import (
  PLANNERS,
  categorical_cem_plan,
  cem_plan,
  coordinate_plan,
  decentralised_plan,
  gradient_plan,
  grasp_plan,
  icem_plan,
  mppi_plan,
  predictive_sampling_plan,
  random_shooting_plan,
  register,
)
from jepa_wm.planning.fast_slow import FastSlow
from jepa_wm.planning.gradient import Gradient
from jepa_wm.planning.grasp import GRASP
from jepa_wm.planning.hierarchical import (
  Hierarchical,
  Pointed,
  Searched,
  Subgoals,
)
from jepa_wm.planning.icem import ICEM
from jepa_wm.planning.limits import FORMS as GUARDRAIL_FORMS
from jepa_wm.planning.limits import NO_LIMITS, Guardrail, Limits
from jepa_wm.planning.moments import (
  Moment,
  discounted_return,
  soonest,
  timed,
  with_params,
)
from jepa_wm.planning.mpc import (
  MpcOutput,
  first_state,
  mpc_step,
  plan_step,
  run_mpc,
)
from jepa_wm.planning.mpc_state import Followed, Following, Memory, MpcState
from jepa_wm.planning.mppi import MPPI
from jepa_wm.planning.noticing import Noticing
from jepa_wm.planning.plan_fn import (
  BoundPlanner,
  Clock,
  Expecting,
  FirstFn,
  PlanFn,
)
from jepa_wm.planning.policy import Policy
from jepa_wm.planning.predictive_sampling import PredictiveSampling
from jepa_wm.planning.problem import (
  Diagnostics,
  NoiseFn,
  Noticed,
  Plan,
  Problem,
  ProposalFn,
  Subgoal,
  WarmStart,
)
from jepa_wm.planning.random_shooting import RandomShooting
from jepa_wm.planning.rollout import rollout_path
from jepa_wm.planning.sampling import Sampling

# A planner that is in no line above registers itself.
for _module in pkgutil.iter_modules(__path__):
  importlib.import_module(f'{__name__}.{_module.name}')

__all__ = [
  'CEM',
  'COSTS',
  'DISTANCES',
  'GRASP',
  'GUARDRAIL_FORMS',
  'ICEM',
  'MPPI',
  'NO_LIMITS',
  'PLANNERS',
  'PREDICTIONS',
  'STEP_WEIGHTS',
  'ActionBounds',
  'ActionConstraint',
  'AgentCostsFn',
  'Agents',
  'BoundPlanner',
  'CategoricalCEM',
  'Clock',
  'CompiledPlanner',
  'Coordinate',
  'Decentralised',
  'Diagnostics',
  'Expecting',
  'FastSlow',
  'FirstFn',
  'Followed',
  'Following',
  'Gradient',
  'Guardrail',
  'Hierarchical',
  'Limits',
  'Memory',
  'Moment',
  'MpcOutput',
  'MpcState',
  'NoiseFn',
  'NormBall',
  'Noticed',
  'Noticing',
  'Plan',
  'PlanFn',
  'Planner',
  'Pointed',
  'Policy',
  'PredictiveSampling',
  'Problem',
  'ProposalFn',
  'RandomShooting',
  'RateLimit',
  'RawUnits',
  'Sampling',
  'Searched',
  'Subgoal',
  'Subgoals',
  'WarmStart',
  'categorical_cem_plan',
  'cem_plan',
  'coordinate_plan',
  'cosine_distance',
  'decentralised_plan',
  'discounted_return',
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
  'over_steps',
  'per_part',
  'plan_step',
  'predictive_sampling_plan',
  'random_shooting_plan',
  'reading',
  'register',
  'rollout_path',
  'run_mpc',
  'search',
  'soonest',
  'squared_distance',
  'step_weights',
  'timed',
  'weighted_sum',
  'with_params',
]
