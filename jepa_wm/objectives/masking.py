"""Which tokens are hidden and predicted: I-JEPA's and V-JEPA's block masks.

Drawn on the host, in NumPy, as boolean sets over the grid of tokens; how long
the sets are differs from batch to batch. `mask_buckets` brings them to the few
static shapes that a compiled step wants, and is what training calls.

A token's id is its place in the flattened grid: `(t * H + h) * W + w`.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import numpy as np

Range = tuple[float, float]
Sets = tuple[np.ndarray, np.ndarray]

# What has been drawn this often in vain is taken for impossible.
_MAX_REDRAWS = 1000
# Enough aspect ratios to meet every block size that a draw can have.
_NUM_ASPECTS = 2001


class MaskSpec(Protocol):
  """A distribution of context and target sets on a grid of tokens."""

  def draw_size(self, rng: np.random.Generator) -> Any:
    """Draws the size of the blocks, one for a whole batch."""
    ...

  def place(self, size: Any, rng: np.random.Generator, batch_size: int) -> Sets:
    """Draws the sets of a batch from blocks of `size`."""
    ...

  def sizes(self) -> Iterable[Any]:
    """Every size of the blocks that can be drawn."""
    ...


@dataclasses.dataclass(frozen=True)
class VideoMaskSpec:
  """V-JEPA's multi-block masks: a union of blocks is hidden and predicted.

  The blocks of a batch share one size and lie anywhere in the grid. What no
  block covers is the context, within the first frames if `max_temporal_keep`
  says so; all other tokens are one target set. A sample with fewer than
  `min_context` context tokens is drawn again. The defaults are V-JEPA's
  short-range masks.

  Attributes:
    grid: tokens in time, height and width `(t, h, w)`.
    num_blocks: how many blocks a sample has.
    spatial_scale: range of a block's share of the frame, 0..1.
    temporal_scale: range of a block's share of the clip, 0..1.
    aspect_ratio: range of height over width.
    max_temporal_keep: share of the clip, from its start, that may be context;
      `p / 16` is the paper's causal multi-block[p].
    min_context: fewest context tokens. 1 is the published value; a larger one
      keeps the shortest context of a large batch, to which the others are
      truncated, from becoming nothing.

  Raises:
    ValueError: a field out of its range, blocks of no token, or a size of
      block that never leaves `min_context` tokens.

  Source: V-JEPA (arXiv 2404.08471), section 3.2 and appendix B; the released
  sampler draws the size once per batch, which the paper does not say.
  """

  grid: tuple[int, int, int]
  num_blocks: int = 8
  spatial_scale: Range = (0.15, 0.15)
  temporal_scale: Range = (1.0, 1.0)
  aspect_ratio: Range = (0.75, 1.5)
  max_temporal_keep: float = 1.0
  min_context: int = 1

  def __post_init__(self):
    _check_grid(self, 't, h, w')
    _check_counts(self, 'num_blocks', 'min_context')
    _check_shares(self, 'spatial_scale', 'temporal_scale')
    _check_range(self, 'aspect_ratio')
    if not 0 < self.max_temporal_keep <= 1:
      raise ValueError(
        'max_temporal_keep must be a share in (0, 1], got '
        f'{self.max_temporal_keep!r}.'
      )
    sizes = _video_sizes(self)
    _check_sizes('spatial_scale and aspect_ratio', sizes, self.grid)
    room = self._most_context(sizes)
    if room.min() < self.min_context:
      size = tuple(sizes[room.argmin()].tolist())
      raise ValueError(
        f'a block may be {size} tokens of the grid {self.grid}, which leaves '
        f'at most {room.min()} for the context and min_context is '
        f'{self.min_context}: take a larger grid or a smaller spatial_scale.'
      )

  @property
  def num_kept_frames(self) -> int:
    """Frames of the grid, from the first, that may hold context."""
    # No rounding error takes a frame: 49 * (1 / 49) is below 1.
    return max(1, int(self.grid[0] * self.max_temporal_keep + 1e-9))

  def draw_size(self, rng: np.random.Generator) -> tuple[int, int, int]:
    """Draws a block's `(t, h, w)`, one for a whole batch."""
    num_frames, height, width = self.grid
    duration = max(1, int(num_frames * rng.uniform(*self.temporal_scale)))
    area = int(height * width * rng.uniform(*self.spatial_scale))
    aspect = rng.uniform(*self.aspect_ratio)
    rows, columns = _sides(area, aspect)
    return duration, min(height, int(rows)), min(width, int(columns))

  def place(
    self, size: tuple[int, int, int], rng: np.random.Generator, batch_size: int
  ) -> Sets:
    """Draws the sets of a batch from blocks of `size` `(t, h, w)`.

    Returns:
      `context` and `target`, bool `[B, t * h * w]`, each the rest of the other.

    Raises:
      ValueError: a context stays too small however often it is drawn.
    """
    room = np.subtract(self.grid, size) + 1

    def draw(num_samples: int) -> Sets:
      starts = rng.integers(0, room, (num_samples, self.num_blocks, 3))
      left = np.ones((num_samples, *self.grid), bool)
      left[:, self.num_kept_frames :] = False
      for block in range(self.num_blocks):
        left &= ~_block(starts[:, block], size, self.grid)
      context = left.reshape(num_samples, -1)
      return context, ~context

    return _with_context(draw, batch_size, self)

  def sizes(self) -> Iterable[tuple[int, int, int]]:
    """Every block size `(t, h, w)` that can be drawn."""
    return map(tuple, _video_sizes(self).tolist())

  def _most_context(self, sizes: np.ndarray) -> np.ndarray:
    """Context `[S]` if all blocks of `sizes` `[S, 3]` fall late, on another."""
    num_frames, height, width = self.grid
    kept = self.num_kept_frames
    hidden_frames = np.maximum(0, sizes[:, 0] + kept - num_frames)
    return kept * height * width - hidden_frames * sizes[:, 1] * sizes[:, 2]


