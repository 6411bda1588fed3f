"""Heads that say above a planner what to reach first."""

import functools
import itertools
from collections.abc import Sequence

from jepa_wm import exports
from jepa_wm.evaluation.planning import levels
from jepa_wm.recipes import planning_heads


def upper(
  paths: Sequence[str],
  checkpoint: str,
  environment: str,
  *,
  horizon: int | None = None,
  every: int | None = None,
) -> tuple[levels.Above, ...]:
  """Levels above the planners of a checkpoint, the lowest first.

  Args:
    paths: of heads that have the role `level` or `subgoals`, as for
      `TrainedHead.load`.
    checkpoint: as for `WorldModel.from_checkpoint`.
    environment: name of the world that is planned in.
    horizon: macro-actions to look ahead, of levels that search; their own
      default if left out.
    every: blocks for which each keeps its subgoal; 1 if left out.

  Raises:
    OSError: no head or no checkpoint.
    ValueError: a broken one, or a head of another encoder, other actions or
      another world, or without either role; one that looks ahead farther than
      it has learnt; a horizon of levels that do not search; or strides that do
      not grow by whole numbers from level to level.
  """
  heads = [
    planning_heads.fitting('upper', path, checkpoint, environment)
    for path in paths
  ]
  if horizon is not None and all(x.head.roles.level is None for x in heads):
    names = ', '.join(repr(x.name) for x in heads)
    raise ValueError(
      f'--upper_horizon={horizon} would do nothing: {names} searches no '
      'macro-actions; leave it out.'
    )
  given = {} if every is None else {'every': every}
  found = tuple(
    _searching(path, head, given, horizon)
    if head.head.roles.level is not None
    else _pointing(path, head, given)
    for path, head in zip(paths, heads)
  )
  for low, high in itertools.pairwise(zip(paths, found)):
    _check_strides(low, high)
  return found


def _pointing(
  path: str, found: exports.TrainedHead, given: dict[str, int]
) -> levels.Above:
  """A level of a head that says what to reach first itself."""
  subgoal_fn = found.head.roles.subgoals
  if subgoal_fn is None:
    raise ValueError(
      f'--upper={path}: the head {found.name!r} is no level above; pass one '
      "that is, such as 'waypoints'."
    )
  return levels.Pointing(
    f'{found.name} {found.digest[:16]}',
    functools.partial(subgoal_fn, found.params),
    found.head.config.stride,
    **given,
  )


def _searching(
  path: str,
  found: exports.TrainedHead,
  given: dict[str, int],
  horizon: int | None,
) -> levels.Above:
  """A level of a head that knows where macro-actions lead."""
  level = found.head.roles.level
  assert level is not None
  most = found.head.config.num_waypoints
  if horizon is not None and horizon > most:
    raise ValueError(
      f'--upper_horizon={horizon}: {path} has learnt {most} macro-actions in a '
      'row; look ahead less far, or train one with '
      f'--config.head.num_waypoints={horizon}.'
    )
  if horizon is None:
    horizon = min(levels.Upper.horizon, most)
  return levels.Upper(
    f'{found.name} {found.digest[:16]}',
    functools.partial(level.step, found.params),
    functools.partial(level.recorded, found.params),
    level.macro_dim,
    level.stride,
    horizon,
    **given,
  )


def _check_strides(
  low: tuple[str, levels.Above], high: tuple[str, levels.Above]
) -> None:
  """Refuses a level that is no whole number of times as long as the one below.

  Raises:
    ValueError: it is not.
  """
  (below, one), (above, other) = low, high
  if other.stride <= one.stride or other.stride % one.stride:
    raise ValueError(
      f'--upper={below},{above}: {above} spans {other.stride} blocks and '
      f'{below} {one.stride}; name the lowest first, and above it one that '
      f'spans a multiple, such as {2 * one.stride} '
      f'(--config.head.stride={2 * one.stride}).'
    )
