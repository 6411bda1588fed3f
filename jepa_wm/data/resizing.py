"""Frames to the size that is trained on, on the NumPy side."""

import numpy as np
import PIL.Image

FITS = ('stretch', 'crop')


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
  filters = PIL.Image.Resampling
  resized = np.empty((len(pixels), size, size, 3), np.uint8)
  for frame, target in zip(pixels, resized, strict=True):
    image = PIL.Image.fromarray(np.ascontiguousarray(frame))
    if height >= size and width >= size:
      image = image.resize((size, size), filters.BOX)
    else:
      image = image.resize((size, size), filters.BILINEAR)
    target[...] = np.asarray(image)
  return resized
