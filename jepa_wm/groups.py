"""A model of several agents, for another number of them."""

import dataclasses

from jepa_wm import exports
from jepa_wm.envs import multi_agent


def with_agents(
  model: exports.WorldModel, num_agents: int
) -> exports.WorldModel:
  """The same weights as the model of another group, not trained again.

  Args:
    model: of agents, such as `multi_agent`.
    num_agents: agents `G` of the group.

  Returns:
    A model whose latents have `G + 1` tokens, and whose actions are those of G
    agents in the units that all had together.

  Raises:
    ValueError: no such number, a model of one agent, one that tells fewer
      agents apart, or heads on it that read latents of another size.
  """
  multi_agent.check_num_agents(num_agents)
  acting = model.model.acting
  if acting is None:
    raise ValueError(
      f'The model {model.model.config.name!r} has no actions, and so no '
      'agents: leave num_agents out.'
    )
  config = model.model.config.with_agents(num_agents)
  if num_agents == acting.num_agents:
    return model
  if model.above:
    raise ValueError(
      f'The levels above read latents of {acting.num_agents} agents, got '
      f'num_agents={num_agents}: plan without them (upper).'
    )
  known = model.units
  if known is not None:
    known = known.of_agents(acting.num_agents, num_agents)
  return dataclasses.replace(model, model=config.build(), units=known)