def short_range(grid: tuple[int, int, int]) -> VideoMaskSpec:
  """V-JEPA's short-range masks: 8 blocks of 15 % of the frame, as tubes."""
  return VideoMaskSpec(grid)


def long_range(grid: tuple[int, int, int]) -> VideoMaskSpec:
  """V-JEPA's long-range masks: 2 blocks of 70 % of the frame, as tubes."""
  return VideoMaskSpec(grid, num_blocks=2, spatial_scale=(0.7, 0.7))


@dataclasses.dataclass(frozen=True)
class ImageMaskSpec:
  """I-JEPA's multi-block masks: several blocks, each predicted on its own.

  The target blocks of a batch share one size. The context is one larger square
  without the tokens of any target. As in the released sampler, one random
  number sets both scale and aspect of the targets, and no block ever reaches
  the last row or column. Unlike there, where a context that stays too small is
  at last allowed to overlap a target, such a sample is drawn again as a whole.

  Attributes:
    grid: tokens in height and width `(h, w)`.
    num_targets: how many target blocks a sample has.
    target_scale: range of a target block's share of the image, 0..1.
    aspect_ratio: range of a target block's height over width.
    context_scale: range of the context square's share of the image, 0..1,
      before the targets are taken out.
    min_context: fewest context tokens.

  Raises:
    ValueError: a field out of its range, blocks of no token, or sizes that
      never leave `min_context` tokens.

  Source: I-JEPA (arXiv 2301.08243), section 3 and appendix A.1.
  """

  grid: tuple[int, int]
  num_targets: int = 4
  target_scale: Range = (0.15, 0.2)
  aspect_ratio: Range = (0.75, 1.5)
  context_scale: Range = (0.85, 1.0)
  # The released configs want more than min_keep = 10.
  min_context: int = 11

  def __post_init__(self):
    _check_grid(self, 'h, w')
    _check_counts(self, 'num_targets', 'min_context')
    _check_shares(self, 'target_scale', 'context_scale')
    _check_range(self, 'aspect_ratio')
    targets, contexts = _image_sizes(self)
    _check_sizes('target_scale and aspect_ratio', targets, self.grid)
    _check_sizes('context_scale', contexts, self.grid)
    # Where a context is least covered, it shares with all targets, on one
    # another, what they cannot avoid: no block leaves the smaller grid.
    shared = targets[:, None] + contexts[None] - np.subtract(self.grid, 1)
    left = contexts.prod(-1) - np.maximum(shared, 0).prod(-1)
    if left.min() < self.min_context:
      raise ValueError(
        f'on the grid {self.grid} the blocks may leave at most {left.min()} '
        f'tokens for the context and min_context is {self.min_context}: take '
        'a larger grid or a larger context_scale, or lower min_context.'
      )

  def draw_size(self, rng: np.random.Generator) -> np.ndarray:
    """Draws `(h, w)` of the targets, then of the context, `[2, 2]`."""
    return np.stack(self._sizes(*rng.random(2)))

  def place(
    self, size: np.ndarray, rng: np.random.Generator, batch_size: int
  ) -> Sets:
    """Draws the sets of a batch from blocks of `size` `[2, 2]`.

    Returns:
      `context` bool `[B, h * w]` and `target` bool `[B, num_targets, h * w]`.

    Raises:
      ValueError: a context stays too small however often it is drawn.
    """
    # Exclusive, so the last place is never drawn: as in the released sampler.
    target_room, context_room = np.subtract(self.grid, size)

    def draw(num_samples: int) -> Sets:
      lead = num_samples, self.num_targets
      starts = rng.integers(0, target_room, (*lead, 2))
      target = _block(starts, size[0], self.grid).reshape(*lead, -1)
      starts = rng.integers(0, context_room, (num_samples, 2))
      context = _block(starts, size[1], self.grid).reshape(num_samples, -1)
      return context & ~target.any(1), target

    return _with_context(draw, batch_size, self)

  def sizes(self) -> Iterable[np.ndarray]:
    """Every pair of sizes `[2, 2]` that can be drawn."""
    return map(np.stack, itertools.product(*_image_sizes(self)))

  def _sizes(self, target_u: Any, context_u: Any) -> Sets:
    """Block sizes `[..., 2]` for numbers in 0..1 `[...]`."""
    num_tokens = math.prod(self.grid)
    # One number for both, so that the largest targets are also the tallest.
    area = np.floor(num_tokens * _between(self.target_scale, target_u))
    target = _sides(area, _between(self.aspect_ratio, target_u))
    area = np.floor(num_tokens * _between(self.context_scale, context_u))
    context = _sides(area, 1.0)
    limit = np.subtract(self.grid, 1)
    return np.minimum(target, limit), np.minimum(context, limit)


