"""The fields that say where the windows of a training come from."""

import dataclasses

from jepa_wm import bounds, fields
from jepa_wm.data import digits

TFDS = 'tfds:'
"""Begins the names of datasets that TFDS has on disk."""

SOURCES = ('cache', 'simulation', 'digits', f'{TFDS}NAME')
"""What windows are made of."""

_LEAST = {
  'batch_size': 1,
  'num_eval_windows': 1,
  'num_frames': 0,
  'num_episodes': 0,
  'episode_length': 1,
  'num_digits': 1,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
  """Where windows come from.

  Attributes:
    source: 'cache' reads episodes that `experiments.collect` wrote;
      'simulation' plays and renders them on the device, nothing on disk;
      'digits' moves handwritten digits about, and 'tfds:NAME' reads what TFDS
      has on disk, both for models without actions. Of these a mixture has
      several, with commas between; 'digits:noise' has a background of its own.
    weights: share of each part of a mixture in a batch, of any sum; nothing for
      equal ones.
    path: of the episodes, for 'cache'.
    num_episodes: how many of the training episodes there are read, the first
      ones, for 'cache'; 0 for all. Held-out episodes stay what they are.
    environment: name of the world that is played, for 'simulation'; a cache
      knows its own.
    num_frames: frames `T` of a window; 0 for as many as the model needs.
    batch_size: windows `B` of a batch.
    num_eval_windows: windows that an evaluation looks at, rounded up to whole
      batches.
    action_noise: of the expert who plays, for 'simulation'.
    episode_length: steps of an episode at most, for 'simulation'.
    num_digits: digits in a clip, for 'digits'.
    background: what is behind them, one of `digits.BACKGROUNDS`.
  """

  source: str = 'cache'
  weights: tuple[float, ...] = ()
  path: str = 'data/two_room'
  num_episodes: int = 0
  environment: str = 'two_room'
  num_frames: int = 0
  batch_size: int = 128
  num_eval_windows: int = 512
  action_noise: float = 2.0
  episode_length: int = 100
  num_digits: int = 1
  background: str = 'none'

  def __post_init__(self):
    if not isinstance(self.weights, (list, tuple)):
      raise ValueError(
        f'config.data.weights must list numbers, got {self.weights!r:.60}.'
      )
    object.__setattr__(self, 'weights', tuple(self.weights))
    if self.num_episodes and self.source != 'cache':
      raise ValueError(
        f'config.data.num_episodes={self.num_episodes} would do nothing: '
        f"only source='cache' has so many, and source is {self.source!r}."
      )
    for part in self.parts:
      if not part.startswith(TFDS):
        kind, _, background = part.partition(':')
        kind = part if background and kind != 'digits' else kind
        fields.check_choice('config.data.source', kind, SOURCES)
    if len(self.parts) > 1 and {'cache', 'simulation'} & {*self.parts}:
      raise ValueError(
        "config.data.source: a mixture is of 'digits' and 'tfds:NAME', got "
        f'{self.source!r}.'
      )
    if self.weights and (
      len(self.parts) == 1 or len(self.weights) != len(self.parts)
    ):
      raise ValueError(
        f'config.data.weights={self.weights} must be one for each part of a '
        f'mixture, and config.data.source is {self.source!r}.'
      )
    self._check_numbers()
    if not self.environment.strip():
      raise ValueError(
        'config.data.environment must name a world, got '
        f'{self.environment!r}; leave it out.'
      )
    fields.check_choice(
      'config.data.background', self.background, digits.BACKGROUNDS
    )

  def _check_numbers(self) -> None:
    """Refuses numbers out of their range, of any source."""
    for name, least in _LEAST.items():
      value = getattr(self, name)
      if bounds.is_whole(value) and value < least:
        raise ValueError(
          f'config.data.{name} must be at least {least}, got {value}.'
        )
      bounds.check_whole(f'config.data.{name}', value, least=least)
    bounds.check_number('config.data.action_noise', self.action_noise, 1e6)
    for weight in self.weights:
      bounds.check_number('config.data.weights', weight)

  def check_unused(self, name: str, why: str) -> None:
    """Refuses a field that a training does not read.

    Args:
      name: of the field.
      why: it is not read, for the message.

    Raises:
      ValueError: it is not its default.
    """
    value = getattr(self, name)
    if value != getattr(type(self), name):
      raise ValueError(
        f'config.data.{name}={value} would do nothing: {why}; leave it out.'
      )

  @property
  def parts(self) -> tuple[str, ...]:
    """The sources of a mixture; one of any other."""
    return tuple(self.source.split(','))
