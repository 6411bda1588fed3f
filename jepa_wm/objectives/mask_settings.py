"""Which masks a model learns from: settings by name, drawn for a batch."""

import dataclasses
import functools
import math
from typing import Any, ClassVar, Protocol

import numpy as np

from jepa_wm import fields
from jepa_wm.objectives import mask_buckets, masking

MASKS = fields.Registry('masks', 'jepa_wm.objectives')

Grid = tuple[int, int, int]


class MaskSettings(fields.Named, Protocol):
  """The kinds of mask of a step, and the shapes that they come in.

  Attributes:
    truncate: how sets become of one length, one of `mask_buckets.TRUNCATIONS`.
    num_buckets: shapes that masks come in at most, each compiled when first
      met.
  """

  @property
  def truncate(self) -> str:
    """See the class."""
    ...

  @property
  def num_buckets(self) -> int:
    """See the class."""
    ...

  def specs(self, grid: Grid) -> tuple[masking.MaskSpec, ...]:
    """The kinds of mask of a step on a grid of tokens.

    Raises:
      ValueError: a mask that hides everything, or fields that do not agree.
    """
    ...


@MASKS.register
@dataclasses.dataclass(frozen=True)
class VideoMasks:
  """V-JEPA's masks; each kind hides a union of blocks, tubes through the clip.

  Source: V-JEPA (arXiv 2404.08471), section 3.2.

  Attributes:
    blocks: blocks of every kind of mask; short-range, long-range.
    percent: share of the frame that one block of a kind covers, percent.
    temporal_percent: share of the clip that one block covers, percent.
    context_temporal_percent: share of the clip, from its start, that may be
      context, percent, of whole frames of tokens: the paper's causal
      multi-block[6] and [12] of 16 frames are 37.5 and 75.
    min_context: fewest tokens of a context, for every kind of mask. Larger than
      published where a batch is larger than published: no sample is longer
      than the shortest of its batch.
    truncate: see `MaskSettings`.
    num_buckets: see `MaskSettings`.
  """

  name: ClassVar[str] = 'video'

  blocks: tuple[int, ...] = (8, 2)
  percent: tuple[float, ...] = (15.0, 70.0)
  temporal_percent: float = 100.0
  context_temporal_percent: float = 100.0
  min_context: int = 1
  truncate: str = 'raster'
  num_buckets: int = 8

  def __post_init__(self) -> None:
    fields.check(self, {'truncate': mask_buckets.TRUNCATIONS})
    if len(self.blocks) != len(self.percent):
      raise ValueError(
        'masks.blocks and masks.percent must have an entry per kind of mask '
        f'each, got {self.blocks} and {self.percent}.'
      )

  def specs(self, grid: Grid) -> tuple[masking.VideoMaskSpec, ...]:
    """See `MaskSettings`."""
    duration = self.temporal_percent / 100
    kept = _whole_frames(self.context_temporal_percent, grid[0])
    return tuple(
      masking.VideoMaskSpec(
        grid,
        num_blocks=num_blocks,
        spatial_scale=(percent / 100, percent / 100),
        temporal_scale=(duration, duration),
        max_temporal_keep=kept / grid[0],
        min_context=self.min_context,
      )
      for num_blocks, percent in zip(self.blocks, self.percent)
    )


@MASKS.register
@dataclasses.dataclass(frozen=True)
class ImageMasks:
  """I-JEPA's masks: target blocks, predicted each from one context block.

  Source: I-JEPA (arXiv 2301.08243), section 3.

  Attributes:
    num_targets: target blocks of an image.
    target_percent: smallest and largest share of a target block, percent.
    context_percent: of the context block, before the targets are taken out.
    min_context: fewest tokens of a context, see `VideoMasks`.
    truncate: see `MaskSettings`.
    num_buckets: see `MaskSettings`.
  """

  name: ClassVar[str] = 'image'

  num_targets: int = 4
  target_percent: tuple[float, ...] = (15.0, 20.0)
  context_percent: tuple[float, ...] = (85.0, 100.0)
  min_context: int = 11
  truncate: str = 'raster'
  num_buckets: int = 8

  def __post_init__(self) -> None:
    fields.check(self, {'truncate': mask_buckets.TRUNCATIONS})
    for name in ('target_percent', 'context_percent'):
      if len(getattr(self, name)) != 2:
        raise ValueError(
          f'masks.{name} must be the smallest and the largest share, got '
          f'{getattr(self, name)}.'
        )

  def specs(self, grid: Grid) -> tuple[masking.ImageMaskSpec, ...]:
    """See `MaskSettings`."""
    target, context = (
      (low / 100, high / 100)
      for low, high in (self.target_percent, self.context_percent)
    )
    return (
      masking.ImageMaskSpec(
        grid[1:],
        num_targets=self.num_targets,
        target_scale=target,
        context_scale=context,
        min_context=self.min_context,
      ),
    )


def buckets(
  settings: MaskSettings, grid: Grid, batch_size: int
) -> tuple[mask_buckets.Bucket, ...]:
  """The shapes that the masks of a batch come in, always the same ones."""
  return _plan(
    settings.specs(grid), batch_size, settings.truncate, settings.num_buckets
  )


def draw(
  settings: MaskSettings, grid: Grid, rng: np.random.Generator, batch_size: int
) -> tuple[mask_buckets.Masks, ...]:
  """Draws the masks of a batch on the host.

  Args:
    settings: the kinds of mask.
    grid: of tokens.
    rng: consumed.
    batch_size: samples `B`.

  Returns:
    For every kind of mask its ids, in the shapes of one of `buckets`.
  """
  return mask_buckets.sample(
    settings.specs(grid),
    rng,
    batch_size,
    buckets=buckets(settings, grid, batch_size),
    truncate=settings.truncate,
  )


def _whole_frames(percent: float, num_frames: int) -> int:
  """Frames of tokens that `context_temporal_percent` of a clip is."""
  frames = percent / 100 * num_frames
  if not 0 <= frames <= num_frames or abs(frames - round(frames)) > 0.01:
    near = {max(1, math.floor(frames)), math.ceil(frames)}
    shares = sorted(100 * min(x, num_frames) / num_frames for x in near)
    raise ValueError(
      f'masks.context_temporal_percent={percent:g} is {frames:g} of the '
      f'{num_frames} frames of tokens of a clip and must be a whole number of '
      f'them: take {" or ".join(f"{x:g}" for x in shares)}.'
    )
  return round(frames)


@functools.lru_cache
def _plan(
  specs: tuple[Any, ...], batch_size: int, truncate: str, num_buckets: int
) -> tuple[mask_buckets.Bucket, ...]:
  """Buckets take seconds to plan: once is enough."""
  return mask_buckets.plan_buckets(
    specs, batch_size, truncate=truncate, num_buckets=num_buckets
  )
