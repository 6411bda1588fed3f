"""What masks leave of a clip, as a picture."""

import dataclasses
import io
from collections.abc import Sequence
from typing import Any, ClassVar

import jax
import matplotlib.colors
import matplotlib.figure
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
  width = 1.1 * len(frames) + 1.5
  figure = matplotlib.figure.Figure(
    figsize=(width, 1.15 * len(rows) + 0.1),
    dpi=160,
    facecolor=theme.background,
  )
  axes_grid = figure.subplots(len(rows), len(frames), squeeze=False)
  for axes_row, (name, images) in zip(axes_grid, rows.items()):
    for axes, image in zip(axes_row, images):
      axes.imshow(image, interpolation='nearest')
      axes.set_xticks([])
      axes.set_yticks([])
      for spine in axes.spines.values():
        spine.set_visible(False)
    axes_row[0].set_ylabel(
      name,
      rotation=0,
      ha='right',
      va='center',
      color=theme.ink,
      fontsize=9,
      labelpad=8,
    )
  figure.subplots_adjust(
    left=1.35 / width,
    right=0.99,
    top=0.98,
    bottom=0.02,
    wspace=0.05,
    hspace=0.05,
  )
  stream = io.BytesIO()
  figure.savefig(stream, format='png', facecolor=theme.background)
  return stream.getvalue()


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

  name: ClassVar[str] = 'masks'
  group: ClassVar[str] = 'masks'

  def __call__(
    self,
    model: diagnostic.Examined,
    episodes: diagnostic.Episodes,
    rng_key: jax.Array,
  ) -> Finding:
    """Draws `masks.png`; see `diagnostic.Diagnostic`."""
    title, grid = 'What masks leave of a clip', model.model.token_grid
    seed = int(jax.random.key_data(rng_key).ravel()[-1])
    drawn = model.model.draw(np.random.default_rng(seed), 32)
    seen = episodes.windows_fn('held_out')[0]['observation']
    clip = np.asarray(seen['pixels'][0])
    if 'masks' not in drawn or grid is None:
      return Finding(title, sentence='The model did not learn from masks.')
    if len(clip) != model.model.num_frames:
      return Finding(
        title,
        sentence=f'It learnt from clips of {model.model.num_frames} frames, '
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
