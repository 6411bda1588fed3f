"""What heads do for plans: act, propose, price, draw imagination."""

import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from jepa_wm import exports
from jepa_wm.envs import worlds
from jepa_wm.evaluation.diagnostics import imagination
from jepa_wm.evaluation.planning import planner_settings
from jepa_wm.models.heads import rolling
from jepa_wm.types import PolicyFn


def proposals(
  path: str, checkpoint: str, environment: str | None
) -> planner_settings.Proposals:
  """A head that proposes actions, for the planners of a checkpoint.

  Args:
    path: of the head, as for `TrainedHead.load`; or the checkpoint, where the
      model has learnt a policy itself.
    checkpoint: as for `WorldModel.from_checkpoint`.
    environment: name of the world that is planned in, None where nobody knows.

  Raises:
    OSError: no head or no checkpoint.
    ValueError: a broken one, or a head of another encoder, other actions or
      another world, or without the role.
  """
  if exports.encoder_of(folder_of('--proposals', path)) is None:
    return _own(path, checkpoint)
  found = fitting('proposals', path, checkpoint, environment)
  make_fn, policy_fn = found.head.roles.proposal, found.head.roles.policy
  if make_fn is None:
    raise ValueError(
      f'--proposals={path}: the head {found.name!r} proposes no actions; pass '
      "one that acts, such as 'policy', 'gcivl' or 'inverse_dynamics'."
    )
  first: Any = None
  if policy_fn is not None:
    first = functools.partial(
      rolling.followed,
      policy_fn,
      found.params,
      block=found.head.sizes.action_block,
    )
  return planner_settings.Proposals(
    f'{found.name} {found.digest[:16]}',
    lambda dynamics_fn, read_fn, horizon: make_fn(
      dynamics_fn, read_fn, horizon, found.params
    ),
    first,
  )


def _policy(checkpoint: str) -> PolicyFn | None:
  """The policy that a model has learnt itself."""
  acting = exports.WorldModel.from_checkpoint(checkpoint).model.acting
  return None if acting is None else acting.policy


def _own(path: str, checkpoint: str) -> planner_settings.Proposals:
  """What the model of a checkpoint proposes itself."""
  model = exports.WorldModel.from_checkpoint(path)
  policy_fn = _policy(path)
  if policy_fn is None:
    raise ValueError(
      f'--proposals={path}: a model without a policy; pass a head that acts, '
      'or a model trained with --config.model.terms.policy.weight above 0.'
    )
  known, wanted = (
    exports.encoder_fingerprint(x)
    for x in (model, exports.WorldModel.from_checkpoint(checkpoint))
  )
  if known != wanted:
    raise ValueError(
      f'--proposals={path} reads the latents of its own encoder '
      f'({known[:12]}), and {checkpoint} has another ({wanted[:12]}); pass '
      f'--checkpoint={path}.'
    )
  block = model.action_block
  settings: dict[str, Any] = {'block': block}

  def propose(dynamics_fn: Any, read_fn: Any, horizon: int) -> Any:
    return rolling.rolled(
      policy_fn,
      model.params,
      dynamics_fn,
      read_fn,
      horizon,
      steps=[horizon * block],
      **settings,
    )

  return planner_settings.Proposals(
    f'{model.model.config.name} {known[:16]}',
    propose,
    functools.partial(rolling.followed, policy_fn, model.params, **settings),
  )


def who_plans(
  checkpoint: str,
  proposals: str | None,
  planners: Sequence[planner_settings.PlannerSettings],
) -> tuple[str, str | None]:
  """The model of a checkpoint, and who proposes.

  Args:
    checkpoint: a model, or a head that acts and names its encoder.
    proposals: a head, if one was named beside it.
    planners: who is to plan.

  Returns:
    What `WorldModel.from_checkpoint` and `TrainedHead.load` take; None where
    nobody proposes.

  Raises:
    OSError: nothing there.
    ValueError: a broken one, a head beside another, or planners that would not
      follow it.
  """
  encoder = exports.encoder_of(checkpoint)
  if encoder is None:
    follows = any(x.planner.follows for x in planners)
    if proposals is None and follows and _policy(checkpoint) is not None:
      return checkpoint, checkpoint
    return checkpoint, proposals
  if proposals is not None:
    raise ValueError(
      f'--proposals={proposals} and --checkpoint={checkpoint} are two heads, '
      f'and one acts; pass --checkpoint={encoder} with one of them.'
    )
  others = [x.name for x in planners if not x.planner.follows]
  if others:
    raise ValueError(
      f'--checkpoint={checkpoint} is a head, which planners that do what it '
      f'says take (policy, fast_slow), and not {", ".join(others)}; pass '
      f'--checkpoint={encoder} --proposals={checkpoint}.'
    )
  try:
    exports.find(encoder)
  except FileNotFoundError as error:
    raise FileNotFoundError(
      f'--checkpoint={checkpoint} is a head of the encoder at {encoder}, which '
      'is not there; pass --checkpoint=ENCODER '
      f'--proposals={checkpoint}.'
    ) from error
  return encoder, checkpoint


