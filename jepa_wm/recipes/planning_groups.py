"""The model that plans in a world, and the world of a model.

A model of several agents plans for any number of them.
"""

from jepa_wm import export_folder, exports, groups
from jepa_wm.envs import worlds


def load(checkpoint: str, environment: str | None) -> exports.WorldModel:
  """A checkpoint as the model of as many agents as act in a world.

  Args:
    checkpoint: as for `WorldModel.from_checkpoint`.
    environment: the world; None where the model's own will do.

  Raises:
    OSError: no checkpoint.
    ValueError: a broken one, or one that cannot be that of so many agents.
  """
  model = exports.WorldModel.from_checkpoint(checkpoint)
  acting = model.model.acting
  world = None if environment is None else worlds.find(environment)
  if acting is None or world is None or world.num_agents is None:
    return model
  if acting.action_spec.dim == world.make().action_dim:
    return model
  return groups.with_agents(model, world.num_agents)


def environment_of(checkpoint: str) -> str:
  """The world that a checkpoint was trained in.

  Raises:
    OSError: no checkpoint.
    ValueError: a broken one, or one that does not name its world.
  """
  config = export_folder.read_config(
    exports.find(checkpoint) / export_folder.CONFIG
  )
  data = config.get('record', {}).get('config', {}).get('data', {})
  if not data.get('environment'):
    raise ValueError(
      f'{checkpoint} does not say which world its data is of; name it with '
      f'--environment, one of {", ".join(sorted(worlds.WORLDS))}.'
    )
  return data['environment']


def named(
  checkpoint: str, environment: str | None, num_agents: int | None
) -> str:
  """The world to plan in.

  Args:
    checkpoint: who plans.
    environment: a world; None for that of the checkpoint, whatever the number
      of agents it saw.
    num_agents: who act there; None for as many as the world says.

  Raises:
    OSError: no checkpoint.
    ValueError: a broken one or one that does not name its world, or what
      `worlds.with_num_agents` refuses.
  """
  if environment is None:
    environment = environment_of(checkpoint)
    world = worlds.get(environment)
    if num_agents is not None and world.num_agents is not None:
      environment = world.kin or environment
  return worlds.with_num_agents(environment, num_agents)
