"""Frames to the size that is trained on, on the NumPy side."""

import functools

import numpy as np
import PIL.Image

FITS = ('stretch', 'crop')
# As floats they take four times the room.
_FRAMES_AT_ONCE = 16


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
  if fit not in FITS or size < 1:
    raise ValueError(
      f'fit must be one of {", ".join(FITS)} and size at least 1, got {fit!r} '
      f'and {size}.'
    )
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
  down, across = _areas(height, size), _areas(width, size)
  for begin in range(0, len(pixels), _FRAMES_AT_ONCE):
    some = pixels[begin : begin + _FRAMES_AT_ONCE].astype(np.float32)
    rows = down @ some.reshape(len(some), height, width * 3)
    means = across @ rows.reshape(len(some), size, width, 3)
    resized[begin : begin + len(some)] = np.rint(means)
  return resized


@functools.lru_cache(maxsize=8)
def _areas(old: int, new: int) -> np.ndarray:
  """Share of each old pixel in the mean of a new one, float32 `[new, old]`."""
  edges = np.arange(new + 1) * old / new
  begin = np.maximum(edges[:-1, None], np.arange(old))
  end = np.minimum(edges[1:, None], np.arange(old) + 1)
  return (np.maximum(end - begin, 0) * new / old).astype(np.float32)
