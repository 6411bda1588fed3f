"""What order alone tells: rank correlation, and how often one is above."""

import numpy as np


def ranks(values: np.ndarray) -> np.ndarray:
  """Ranks of `values` `[N]` from 1 on, the mean of their places for ties."""
  values = np.asarray(values, np.float64)
  ordered = np.sort(values)
  below = np.searchsorted(ordered, values, 'left')
  upto = np.searchsorted(ordered, values, 'right')
  return (below + upto + 1) / 2


def spearman(one: np.ndarray, other: np.ndarray) -> float:
  """Rank correlation of `[N]` and `[N]`, ties by their mean rank.

  Returns:
    1 where both are in one order, -1 in the opposite; NaN where one of them is
    the same number throughout, which has no order.

  Raises:
    ValueError: other shapes, or fewer than two numbers.
  """
  shapes = np.shape(one), np.shape(other)
  if shapes[0] != shapes[1] or len(shapes[0]) != 1 or shapes[0][0] < 2:
    raise ValueError(
      'a rank correlation takes [N] and [N], two numbers or more, got '
      f'{list(shapes[0])} and {list(shapes[1])}.'
    )
  a, b = (x - x.mean() for x in (ranks(one), ranks(other)))
  size = float(np.sqrt(np.sum(a * a) * np.sum(b * b)))
  return float(np.sum(a * b)) / size if size > 0 else float('nan')


def auroc(ordinary: np.ndarray, odd: np.ndarray) -> float:
  """Chance that an odd case scores above an ordinary one, ties half.

  The area under the receiver operating characteristic, by ranks (the
  Mann-Whitney statistic).

  Args:
    ordinary: `[M]` scores.
    odd: `[N]` scores.

  Returns:
    1 where all odd cases score higher, 0.5 where the score tells nothing.
  """
  ranked = np.sort(ordinary)
  below = np.searchsorted(ranked, odd, 'left')
  upto = np.searchsorted(ranked, odd, 'right')
  return float(np.mean(below + upto) / (2 * len(ordinary)))
