"""The fields that say where the windows of a training come from."""

import dataclasses

from jepa_wm import fields

TFDS = 'tfds:'
"""Begins the names of datasets that TFDS has on disk."""

SOURCES = ('cache', 'simulation', 'digits', f'{TFDS}NAME')
"""What windows are made of."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
  """Where windows come from.

  Attributes:
    source: 'cache' reads episodes that `experiments.collect` wrote;
      'simulation' plays and renders them on the device, nothing on disk;
      'digits' moves handwritten digits about, and 'tfds:NAME' reads what TFDS
      has on disk, both for models without actions.
    path: of the episodes, for 'cache'.
    environment: name of the world that is played, for 'simulation'; a cache
      knows its own.
    num_frames: frames `T` of a window.
    batch_size: windows `B` of a batch.
    num_eval_windows: windows that an evaluation looks at, rounded up to whole
      batches.
    action_noise: of the expert who plays, for 'simulation'.
    episode_length: steps of an episode at most, for 'simulation'.
    num_digits: digits in a clip, for 'digits'.
    background: what is behind them, one of `digits.BACKGROUNDS`.
  """

  source: str = 'cache'
  path: str = 'data/two_room'
  environment: str = 'two_room'
  num_frames: int = 4
  batch_size: int = 128
  num_eval_windows: int = 512
  action_noise: float = 2.0
  episode_length: int = 100
  num_digits: int = 1
  background: str = 'none'

  def __post_init__(self):
    if not self.source.startswith(TFDS):
      fields.check_choice('config.data.source', self.source, SOURCES)
    if self.num_eval_windows < 1:
      raise ValueError(
        'config.data.num_eval_windows must be at least 1, got '
        f'{self.num_eval_windows}.'
      )
