"""Columns of many episodes, one after another: what windows are cut from."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from jepa_wm.data import columns as columns_lib


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
  """`N` frames of `E` episodes.

  Attributes:
    where: what it is, for messages.
    columns: under their names. A row a frame, `[N, ...]`, in arrays or in
      `chunks.ChunkedFrames`, which are indexed alike; of a step the row is that
      of the frame before, NaN after an episode's last one. Those of an episode
      and `is_terminal` have a row an episode, `[E, ...]`.
    offsets: int64 `[E]`, index of each episode's first frame.
    lengths: int64 `[E]`, number of frames of each episode.
  """

  where: str
  columns: Mapping[str, Any]
  offsets: np.ndarray
  lengths: np.ndarray

  @property
  def num_frames(self) -> int:
    """All frames `N`."""
    return len(self.columns['action'])

  def episodes(self, rows: slice) -> Self:
    """Some of the episodes; frames keep their indices."""
    per_episode = {*columns_lib.EPISODES, 'is_terminal'}
    return dataclasses.replace(
      self,
      columns={
        name: array[rows] if name in per_episode else array
        for name, array in self.columns.items()
      },
      offsets=self.offsets[rows],
      lengths=self.lengths[rows],
    )

  def episode_of(self, frames: np.ndarray) -> np.ndarray:
    """Numbers of the episodes that frames are of."""
    return np.searchsorted(self.offsets, frames, side='right') - 1
