"""Heads that say above a planner what to reach first."""

from collections.abc import Sequence

from jepa_wm import hierarchy
from jepa_wm.evaluation.planning import levels
from jepa_wm.recipes import planning_heads


def upper(
  paths: Sequence[str],
  checkpoint: str,
  environment: str | None,
  *,
  horizon: int | None = None,
  every: int | None = None,
) -> tuple[levels.Above, ...]:
  """Levels above the planners of a checkpoint, the lowest first.

  Args:
    paths: of heads that have the role `level` or `subgoals`, as for
      `TrainedHead.load`.
    checkpoint: as for `WorldModel.from_checkpoint`.
    environment: see `planning_heads.proposals`.
    horizon: see `hierarchy.stacked`, as `every`.
    every: blocks for which a subgoal is kept; 1 if left out.

  Raises:
    OSError: no head or no checkpoint.
    ValueError: a number below one, a broken head, one of another encoder,
      other actions or another world, and what `hierarchy.stacked` refuses.
  """
  for name, value in (('upper_horizon', horizon), ('subgoal_every', every)):
    if value is not None and value < 1:
      raise ValueError(f'{name} must be at least 1, got {value}.')
  heads = [
    planning_heads.fitting('upper', path, checkpoint, environment)
    for path in paths
  ]
  return hierarchy.stacked(
    heads, names=paths, horizon=horizon, every=1 if every is None else every
  )
