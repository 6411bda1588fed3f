"""Clips without actions, for `experiments.train` and `experiments.probe`."""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np

from jepa_wm.data import digits, normalization

NO_ACTIONS = normalization.ActionStatistics(
  np.zeros(1, np.float32), np.ones(1, np.float32)
)
"""Statistics where there is nothing to normalise."""


class Digits:
  """Batches of moving digits, drawn on the device.

  Attributes:
    action_statistics: `NO_ACTIONS`.
    identity: what makes this data this data, beside the fields of the config.
  """

  def __init__(
    self,
    look: digits.MovingDigits,
    *,
    num_frames: int,
    batch_size: int,
    num_eval_windows: int,
  ):
    """Keeps what `digits.moving_digits` takes.

    Args:
      look: how the clips look.
      num_frames: frames `T` of a clip.
      batch_size: clips `B` of a batch.
      num_eval_windows: clips that an evaluation looks at, rounded up to whole
        batches.
    """
    self._look, self._num_eval_windows = look, num_eval_windows
    self._clip = {'num_frames': num_frames, 'batch_size': batch_size}
    self.action_statistics = NO_ACTIONS
    self.identity: dict[str, Any] = {}

  def batches(self, split: str, seed: int) -> Any:
    """Endless batches of `split` in the order of `seed`."""
    return digits.moving_digits(
      self._look, split=split, seed=seed, **self._clip
    )

  def some_batches(self, split: str, seed: int) -> list[Mapping[str, Any]]:
    """The clips that evaluations look at."""
    count = -(-self._num_eval_windows // self._clip['batch_size'])
    return list(itertools.islice(self.batches(split, seed), count))


def check_no_actions(source: str, family: Any) -> None:
  """Refuses a family that wants actions from data that has none.

  Raises:
    ValueError: it does.
  """
  if getattr(family, 'action_dim', 0):
    raise ValueError(
      f'config.data.source={source!r} has no actions, and {family.name} learns '
      "from them; take 'cache' or 'simulation', or a family without actions "
      '(vjepa, ijepa).'
    )
