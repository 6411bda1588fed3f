"""JEPA world models in JAX: representation-space predictors and planning."""

from jepa_wm.exports import WorldModel
from jepa_wm.planning import ActionBounds, Plan, cem_plan, run_mpc
from jepa_wm.types import CostFn, DynamicsFn, LatentState, Params, Root

__version__ = '0.1.0'

__all__ = [
  'ActionBounds',
  'CostFn',
  'DynamicsFn',
  'LatentState',
  'Params',
  'Plan',
  'Root',
  'WorldModel',
  'cem_plan',
  'run_mpc',
]
