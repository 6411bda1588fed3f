"""What patch features tell apart: their principal components as colours."""

import dataclasses

import jax.numpy as jnp
import numpy as np

from jepa_wm.evaluation.diagnostics import diagnostic, representations
from jepa_wm.evaluation.diagnostics.finding import Finding
from jepa_wm.evaluation.report import figures


def principal_colors(features: np.ndarray) -> np.ndarray:
  """First three principal components of features, as red, green and blue.

  Each component is stretched so that its 2nd and 98th percentiles are 0 and 1,
  and turned so that its third moment is not negative: a component's sign means
  nothing, and a picture should not depend on it.

  Args:
    features: `[..., D]`, any leading axes; all rows are taken together.

  Returns:
    `[..., 3]` in 0..1; one half where features have fewer components.

  Raises:
    ValueError: fewer than two rows, or features that are not finite.
  """
  rows = np.asarray(features, np.float64).reshape(-1, features.shape[-1])
  if len(rows) < 2 or not np.isfinite(rows).all():
    raise ValueError(
      f'features must be two or more finite rows [..., D], got '
      f'{list(features.shape)}{"" if len(rows) < 2 else " with NaN in it"}.'
    )
  rows = rows - rows.mean(axis=0)
  variances, axes = np.linalg.eigh(rows.T @ rows)
  colors = np.full((len(rows), 3), 0.5)
  for index in range(min(3, rows.shape[1])):
    if variances[-1 - index] <= 1e-9 * max(variances[-1], 1e-30):
      continue
    component = rows @ axes[:, -1 - index]
    component *= 1 if np.mean(component**3) >= 0 else -1
    low, high = np.percentile(component, [2, 98])
    if high - low <= 0:
      # Hardly a row differs from the others; show those that do.
      low, high = component.min(), component.max()
    colors[:, index] = np.clip((component - low) / (high - low), 0, 1)
  return colors.reshape(*features.shape[:-1], 3)


def draw(
  frames: np.ndarray,
  maps: dict[str, np.ndarray],
  theme: figures.Theme = figures.LIGHT,
) -> bytes:
  """Draws frames, and under each the colours of its patches.

  Args:
    frames: uint8 `[T, height, width, 3]`.
    maps: under the name of each representation its features
      `[t, rows, columns, D]`, where `T` is a multiple of `t`; every one has
      principal components of its own.
    theme: colours.

  Returns:
    A PNG.

  Raises:
    ValueError: features that do not belong to so many frames.
  """
  shown = min(len(frames), *(len(features) for features in maps.values()))
  rows: dict[str, np.ndarray] = {'frames': frames}
  for name, features in maps.items():
    if features.ndim != 4 or len(frames) % len(features):
      raise ValueError(
        f'features of {name!r} must be [t, rows, columns, D] with t a divisor '
        f'of the {len(frames)} frames, got {list(features.shape)}.'
      )
    rows[name] = principal_colors(features)
  # The last frame of what each column spans.
  last = {
    name.replace(' ', '\n'): images[step - 1 : shown * step : step]
    for name, images in rows.items()
    for step in [len(images) // shown]
  }
  return figures.draw_rows(last, theme)


@diagnostic.DIAGNOSTICS.register
@dataclasses.dataclass(frozen=True)
class FeatureMaps:
  """The patch features of the first held-out window, and of a fresh encoder."""

  name = group = 'feature_maps'

  def __call__(self, question: diagnostic.Question) -> Finding:
    model, variables = question.model.model, question.model.params
    title, grid = 'What patch features tell apart', model.token_grid
    if grid is None:
      return Finding(title, sentence='The model has no tokens to show.')
    seen = question.episodes.windows_fn('held_out')[0]['observation']
    clip = {name: jnp.asarray(array[:1]) for name, array in seen.items()}
    fresh = representations.of_random_encoder(model, question.rng_key)
    maps = {}
    for row, tokens_fn in (
      (model.config.name, representations.of_model(model, variables)),
      ('random encoder', fresh),
    ):
      tokens = np.asarray(tokens_fn(clip))[0]
      maps[row] = tokens.reshape(-1, *grid[-2:], tokens.shape[-1])
    frames = np.asarray(seen['pixels'][0])
    return Finding(
      title,
      figures={
        'pca.png': draw(frames, maps),
        'pca_dark.png': draw(frames, maps, figures.DARK),
      },
      sentence='First three principal components of the patches of a held-out '
      'clip, as red, green and blue.',
    )
