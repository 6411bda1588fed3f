"""Masks of quadrants: one is seen, the other three are predicted."""

import dataclasses
from collections.abc import Iterable
from typing import Any, ClassVar

import numpy as np

from jepa_wm import fields
from jepa_wm.objectives import mask_settings, masking


@dataclasses.dataclass(frozen=True)
class QuadrantSpec:
  """One quadrant of the frame, any, is the context, each other one a target.

  Attributes:
    grid: tokens in time, height and width `(t, h, w)`; an image has one frame,
      of a clip quadrants go through all frames.

  Raises:
    ValueError: a height or width that does not halve.

  Source: I-JEPA (arXiv 2301.08243), Table 6, rasterized.
  """

  grid: mask_settings.Grid

  def __post_init__(self) -> None:
    if self.grid[1] % 2 or self.grid[2] % 2:
      raise ValueError(
        "masks.name='rasterized' needs an even number of tokens in height and "
        f'width, got a grid of {self.grid[1]} x {self.grid[2]}.'
      )

  def draw_size(self, rng: np.random.Generator) -> None:
    """Nothing: quadrants have one size."""
    del rng

  def place(
    self, size: None, rng: np.random.Generator, batch_size: int
  ) -> masking.Sets:
    """Draws the sets of a batch.

    Returns:
      `context` bool `[B, t * h * w]` and `target` bool `[B, 3, t * h * w]`.
    """
    del size
    num_frames, height, width = self.grid
    lower = np.arange(height) >= height // 2
    right = np.arange(width) >= width // 2
    number = (2 * lower[:, None] + right).ravel()
    quadrants = np.tile(number == np.arange(4)[:, None], num_frames)
    seen = rng.integers(4, size=batch_size)
    others = (seen[:, None] + np.arange(1, 4)) % 4
    return quadrants[seen], quadrants[others]

  def sizes(self) -> Iterable[Any]:
    """The one size."""
    return (None,)


@mask_settings.MASKS.register
@dataclasses.dataclass(frozen=True)
class RasterizedMasks:
  """Shows one quadrant; each of the other three is predicted on its own.

  Source: I-JEPA (arXiv 2301.08243), Table 6, 15.5 % where blocks have 54.2 %.
  """

  name: ClassVar[str] = 'rasterized'
  # All sets have one length: none is cut.
  truncate: ClassVar[str] = 'raster'
  num_buckets: ClassVar[int] = 1

  def __post_init__(self) -> None:
    fields.check(self)

  def specs(self, grid: mask_settings.Grid) -> tuple[QuadrantSpec, ...]:
    """See `mask_settings.MaskSettings`."""
    return (QuadrantSpec(grid),)
