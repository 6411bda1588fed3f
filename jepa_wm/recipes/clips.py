"""Clips without actions, as a source of a training."""

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jepa_wm import models, units
from jepa_wm.data import config, digits, mixtures

NO_ACTIONS = units.ActionStatistics(
  np.zeros(1, np.float32), np.ones(1, np.float32)
)
"""Statistics where there is nothing to normalise."""


class Clips:
  """Batches of clips from a function that makes streams of them.

  Attributes:
    stream_fn: as given.
    action_statistics: `NO_ACTIONS`.
    identity: what makes this data this data, beside the fields of the config.
    repeats: False: nothing made of a frame can be kept.
    world: None: nobody plays.
  """

  repeats = False
  world = None

  def __init__(
    self,
    stream_fn: Callable[..., Any],
    *,
    batch_size: int,
    num_eval_windows: int,
  ):
    """Keeps how to make streams.

    Args:
      stream_fn: takes `split`, `seed` and `batch_size`, gives an endless
        resumable iterator of batches.
      batch_size: clips `B` of a batch.
      num_eval_windows: clips that an evaluation looks at, rounded up to whole
        batches.
    """
    self.stream_fn, self._batch_size = stream_fn, batch_size
    self._num_eval_windows = num_eval_windows
    self.action_statistics = NO_ACTIONS
    self.identity: dict[str, Any] = {}

  def batches(
    self, split: str, seed: int, *, rows: np.ndarray | None = None
  ) -> Any:
    """Endless batches of `split` in the order of `seed`, or `rows` of each."""
    own = {} if rows is None else {'rows': rows}
    return self.stream_fn(
      split=split, seed=seed, batch_size=self._batch_size, **own
    )

  def some_batches(self, split: str, seed: int) -> list[Mapping[str, Any]]:
    """The clips that evaluations look at."""
    count = -(-self._num_eval_windows // self._batch_size)
    return list(itertools.islice(self.batches(split, seed), count))


def moving_digits(look: digits.MovingDigits, num_frames: int, **sizes: int):
  """A source of moving digits, drawn on the device; `sizes` as for `Clips`."""
  return Clips(
    functools.partial(digits.moving_digits, look, num_frames=num_frames),
    **sizes,
  )


def tfds(
  name: str,
  *,
  image_size: int,
  num_frames: int,
  frame_stride: int,
  **sizes: int,
):
  """A source of what TFDS has on disk.

  Args:
    name: 'tfds:NAME', see `tfds_clips.find`.
    image_size: side of the frames in pixels.
    num_frames: frames `T` of a clip.
    frame_stride: frames of a video from one frame of a clip to the next.
    **sizes: as for `Clips`.
  """
  from jepa_wm.data import tfds_clips

  dataset = tfds_clips.find(name.removeprefix(config.TFDS))
  return Clips(
    functools.partial(
      tfds_clips.tfds_clips,
      dataset,
      image_size=image_size,
      num_frames=num_frames,
      frame_stride=frame_stride,
    ),
    **sizes,
  )


def mixed(parts: Sequence[Clips], weights: Sequence[float], **sizes: int):
  """A source of several others.

  Args:
    parts: the others.
    weights: share of each in a batch, nothing for equal ones.
    **sizes: as for `Clips`.

  Raises:
    ValueError: see `mixtures.counts`.
  """
  weights = tuple(weights) or (1.0,) * len(parts)
  mixtures.counts(weights, sizes['batch_size'])
  stream_fns = [part.stream_fn for part in parts]
  return Clips(
    functools.partial(mixtures.Mixture, stream_fns, weights), **sizes
  )


def check_no_actions(source: str, model: models.Learns) -> None:
  """Refuses a model that wants actions from data that has none.

  Raises:
    ValueError: it does.
  """
  if model.acting is not None:
    raise ValueError(
      f'config.data.source={source!r} has no actions, and '
      f"{model.config.name} learns from them; take 'cache' or 'simulation', or "
      'a model without actions (vjepa, ijepa).'
    )
