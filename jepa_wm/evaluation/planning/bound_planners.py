"""A planner with all its settings, bound to a model: whoever plans."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jepa_wm import planning
from jepa_wm.evaluation.planning import (
  observations,
  planner_settings,
  planning_model,
)
from jepa_wm.types import CostFn


def bind(
  model: planning_model.PlanningModel,
  settings: planner_settings.PlannerSettings,
  horizon: int,
  bounds: tuple[np.ndarray, np.ndarray],
) -> planning.PlanFn[Any]:
  """The planner of a model as it is set, and the levels above it.

  Args:
    model: the world model.
    settings: of the planner.
    horizon: H, blocks in a plan.
    bounds: lowest and highest raw action `[raw]`.

  Raises:
    ValueError: limits that cannot be met.
  """
  planner, proposals = settings.planner, settings.proposals
  around = settings.agents
  proposal_fn: planning.ProposalFn | None = None
  first_fn: planning.FirstFn | None = None
  if proposals is not None:
    given = model.dynamics, model.latent, horizon
    if planner.searches:
      proposal_fn = proposals.make_fn(*given)
    if planner.follows and proposals.make_first_fn is not None:
      first_fn = proposals.make_first_fn(*given)
  cost_fn, step_weights = planning.over_steps(
    settings.cost, horizon, _cost_fn(model, settings)
  )
  found: planning.PlanFn[Any] = planning.BoundPlanner(
    planner=planner if around is None else around.around(planner),
    dynamics_fn=model.dynamics,
    cost_fn=cost_fn,
    horizon=horizon,
    action_dim=model.action_dim,
    limits=_limits(model, settings, bounds),
    step_weights=step_weights,
    proposal_fn=proposal_fn,
    first_fn=first_fn,
    expecting=model.expecting if planner.expects else None,
    agents=None if around is None else model.agents,
  )
  guard = settings.guard
  for above in settings.upper:
    found = above.over(
      found,
      price_fn=_price_fn(settings),
      read_fn=model.latent,
      latent_dim=_latent_dim(model),
      guardrails=() if guard is None else (guard.of_waypoints(),),
    )
  if (replanning := settings.replanning) is not None:
    found = planning.Noticing(
      plan_fn=found,
      dynamics_fn=model.dynamics,
      expecting=model.expecting,
      horizon=horizon,
      bounds=replanning.bounds,
    )
  return found


def _limits(
  model: planning_model.PlanningModel,
  settings: planner_settings.PlannerSettings,
  bounds: tuple[np.ndarray, np.ndarray],
) -> planning.Limits:
  """The world's bounds, and what is forbidden in it."""
  actions: tuple[planning.ActionBounds, ...] = ()
  if settings.bounded and not settings.planner.discrete:
    actions = (model.action_bounds(*bounds),)
  guard = settings.guard
  if guard is None and settings.agents is None:
    return planning.Limits(actions)
  still = np.zeros_like(np.asarray(bounds[0]))
  return planning.Limits(
    actions,
    () if guard is None else (guard.of_blocks(model.latent),),
    stop=model.action_bounds(still, still).low,
  )


def _latent_dim(model: planning_model.PlanningModel) -> int:
  """Size of the latents that goals are."""
  seen = observations.shapes(model, 1)
  goal = jax.eval_shape(model.root, model.params, seen, seen).goal
  return int(goal.shape[-1])


def _price_fn(
  settings: planner_settings.PlannerSettings,
) -> Callable[[jax.Array, jax.Array], jax.Array]:
  """The price of a latent, by a head or by a distance."""
  if settings.cost_head is not None:
    return settings.cost_head.cost_fn
  price = planning.DISTANCES[settings.distance]
  return lambda latents, goal: price(None, latents, None, goal)


def _cost_fn(
  model: planning_model.PlanningModel,
  settings: planner_settings.PlannerSettings,
) -> CostFn:
  """The price of a state, by a head or by a distance."""
  if settings.cost_head is None:
    return planning_model.cost_fn(model, settings.distance)
  price = _price_fn(settings)
  return planning.reading(
    model.latent,
    lambda params, latent, action, goal: price(latent, goal),
  )
