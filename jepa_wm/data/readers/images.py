"""Frames out of encoded images (PNG, JPEG, ...)."""

import io
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageOps

from jepa_wm import files
from jepa_wm.data.readers import reader

MAX_PIXELS = 2**26
"""Of a frame; a header that says more is one that lies."""
# Whose numbers are more than 8 bits, of which only the writer knows the scale.
_DEEP_MODES = ('I', 'F', 'I;16', 'I;16B', 'I;16L', 'I;16N')


def decode(where: str, images: Iterable[Any]) -> Iterator[np.ndarray]:
  """Decodes one image after another.

  Args:
    where: source and episode, for messages.
    images: encoded, as bytes.

  Yields:
    uint8 `[height, width, 3]`.

  Raises:
    ValueError: what is no image, cut off, larger than `MAX_PIXELS`, of more
      than 8 bits, or see-through in parts.
  """
  for index, data in enumerate(images):
    if data is None:
      raise ValueError(
        f'{where} has no image in row {index}: its cell is empty.'
      )
    try:
      with PIL.Image.open(io.BytesIO(data)) as image:
        check_size(image.width, image.height)
        mode, frame = image.mode, np.asarray(upright(image).convert('RGB'))
        clear = np.ptp(_opacity(image)) if image.has_transparency_data else 0
    # Pillow's decoders raise many kinds of errors.
    except Exception as error:
      raise ValueError(
        f'{where} has no image in row {index} ({error!s:.200}); it is cut off '
        'or damaged, copy the source again.'
      ) from error
    if mode in _DEEP_MODES:
      raise ValueError(
        f'{where} has an image of more than 8 bits a channel in row {index} '
        f'({mode}), whose scale only its writer knows; choose another column '
        'with --pixels.'
      )
    if clear:
      raise ValueError(
        f'{where} has a see-through image in row {index} ({mode}), or one of '
        'stacked frames, and no colours; write RGB, or choose another column '
        'with --pixels.'
      )
    yield frame


def upright(image: PIL.Image.Image) -> PIL.Image.Image:
  """An image turned as its EXIF orientation says, as every viewer shows it."""
  turned = PIL.ImageOps.exif_transpose(image)
  return image if turned is None else turned


def _opacity(image: PIL.Image.Image) -> np.ndarray:
  return np.asarray(image.convert('RGBA'))[..., 3]


def check_size(width: int, height: int) -> None:
  """Refuses a frame that would fill the memory.

  Raises:
    ValueError: it has more than `MAX_PIXELS`.
  """
  if width * height > MAX_PIXELS:
    raise ValueError(f'{width} x {height} pixels are no frame')


def cells(
  where: str, folder: pathlib.Path, column: Iterable[Any]
) -> Iterator[bytes | None]:
  """Encoded images of a table's column, as whoever wrote them keeps them.

  Args:
    where: source and episode, for messages.
    folder: of the source, from which paths count.
    column: bytes, a path, a dict of `bytes` and `path`, or None.

  Yields:
    The bytes of each cell; None of an empty one.

  Raises:
    ValueError: a path that leaves the folder or leads nowhere, or something
      else.
  """
  for index, cell in enumerate(column):
    if isinstance(cell, dict):
      data, path = cell.get('bytes'), cell.get('path')
      cell = path if data is None else data
    if cell is None or isinstance(cell, bytes):
      yield cell
    elif isinstance(cell, str):
      yield _read(f'{where} row {index},', reader.inside(folder, cell))
    else:
      raise ValueError(
        f'{where} has a {type(cell).__name__} for an image in row {index}; '
        'bytes, a path or both are read.'
      )


def _read(where: str, path: pathlib.Path) -> bytes:
  try:
    if not files.is_lfs_pointer(path):
      return path.read_bytes()
    error: object = 'a pointer'
  except OSError as caught:
    error = caught
  raise ValueError(f'{where} has no image: {files.damaged(path, error)}')
