"""Frames of any usual layout and type as levels of red, green and blue."""

import itertools
from collections.abc import Iterable
from typing import Any

import numpy as np

from jepa_wm.data import resizing
from jepa_wm.data.readers import images, reader

# Of the range of float pictures: what resizing and rounding add to its ends.
_TOLERANCE = 1e-3
# No picture in 0..1 is as bright, hardly one in 0..255 is never.
_CLEARLY_LEVELS = 16.0


def to_levels(
  where: str,
  source: np.ndarray | Iterable[np.ndarray],
  name: str,
  options: reader.Options,
  *,
  scale: float | None = None,
) -> np.ndarray:
  """Frames of any usual layout as uint8 `[T, height, width, 3]`.

  Those of an iterator are brought to size one after another, so that never more
  than one is in memory at its own size.

  Args:
    where: source and episode, for messages.
    source: `[T, height, width]`, `[T, height, width, C]` with 1, 3 or 4
      channels, of which a fourth is one level, or `[T, C, height, width]` with
      1 or 3; uint8, or floats in 0..1 or 0..255; or an iterator over uint8
      `[height, width, 3]`.
    name: of the column, for messages.
    options: the size to bring them to.
    scale: what floats are multiplied by, see `scale_of`; None decides by
      `source`, which then is the whole column.

  Raises:
    ValueError: another layout or type.
  """
  if not isinstance(source, np.ndarray):
    each = [_fitted(frame[None], options)[0] for frame in source]
    if len({frame.shape for frame in each}) != 1:
      raise ValueError(
        f'{where} has frames of different sizes in {name!r}, or none; set '
        '--image_size, or choose another column with --pixels.'
      )
    return _checked(where, name, np.stack(each))
  array = _in_color(where, source, name)
  if array.dtype.kind == 'f':
    array = _in_levels(
      where, array, name, scale or scale_of(where, name, [array])
    )
  if array.dtype != np.uint8:
    raise ValueError(
      f'{where} has frames of {array.dtype} in {name!r}: expected uint8, or '
      'floats in 0..1 or 0..255; convert them or choose another column with '
      '--pixels.'
    )
  return _fitted(array, options)


def scale_of(where: Any, name: str, column: Iterable[np.ndarray]) -> float:
  """What makes levels 0..255 of a whole column of floats, 255 or 1.

  An episode alone does not tell a night in 0..255 from a day in 0..1.

  Args:
    where: source, for messages.
    name: of the column, for messages.
    column: its arrays one after another; read until one tells.

  Raises:
    ValueError: the brightest level is neither of 0..1 nor of 0..255.
  """
  highest = -np.inf
  for array in column:
    if array.size:
      highest = max(highest, float(np.nanmax(array, initial=-np.inf)))
    if highest > _CLEARLY_LEVELS:
      return 1.0
  if highest > 1 + _TOLERANCE:
    raise ValueError(
      f'{where} has floats up to {highest:g} in {name!r}, which is a picture '
      'neither in 0..1 nor in 0..255; convert them or choose another column '
      'with --pixels.'
    )
  return 255.0


def _in_color(where: str, array: np.ndarray, name: str) -> np.ndarray:
  """Frames of any usual layout as `[T, height, width, 3]`."""
  if array.ndim == 3:
    array = array[..., None]
  if array.ndim == 4 and array.shape[-1] not in (1, 3, 4):
    if array.shape[1] == 4:
      raise _stacked(where, name, array.shape)
    array = np.moveaxis(array, 1, -1)
  if array.ndim != 4 or array.shape[-1] not in (1, 3, 4) or not array.size:
    raise ValueError(
      f'{where} has no frames in {name!r}: expected [T, height, width, 3], got '
      f'shape {array.shape}; choose another column with --pixels.'
    )
  images.check_size(*array.shape[1:3])
  # A fourth channel is transparency where nothing is transparent.
  if array.shape[-1] == 4 and (array[..., 3] != array.flat[3]).any():
    raise _stacked(where, name, array.shape)
  # One channel is grey.
  array = np.broadcast_to(array[..., :3], (*array.shape[:-1], 3))
  return _checked(where, name, array)


def _checked(where: str, name: str, array: np.ndarray) -> np.ndarray:
  """Frames whose channels are not those of the frame before, moved on by one.

  No colours do that; three grey frames in a stack do, in either order. A grey
  picture that rests does, too, and has three equal channels.
  """
  if len(array) < 3 or all((x[..., :1] == x).all() for x in array):
    return array
  pairs = list(itertools.pairwise(array))
  for ours, theirs in ((slice(1, 3), slice(0, 2)), (slice(0, 2), slice(1, 3))):
    if all(np.array_equal(a[..., ours], b[..., theirs]) for a, b in pairs):
      raise _stacked(where, name, array.shape)
  return array


def _stacked(where: str, name: str, shape: tuple[int, ...]) -> ValueError:
  return ValueError(
    f'{where} has {shape[-1] if shape[-1] < 5 else shape[1]} channels in '
    f'{name!r}, {list(shape)}, which are stacked frames or see-through '
    'pictures and no colours; write one frame a row, without FrameStack, or '
    'choose another column with --pixels.'
  )


def _in_levels(
  where: str, array: np.ndarray, name: str, scale: float
) -> np.ndarray:
  """Floats as levels, clipped where rounding led beyond the bounds."""
  top = 255 / scale
  low, high = float(array.min()), float(array.max())
  if not (-_TOLERANCE * top <= low and high <= top * (1 + _TOLERANCE)):
    raise ValueError(
      f'{where} has floats in {low:g}..{high:g} in {name!r}, where 0..{top:g} '
      'is expected; convert them or choose another column with --pixels.'
    )
  return np.rint(np.clip(array, 0, top) * scale).astype(np.uint8)


def _fitted(array: np.ndarray, options: reader.Options) -> np.ndarray:
  """Frames of the size that was asked for."""
  if options.image_size is None:
    return np.ascontiguousarray(array)
  return resizing.resize_frames(array, size=options.image_size, fit=options.fit)
