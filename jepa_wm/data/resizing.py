"""Frames to the size that is trained on, on the NumPy side."""

import numpy as np
import PIL.Image

from jepa_wm import fields

FITS = ('stretch', 'crop')
# So many lie in the processor's caches.
_FRAMES_AT_ONCE = 16

MOST_PIXELS = 8192
"""Height and width of a frame at most."""


def resize_frames(
  pixels: np.ndarray, *, size: int, fit: str = 'stretch'
) -> np.ndarray:
  """Brings frames to `size` by `size`.

  Smaller is by the area that each new pixel covers, larger is bilinear.

  Args:
    pixels: uint8 `[T, height, width, 3]`.
    size: new height and width.
    fit: 'stretch' changes the aspect, 'crop' takes the square in the middle.

  Returns:
    uint8 `[T, size, size, 3]`.

  Raises:
    ValueError: another `fit`, or a size below one.
  """
  fields.check_choice('fit', fit, FITS)
  if size < 1:
    raise ValueError(f'size must be at least 1, got {size}.')
  _, height, width, _ = pixels.shape
  if fit == 'crop':
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    pixels = pixels[:, top : top + side, left : left + side]
    height = width = side
  if (height, width) == (size, size):
    return np.ascontiguousarray(pixels)
  resized = np.empty((len(pixels), size, size, 3), np.uint8)
  if min(height, width) < size:
    for frame, target in zip(pixels, resized, strict=True):
      image = PIL.Image.fromarray(np.ascontiguousarray(frame))
      bilinear = PIL.Image.Resampling.BILINEAR
      target[...] = np.asarray(image.resize((size, size), bilinear))
    return resized
  for begin in range(0, len(pixels), _FRAMES_AT_ONCE):
    some = pixels[begin : begin + _FRAMES_AT_ONCE]
    count = len(some)
    rows = _shrunk(some.reshape(count, height, width * 3), size)
    columns = rows.reshape(count, size, width, 3).swapaxes(1, 2)
    means = _shrunk(columns.reshape(count, width, size * 3), size)
    means = means.reshape(count, size, size, 3).swapaxes(1, 2)
    resized[begin : begin + count] = np.rint(means)
  return resized


def _shrunk(array: np.ndarray, new: int) -> np.ndarray:
  """Means of `[n, old, m]` over equal parts of the second axis.

  Part by part and not as a product of matrices: readers have a thread per core
  already, and those of a BLAS would wait for each other.
  """
  count, old, size = array.shape
  means = np.empty((count, new, size), np.float32)
  for part in range(new):
    # In units of 1 / new of an old pixel.
    begin, end = part * old, (part + 1) * old
    first, last = begin // new, (end - 1) // new
    rows = array[:, first : last + 1]
    total = rows.sum(axis=1, dtype=np.float32)
    total -= rows[:, 0] * np.float32((begin - first * new) / new)
    total -= rows[:, -1] * np.float32(((last + 1) * new - end) / new)
    means[:, part] = total * np.float32(new / old)
  return means
