"""Fixed sine-cosine positions: tables over images and clips."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm import fields

ORDERS = ('time_first', 'column_first')
"""Which axis the first channels of a token encode.

  'time_first': time, then row, then column, a third of the channels each;
    of a single frame row, then column, a half each (V-JEPA);
  'column_first': column, then row, a half each (MAE, I-JEPA); single frames.
"""


def _axis(positions: np.ndarray, features: int) -> np.ndarray:
  """Sines, then cosines, of positions `[P]`: `[P, features]`, float64."""
  half = features // 2
  angles = positions[:, None] * 10000.0 ** (-np.arange(half) / half)
  return np.concatenate([np.sin(angles), np.cos(angles)], axis=-1)


def table(
  grid: tuple[int, int, int], features: int, *, order: str = 'time_first'
) -> np.ndarray:
  """Positions of every token of a grid.

  Args:
    grid: tokens in time, height and width `(T, H, W)`.
    features: size `D` of a token, even.
    order: one of `ORDERS`.

  Returns:
    float32 `[T * H * W, D]`, token `(t * H + h) * W + w`.

  Raises:
    ValueError: no such order, 'column_first' for more than one frame, or an
      odd size.

  Source: MAE (arXiv 2111.06377) for images, V-JEPA's released code
  (`uniform_power`) for clips: there the axes share the channels evenly, rounded
  up, and the last ones are cut off.
  """
  fields.check_choice('order', order, ORDERS)
  if features % 2 or features < 4:
    raise ValueError(
      f'a table of sines and cosines needs an even size of 4 or more, got '
      f'{features}.'
    )
  if grid[0] > 1 and order == 'column_first':
    raise ValueError(
      f"order='column_first' is for single frames, got a grid of {grid[0]}; "
      "take 'time_first'."
    )
  axes = [x.ravel() for x in np.indices(grid)]
  if grid[0] == 1:
    axes = axes[1:] if order == 'time_first' else [axes[2], axes[1]]
    share = 2 * math.ceil(features / 4)
  else:
    share = 2 * math.ceil(features / 6)
  encoded = np.concatenate([_axis(x, share) for x in axes], axis=-1)
  return encoded[:, :features].astype(np.float32)


def resized_table(
  grid: tuple[int, int, int],
  features: int,
  *,
  trained_grid: tuple[int, int, int],
  order: str = 'time_first',
) -> jax.Array:
  """The table of `trained_grid`, stretched linearly over another grid.

  Args:
    grid: tokens wanted.
    features: size `D` of a token.
    trained_grid: tokens that the table is made for.
    order: one of `ORDERS`.

  Returns:
    float32 `[T * H * W, D]` of `grid`; the table itself where they are equal.

  Raises:
    ValueError: what `table` refuses.
  """
  positions = jnp.asarray(table(trained_grid, features, order=order))
  if grid == trained_grid:
    return positions
  stretched = jax.image.resize(
    positions.reshape(*trained_grid, features),
    (*grid, features),
    'linear',
    antialias=False,
  )
  return stretched.reshape(math.prod(grid), features)
