"""Student's t of paired differences, and the tail of its distribution."""

import math
from typing import NamedTuple

import numpy as np

_TINY = 1e-300
_MOST_TERMS = 1000


class PairedT(NamedTuple):
  """How sure it is that a difference is none.

  Attributes:
    t: the mean difference in units of its own deviation.
    p_value: two-sided, of a mean of zero.
  """

  t: float
  p_value: float


def paired(differences: np.ndarray) -> PairedT:
  """The t-test of pairs.

  Args:
    differences: `[N]`, one number a pair.

  Returns:
    `t` and its two-sided p; of differences that are all alike, infinity and 0,
    or 0 and 1 where they are zero.

  Raises:
    ValueError: fewer than two pairs.
  """
  each = np.asarray(differences, np.float64)
  if each.ndim != 1 or len(each) < 2:
    raise ValueError(
      f'differences must be [N] of two pairs or more, got {list(each.shape)}.'
    )
  mean, error = each.mean(), each.std(ddof=1) / math.sqrt(len(each))
  if error == 0.0:
    return PairedT(
      math.copysign(math.inf, mean) if mean else 0.0, 0.0 if mean else 1.0
    )
  t = float(mean / error)
  return PairedT(t, two_sided_p(t, len(each) - 1))


def two_sided_p(t: float, degrees: int) -> float:
  """Chance that Student's t is farther from zero than `t` is.

  The regularised incomplete beta function I_x(n / 2, 1 / 2) at x = n / (n +
  t^2), as its continued fraction (Lentz), in float64.

  Args:
    t: the statistic.
    degrees: n, of freedom.
  """
  return _beta(degrees / (degrees + t * t), degrees / 2, 0.5)


def _beta(x: float, a: float, b: float) -> float:
  """I_x(a, b)."""
  if x in (0.0, 1.0):
    return x
  # The fraction converges quickly below the mean alone.
  if x > (a + 1) / (a + b + 2):
    return 1.0 - _beta(1.0 - x, b, a)
  scale = a * math.log(x) + b * math.log1p(-x)
  scale += math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
  above, below = 1.0, 1.0 / _apart(1.0 - (a + b) * x / (a + 1))
  value = below
  for m in range(1, _MOST_TERMS):
    even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
    odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
    for term in (even, odd):
      below = 1.0 / _apart(1.0 + term * below)
      above = _apart(1.0 + term / above)
      value *= above * below
    if abs(above * below - 1.0) < 1e-15:
      break
  return math.exp(scale) * value / a


def _apart(value: float) -> float:
  """Not so close to zero that one cannot divide by it."""
  return value if abs(value) > _TINY else _TINY