def cost_head(
  path: str, checkpoint: str, environment: str | None
) -> planner_settings.CostHead:
  """A head that prices latents, for the planners of a checkpoint.

  Args and errors are those of `proposals`.
  """
  found = fitting('cost_head', path, checkpoint, environment)
  cost_fn = found.head.roles.cost
  if cost_fn is None:
    raise ValueError(
      f'--cost_head={path}: the head {found.name!r} prices nothing; pass one '
      "that does, such as 'temporal_distance' or 'gcivl'."
    )
  return planner_settings.CostHead(
    f'{found.name} {found.digest[:16]}',
    functools.partial(cost_fn, found.params),
  )


def fitting(
  flag: str, path: str, checkpoint: str, environment: str | None
) -> exports.TrainedHead:
  """A head that reads a checkpoint's latents and knows its world's actions.

  Args:
    flag: that named it, for messages.
    path: see `proposals`, as `checkpoint` and `environment`.
    checkpoint: whose latents it is to read.
    environment: name of the world.

  Raises:
    OSError: no head or no checkpoint.
    ValueError: it does not fit.
  """
  model = exports.WorldModel.from_checkpoint(checkpoint)
  folder = folder_of(f'--{flag}', path)
  found = exports.TrainedHead.load(folder, model=model, where=checkpoint)
  sizes = found.head.sizes
  known = sizes.action_dim, sizes.action_block
  wanted = model.action_dim, model.action_block
  if sizes.action_dim and known != wanted:
    raise ValueError(
      f'--{flag}={path}: the head {found.name!r} knows blocks of {known[1]} '
      f'steps with {known[0]} numbers, and {checkpoint} takes blocks of '
      f'{wanted[1]} with {wanted[0]}; train a head for it, with '
      f'--config.frozen_encoder={checkpoint}.'
    )
  # What was learnt in imagination was learnt in the model's world.
  trained = _world_of(found.record) or _world_of(model.record)
  if (
    environment is not None
    and worlds.find(trained)
    and not worlds.are_alike(trained, environment)
  ):
    raise ValueError(
      f'--{flag}={path}: the head {found.name!r} was trained in {trained!r} '
      f'and is asked for {environment!r}; train one on episodes of that.'
    )
  return found


def folder_of(flag: str, path: str) -> pathlib.Path:
  """The exported folder of a head.

  Args:
    flag: that names it, for the message: `--proposals`.
    path: as for `TrainedHead.load`.

  Raises:
    FileNotFoundError: nothing there.
  """
  try:
    return exports.find(path)
  except FileNotFoundError as error:
    raise FileNotFoundError(
      f'{flag}={path}: no trained head there; pass the working directory of '
      'a finished training of one, or its exported folder.'
    ) from error


def _world_of(record: Mapping[str, Any]) -> str:
  """The world that something was trained in, empty where nobody knows."""
  config = record.get('config', {})
  # Agents say where they act themselves.
  said = [config.get(x, {}).get('environment') for x in ('agent', 'data')]
  return said[0] or said[1] or ''


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
  folder = folder_of('--decoder', path)
  found = exports.TrainedHead.load(folder, model=model, where=checkpoint)
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


def picture_fn(
  head: exports.TrainedHead | None,
) -> Callable[[jax.Array], jax.Array] | None:
  """What draws latents; None without a decoder."""
  if head is None or (draw_fn := head.head.roles.picture) is None:
    return None
  return functools.partial(draw_fn, head.params)


def imagined(
  head: exports.TrainedHead | None, model: exports.WorldModel, environment: str
) -> imagination.Videos | None:
  """What a model imagines in a world, drawn; None without a decoder."""
  if (draw_fn := picture_fn(head)) is None:
    return None
  return imagination.record(model, worlds.get(environment), draw_fn)
