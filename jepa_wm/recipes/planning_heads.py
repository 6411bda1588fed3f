"""What heads do for plans: propose actions, draw imagination."""

import functools

from jepa_wm import exports
from jepa_wm.envs import worlds
from jepa_wm.evaluation.diagnostics import imagination
from jepa_wm.evaluation.planning import planner_settings


def proposals(path: str, checkpoint: str) -> planner_settings.Proposals:
  """A head that proposes actions, for the planners of a checkpoint.

  Args:
    path: of the head, as for `TrainedHead.load`.
    checkpoint: as for `WorldModel.from_checkpoint`.

  Raises:
    OSError: no head or no checkpoint.
    ValueError: a broken one, or a head of another encoder or without the role.
  """
  model = exports.WorldModel.from_checkpoint(checkpoint)
  found = exports.TrainedHead.load(path, model=model, where=checkpoint)
  make_fn = found.head.roles.proposal
  if make_fn is None:
    raise ValueError(
      f'--proposals={path}: the head {found.name!r} proposes no actions; pass '
      "a 'policy' or an 'inverse_dynamics'."
    )
  return planner_settings.Proposals(
    f'{found.name} {found.digest[:16]}',
    lambda dynamics_fn, read_fn, horizon: make_fn(
      dynamics_fn, read_fn, horizon, found.params
    ),
  )


def drawing(
  path: str, model: exports.WorldModel, checkpoint: str
) -> exports.TrainedHead:
  """A head that draws latents.

  Args:
    path: of the head, as for `TrainedHead.load`.
    model: the checkpoint's.
    checkpoint: its name, for messages.

  Raises:
    OSError: no head.
    ValueError: a broken one, a head of another encoder or without the role.
  """
  found = exports.TrainedHead.load(path, model=model, where=checkpoint)
  if found.head.roles.picture is None:
    raise ValueError(
      f'--decoder={path}: the head {found.name!r} draws no pictures; pass a '
      "'decoder'."
    )
  return found


def decoder(
  path: str, model: exports.WorldModel, checkpoint: str, environment: str
) -> exports.TrainedHead:
  """The head that draws what a checkpoint imagines in a world.

  Args:
    path: of the head, as for `TrainedHead.load`.
    model: the checkpoint's.
    checkpoint: its name, for messages.
    environment: the world's.

  Raises:
    OSError: no head.
    ValueError: a broken one, a head of another encoder or without the role, or
      a world that is not played for videos.
  """
  found = drawing(path, model, checkpoint)
  if worlds.get(environment).on_host:
    raise ValueError(
      f'--decoder: {environment!r} is a world on the host, which is not played '
      'for videos; leave it out.'
    )
  return found


def imagined(
  head: exports.TrainedHead | None, model: exports.WorldModel, environment: str
) -> imagination.Videos | None:
  """What a model imagines in a world, drawn; None without a decoder."""
  if head is None or (picture_fn := head.head.roles.picture) is None:
    return None
  return imagination.record(
    model,
    worlds.get(environment),
    functools.partial(picture_fn, head.params),
  )
