"""Masks without blocks: places at random, all through a clip."""

import dataclasses
from collections.abc import Iterable
from typing import Any, ClassVar

import numpy as np

from jepa_wm import fields
from jepa_wm.objectives import mask_settings, masking


@dataclasses.dataclass(frozen=True)
class RandomTubeSpec:
  """Places of the frame at random are hidden, in all frames of a clip.

  Every sample has as many context tokens: those of `int(h * w * (1 - hidden))`
  places, as in the released sampler. All others are one target set.

  Attributes:
    grid: tokens in time, height and width `(t, h, w)`; an image has one frame.
    hidden: share of the places, 0..1.

  Raises:
    ValueError: a share that hides all or nothing.

  Source: V-JEPA (arXiv 2404.08471), Table 4, random-tube[0.9]; of an image,
  I-JEPA (arXiv 2301.08243), Table 6, random (0.6).
  """

  grid: mask_settings.Grid
  hidden: float = 0.9

  def __post_init__(self) -> None:
    num_places = self.grid[1] * self.grid[2]
    if not 0 < self.num_places < num_places:
      raise ValueError(
        f'hidden={self.hidden:g} leaves {self.num_places} of the {num_places} '
        'places of a frame for the context; there must be some, and not all.'
      )

  @property
  def num_places(self) -> int:
    """Places of a frame that are context."""
    # No rounding error takes a place: 100 * (1 - 0.9) is below 10.
    return int(self.grid[1] * self.grid[2] * (1 - self.hidden) + 1e-9)

  def draw_size(self, rng: np.random.Generator) -> None:
    """Nothing: sets have one length."""
    del rng

  def place(
    self, size: None, rng: np.random.Generator, batch_size: int
  ) -> masking.Sets:
    """Draws `context` and `target`, its rest, bool `[B, t * h * w]`."""
    del size
    num_frames, height, width = self.grid
    ranks = rng.random((batch_size, height * width)).argsort(-1).argsort(-1)
    context = np.tile(ranks < self.num_places, num_frames)
    return context, ~context

  def sizes(self) -> Iterable[Any]:
    """The one size."""
    return (None,)


@mask_settings.MASKS.register
@dataclasses.dataclass(frozen=True)
class RandomTubeMasks:
  """Hides places of the frame at random, in all frames of a clip.

  Source: V-JEPA (arXiv 2404.08471), Table 4; of images, I-JEPA (arXiv
  2301.08243), Table 6, which hides 60 %.

  Attributes:
    hidden_percent: share of the places, percent.
  """

  name: ClassVar[str] = 'random_tube'
  # All sets have one length: none is cut.
  truncate: ClassVar[str] = 'raster'
  num_buckets: ClassVar[int] = 1

  hidden_percent: float = 90.0

  def __post_init__(self) -> None:
    fields.check(self)

  def specs(self, grid: mask_settings.Grid) -> tuple[RandomTubeSpec, ...]:
    """See `mask_settings.MaskSettings`."""
    return (RandomTubeSpec(grid, self.hidden_percent / 100),)