def _between(limits: Range, u: Any) -> Any:
  return limits[0] + u * (limits[1] - limits[0])


def _sides(area: Any, aspect: Any) -> np.ndarray:
  """Rows and columns `[..., 2]`, rounded, of blocks of `area` and `aspect`."""
  sides = np.stack([np.sqrt(area * aspect), np.sqrt(area / aspect)], axis=-1)
  return np.round(sides).astype(int)


def _block(starts: np.ndarray, size: Any, grid: tuple[int, ...]) -> np.ndarray:
  """Cells `[..., *grid]` of the blocks of `size` at `starts` `[..., axes]`."""
  lead = starts.shape[:-1]
  inside = np.ones((*lead, *[1] * len(grid)), bool)
  for axis, places in enumerate(np.indices(grid, sparse=True)):
    start = starts[..., axis].reshape(*lead, *[1] * len(grid))
    inside = inside & (places >= start) & (places < start + size[axis])
  return inside


def redraw(
  draw: Callable[[int], Sets],
  sets: Sets,
  is_short: Callable[[np.ndarray, np.ndarray], np.ndarray],
  hint: str,
) -> Sets:
  """Draws anew, in place, the samples whose sets have not the wanted lengths.

  Args:
    draw: gives the sets of so many samples.
    sets: `context` bool `[B, P]` and `target` bool `[B, ..., P]`.
    is_short: which samples `[B]` are drawn again, from their two sets.
    hint: the end of the error's sentence.

  Returns:
    `sets`.

  Raises:
    ValueError: a sample is still short after 1000 draws.
  """
  for _ in range(_MAX_REDRAWS):
    again = np.flatnonzero(is_short(*sets))
    if not again.size:
      return sets
    for old, new in zip(sets, draw(again.size)):
      old[again] = new
  raise ValueError(
    f'no masks of the wanted lengths came in {_MAX_REDRAWS} draws: {hint}'
  )


