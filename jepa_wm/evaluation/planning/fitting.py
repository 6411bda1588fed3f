"""Whether a model, a planner and a world belong together."""

from jepa_wm import planning
from jepa_wm.envs import stage as stage_lib
from jepa_wm.evaluation.planning import (
  observations,
  planner_settings,
  planning_model,
  remembering,
)
from jepa_wm.evaluation.planning import protocol as protocol_lib


def check_blocks(
  model: planning_model.PlanningModel, protocol: protocol_lib.Protocol
) -> None:
  """Refuses a model whose blocks are not the protocol's.

  Args:
    model: that plans.
    protocol: counts in blocks.

  Raises:
    ValueError: they are of other lengths.
  """
  if model.action_block != protocol.action_block:
    raise ValueError(
      f'action_block of the model is {model.action_block}, but protocol '
      f'{protocol.name!r} in {protocol.environment!r} counts its horizon in '
      f'blocks of {protocol.action_block} environment steps: train a model '
      f'with --config.model.action_block={protocol.action_block}.'
    )


def check_world(
  model: planning_model.PlanningModel,
  protocol: protocol_lib.Protocol,
  settings: planner_settings.PlannerSettings,
  stage: stage_lib.Stage,
) -> None:
  """Refuses a model or a planner that was made for another world.

  Args:
    model: that plans.
    protocol: names the world.
    settings: name the planner.
    stage: of the world.

  Raises:
    ValueError: other actions, another size of pictures, no proprio that the
      model sees, or a planner for the other kind of actions.
  """
  if model.action_dim != model.action_block * stage.action_dim:
    raise ValueError(
      f'action_dim of the model is {model.action_dim}, but a block of '
      f'{model.action_block} actions in {protocol.environment!r} has '
      f'{model.action_block * stage.action_dim} numbers; the model was trained '
      'in another world.'
    )
  if model.image_size != stage.image_size:
    raise ValueError(
      f'image_size of the stage must be {model.image_size}, that of the model, '
      f'got {stage.image_size}.'
    )
  observations.check_proprio(model, protocol.environment, stage.proprio_dim)
  is_discrete = stage.is_discrete
  if is_discrete != settings.planner.discrete:
    kind = 'discrete' if is_discrete else 'continuous'
    fitting = [
      name
      for name, planner in planning.PLANNERS.items()
      if planner().discrete == is_discrete
    ]
    raise ValueError(
      f'planner must be one of {", ".join(fitting)}, since the '
      f"world's actions are {kind}, got {settings.name!r}."
    )
  if is_discrete and model.action_block != 1:
    raise ValueError(
      'discrete actions are planned one at a time, so the model must have '
      f'action_block 1, got {model.action_block}; train it with '
      '--config.model.action_block=1.'
    )


def check_model(
  model: planning_model.PlanningModel,
  settings: planner_settings.PlannerSettings,
) -> None:
  """Refuses settings that mean nothing to a model; computes nothing.

  Args:
    model: that plans.
    settings: how.

  Raises:
    ValueError: the model looks back less than `history` frames, has no such
      `memory`, or has the actions of one agent where they say how it plans for
      several.
  """
  remembering.check(model, settings)
  if settings.agents is not None and model.agents.number == 1:
    raise ValueError(
      f'agents_plan={settings.agents.scheme} would do nothing: the model has '
      'the actions of one agent; leave it out, or take a checkpoint of '
      'several, such as multi_agent.'
    )
