"""What masks leave of a clip, as a picture."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jepa_wm.evaluation.diagnostics import diagnostic
from jepa_wm.evaluation.diagnostics.finding import Finding
from jepa_wm.evaluation.report import figures

_FADED = 0.75  # How much of the page shows through what nobody is given.


def masked_frames(
  frames: np.ndarray,
  context: np.ndarray,
  target: np.ndarray,
  theme: figures.Theme = figures.LIGHT,
) -> np.ndarray:
  """Frames with their targets painted over, and what no set holds faded.

  Args:
    frames: uint8 `[T, height, width, 3]`.
    context: bool `[t, rows, columns]`, tokens that the encoder sees; `T`,
      height and width are multiples of its sides.
    target: bool, the same shape, tokens that are predicted; they are painted
      over where a context holds them too.
    theme: colours.

  Returns:
    `[T, height, width, 3]` in 0..1.

  Raises:
    ValueError: sets of different shapes, or that do not divide the frames.
  """
  import matplotlib.colors

  sides = context.shape if context.ndim == 3 else (0,)
  if context.shape != target.shape or any(
    not side or size % side for size, side in zip(frames.shape, sides)
  ):
    raise ValueError(
      'context and target must be [t, rows, columns], of which the frames '
      f'[T, height, width, 3] are multiples, got {list(context.shape)}, '
      f'{list(target.shape)} and frames {list(frames.shape)}.'
    )

  def spread(tokens: np.ndarray) -> np.ndarray:
    for axis, side in enumerate(tokens.shape):
      tokens = np.repeat(tokens, frames.shape[axis] // side, axis)
    return tokens[..., None]

  page, paint = (
    np.array(matplotlib.colors.to_rgb(color))
    for color in (theme.background, theme.first)
  )
  seen = frames / 255
  faded = seen + _FADED * (page - seen)
  return np.where(spread(target), paint, np.where(spread(context), seen, faded))


def draw(
  frames: np.ndarray,
  masks: Sequence[Any],
  grid: tuple[int, int, int],
  theme: figures.Theme = figures.LIGHT,
) -> bytes:
  """Draws a clip, and under it what each kind of mask leaves of it.

  What is to be predicted is painted over; what is neither seen nor predicted,
  because a set was cut to the length of its bucket, is faded.

  Args:
    frames: uint8 `[T, height, width, 3]`.
    masks: for every kind a `mask_buckets.Masks`, as the model draws
      them, of whose batch the first sample is shown.
    grid: tokens of a clip in time, height and width.
    theme: colours.

  Returns:
    A PNG, two rows where there is one kind of mask.

  Raises:
    ValueError: a grid that does not divide the frames.
  """
  rows = {'frames': frames / 255}
  for kind, sets in enumerate(masks):
    context, target = (
      _tokens(ids[0], valid[0], grid)
      for ids, valid in (
        (sets.context_ids, sets.context_valid),
        (sets.target_ids, sets.target_valid),
      )
    )
    name = 'mask' if len(masks) == 1 else f'mask {kind}'
    share = f'{name}\n{context.mean():.0%} seen\n{target.mean():.0%} predicted'
    rows[share] = masked_frames(frames, context, target, theme)
  return figures.draw_rows(rows, theme)


def _tokens(
  ids: np.ndarray, valid: np.ndarray, grid: tuple[int, int, int]
) -> np.ndarray:
  """Bool `[t, rows, columns]`, true at the ids that are no padding."""
  tokens = np.zeros(grid, bool)
  tokens.reshape(-1)[np.asarray(ids)[np.asarray(valid)]] = True
  return tokens


@diagnostic.DIAGNOSTICS.register
@dataclasses.dataclass(frozen=True)
class Masks:
  """Masks that the model learns from, on the first held-out window."""

  name = group = 'masks'

  def __call__(self, question: diagnostic.Question) -> Finding:
    model = question.model.model
    title, grid = 'What masks leave of a clip', model.token_grid
    seed = int(jax.random.key_data(question.rng_key).ravel()[-1])
    drawn = model.draw(np.random.default_rng(seed), 32)
    seen = question.episodes.windows_fn('held_out')[0]['observation']
    clip = np.asarray(seen['pixels'][0])
    if 'masks' not in drawn or grid is None:
      return Finding(title, sentence='The model did not learn from masks.')
    if len(clip) != model.num_frames:
      return Finding(
        title,
        sentence=f'It learnt from clips of {model.num_frames} frames, '
        f'not of {len(clip)}.',
      )
    of_clip: Any = (1,) * (3 - len(grid)) + grid
    return Finding(
      title,
      figures={
        'masks.png': draw(clip, drawn['masks'], of_clip),
        'masks_dark.png': draw(clip, drawn['masks'], of_clip, figures.DARK),
      },
      sentence='Painted over is what is predicted; faded is what is neither '
      'seen nor predicted.',
    )