def _with_context(
  draw: Callable[[int], Sets],
  batch_size: int,
  spec: VideoMaskSpec | ImageMaskSpec,
) -> Sets:
  """Draws a batch whose contexts all have `min_context` tokens."""
  return redraw(
    draw,
    draw(batch_size),
    lambda context, target: context.sum(-1) < spec.min_context,
    f'the blocks leave fewer than min_context = {spec.min_context} tokens of '
    f'the grid {spec.grid}; hide less, with fewer or smaller blocks.',
  )


@functools.lru_cache
def _video_sizes(spec: VideoMaskSpec) -> np.ndarray:
  """Every block size `[S, 3]` that a draw can have."""
  num_frames, height, width = spec.grid
  durations = np.maximum(1, _counts(num_frames, spec.temporal_scale))
  areas = _counts(height * width, spec.spatial_scale)
  aspects = np.linspace(*spec.aspect_ratio, _NUM_ASPECTS)
  sides = _sides(areas[:, None], aspects).reshape(-1, 2)
  sides = np.unique(np.minimum(sides, (height, width)), axis=0)
  frames = np.repeat(np.unique(durations), len(sides))[:, None]
  tiled = np.tile(sides, (len(frames) // len(sides), 1))
  return np.concatenate([frames, tiled], axis=1)


@functools.lru_cache
def _image_sizes(spec: ImageMaskSpec) -> Sets:
  """Every size `[S, 2]` of targets, and of contexts, that a draw can have."""
  u = np.linspace(0, 1, _NUM_ASPECTS, endpoint=False)
  targets, contexts = spec._sizes(u, u)
  return np.unique(targets, axis=0), np.unique(contexts, axis=0)


def _counts(num: int, scale: Range) -> np.ndarray:
  """Every `int(num * u)` for `u` in `scale`, the upper end left out."""
  first = int(num * scale[0])
  return np.arange(first, max(first + 1, math.ceil(num * scale[1])))


def _check_grid(spec: Any, axes: str) -> None:
  whole = all(isinstance(x, int) and x > 0 for x in spec.grid)
  if len(spec.grid) != len(axes.split(', ')) or not whole:
    raise ValueError(
      f'grid must be ({axes}), positive counts of tokens, got {spec.grid}.'
    )
  object.__setattr__(spec, 'grid', tuple(spec.grid))


def _check_counts(spec: Any, *names: str) -> None:
  for name in names:
    value = getattr(spec, name)
    if not isinstance(value, int) or value < 1:
      raise ValueError(f'{name} must be an integer above 0, got {value!r}.')


def _check_range(spec: Any, name: str) -> None:
  low_high = getattr(spec, name)
  if len(low_high) != 2 or not 0 < low_high[0] <= low_high[1] < math.inf:
    raise ValueError(
      f'{name} must be (low, high) with 0 < low <= high, got {low_high!r}.'
    )
  object.__setattr__(spec, name, tuple(low_high))


def _check_shares(spec: Any, *names: str) -> None:
  for name in names:
    _check_range(spec, name)
    if getattr(spec, name)[1] > 1:
      raise ValueError(
        f'{name} must be shares of at most 1, got {getattr(spec, name)!r}.'
      )


def _check_sizes(names: str, sizes: np.ndarray, grid: tuple[int, ...]) -> None:
  if sizes.min() < 1:
    raise ValueError(
      f'{names} can give a block of no token on the grid {grid}: take a larger '
      'grid or scale.'
    )
