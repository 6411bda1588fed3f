"""Which frames an action lies between, measured where writers disagree.

A row of a table holds a frame and an action. Most mean the action that led from
this frame to the next ('after'); some the one that led here ('before', what a
simulator's `info` holds after a step); and stable-worldmodel moves the first
row's action to the end, which is right for actions that led here, and shifts
actions by one row ('rotated') for any other.
"""

from collections.abc import Sequence

import numpy as np

# An alignment is told from another by what it leaves unexplained.
_CLEARLY = 0.5
_EXPLAINED = 0.5
_MIN_ROWS = 32


def detect(
  episodes: Sequence[tuple[np.ndarray, np.ndarray]],
) -> tuple[str, str | None]:
  """Finds the alignment that explains how states change.

  An action missing (NaN) in every first or every last row decides. Else the
  change of every state dimension is regressed on the state and on the row's
  own, the next row's or the previous row's action. Actions of the future do
  not move a state, so a next row's action that explains clearly more led here.
  A previous row's action explains positions that have momentum, too, and is
  believed only if the last row's action explains the first change.

  Args:
    episodes: states float `[T, V]` (`V` may be 0) and actions `[T, A]` of some
      episodes; NaN where there is none.

  Returns:
    'after', 'before' or 'rotated', and a sentence where it could not be told.
  """
  episodes = [(s, a) for s, a in episodes if len(a) > 3]
  if not episodes:
    return 'after', 'no episode has more than three rows'
  first, last = (
    np.array([not np.isfinite(a[row]).all() for _, a in episodes])
    for row in (0, -1)
  )
  if last.all():
    return 'after', None
  if first.all():
    return 'before', None
  episodes = [
    (np.asarray(s, np.float64), np.asarray(a, np.float64))
    for s, a in episodes
    if np.isfinite(s).all() and np.isfinite(a).all()
  ]
  if sum(len(a) - 3 for _, a in episodes) < _MIN_ROWS:
    return 'after', 'too few rows without NaN'
  if not episodes[0][0].shape[1]:
    return 'after', 'there is no state to compare with'
  states, changes, actions = _lagged(episodes)
  before_action = _residual(states, changes, None)
  moving = before_action > 1e-12 * (1 + np.var(states, axis=0))
  if not moving.any():
    return 'after', 'the state does not change'
  ratios = {
    lag: np.where(
      moving,
      _residual(states, changes, a) / np.maximum(before_action, 1e-300),
      1.0,
    )
    for lag, a in actions.items()
  }
  # By the dimension that says most: others may be moved by contacts alone.
  own, following, previous = (float(np.min(ratios[lag])) for lag in (0, 1, -1))
  if following < min(_EXPLAINED, _CLEARLY * own):
    return 'before', None
  dimension = int(np.argmin(ratios[-1]))
  if previous < min(_EXPLAINED, _CLEARLY * own) and _last_is_first(
    episodes, dimension
  ):
    return 'rotated', None
  if min(own, following, previous) > _EXPLAINED:
    return 'after', 'actions explain too little of how the state changes'
  if following < _EXPLAINED and own > _CLEARLY * following:
    return 'after', "the next row's actions explain as much as the row's own"
  return 'after', None


def _lagged(
  episodes: Sequence[tuple[np.ndarray, np.ndarray]],
) -> tuple[np.ndarray, np.ndarray, dict[int, np.ndarray]]:
  """States, their changes, and actions of this and neighbouring rows."""
  states = np.concatenate([s[1:-2] for s, _ in episodes])
  changes = np.concatenate([np.diff(s, axis=0)[1:-1] for s, _ in episodes])
  actions = {
    lag: np.concatenate([a[1 + lag : len(a) - 2 + lag] for _, a in episodes])
    for lag in (-1, 0, 1)
  }
  return states, changes, actions


def _design(states: np.ndarray, actions: np.ndarray | None) -> np.ndarray:
  parts = [np.ones((len(states), 1)), states]
  return np.concatenate(parts + ([] if actions is None else [actions]), axis=1)


def _residual(
  states: np.ndarray, changes: np.ndarray, actions: np.ndarray | None
) -> np.ndarray:
  """Mean square that a linear fit leaves of each dimension's change."""
  design = _design(states, actions)
  weights = np.linalg.lstsq(design, changes, rcond=None)[0]
  return np.mean((changes - design @ weights) ** 2, axis=0)


def _last_is_first(
  episodes: Sequence[tuple[np.ndarray, np.ndarray]], dimension: int
) -> bool:
  """Whether the last row's action explains the first change of a dimension."""
  states, changes, actions = _lagged(episodes)
  design = _design(states, actions[-1])
  weights = np.linalg.lstsq(design, changes[:, dimension], rcond=None)[0]
  begin = np.stack([s[0] for s, _ in episodes])
  change = np.stack([s[1, dimension] - s[0, dimension] for s, _ in episodes])
  last, first = (
    np.mean(
      (
        change
        - _design(begin, np.stack([a[row] for _, a in episodes])) @ weights
      )
      ** 2
    )
    for row in (-1, 0)
  )
  return bool(last < _CLEARLY * min(first, np.mean(change**2)))
