"""Frames out of encoded images (PNG, JPEG, ...)."""

import io
from collections.abc import Iterable, Iterator

import numpy as np
import PIL.Image


def decode(where: str, images: Iterable[bytes]) -> Iterator[np.ndarray]:
  """Decodes one image after another.

  Args:
    where: source and episode, for messages.
    images: encoded.

  Yields:
    uint8 `[height, width, 3]`.

  Raises:
    ValueError: what is no image, or cut off.
  """
  for index, data in enumerate(images):
    try:
      with PIL.Image.open(io.BytesIO(data)) as image:
        yield np.asarray(image.convert('RGB'))
    except (OSError, SyntaxError, TypeError) as error:
      raise ValueError(
        f'{where} has no image in row {index} ({error}); it is cut off or '
        'damaged, copy the source again.'
      ) from error
