"""Whose each number of a model's actions is, for planners."""

from typing import Any

import jax

from jepa_wm import planning
from jepa_wm.models import model as model_lib
from jepa_wm.types import LatentState, Params


def agents_of(model: model_lib.Advances) -> planning.Agents:
  """Who acts in a model: one agent, or those of a group.

  Args:
    model: whose latents are priced by `agent_costs`.
  """

  def costs(
    params: Params, state: LatentState, action: jax.Array, goal: Any
  ) -> jax.Array:
    del params, action
    return model.agent_costs(model.read(state), goal)

  number, spec = model.num_agents, model.action_spec
  size = spec.dim // number
  return planning.Agents.of_blocks(number, spec.block, size, costs)
