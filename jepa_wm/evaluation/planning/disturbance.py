"""What became of problems whose agents were moved in the middle."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jepa_wm.evaluation.planning import protocol as protocol_lib
from jepa_wm.evaluation.statistics import intervals


class Moved(NamedTuple):
  """Problems that were on their way when something happened.

  Attributes:
    indices: `[n]`, rows of the problems.
    before: `[n, V]`, true states.
    after: `[n, V]`.
  """

  indices: np.ndarray
  before: np.ndarray
  after: np.ndarray


def together(parts: Sequence[Moved]) -> Moved | None:
  """All that were moved, in the order of the problems; None of none."""
  if not parts:
    return None
  whole = [np.concatenate(leaves) for leaves in zip(*parts)]
  order = np.argsort(whole[0])
  return Moved(*(leaf[order] for leaf in whole))


def describe(
  protocol: protocol_lib.Protocol,
  moved: Moved | None,
  successes: Sequence[bool],
  first_steps: Sequence[int | None],
) -> dict[str, Any]:
  """What a record says of a disturbance.

  Args:
    protocol: which says when it was.
    moved: who was; None of none.
    successes: of all problems, by the protocol's rule.
    first_steps: steps until their goals were reached for the first time.

  Returns:
    How many were disturbed and how many of those solved later on, with
    Wilson's 95 % interval, and the median of the steps that took.
  """
  at = protocol.disturbed_at
  assert at is not None
  indices = [] if moved is None else moved.indices.tolist()
  solved = [i for i in indices if successes[i]]
  steps = [s - at for i in solved if (s := first_steps[i]) is not None]
  return {
    'kind': protocol.disturb,
    'step': at,
    'num_disturbed': len(indices),
    'num_recovered': len(solved),
    'interval_95': (
      list(intervals.wilson_interval(len(solved), len(indices)))
      if indices
      else None
    ),
    # Who was there before may have come back without being counted anew.
    'steps_to_recover': (
      float(np.median(steps)) if steps and min(steps) > 0 else None
    ),
  }
