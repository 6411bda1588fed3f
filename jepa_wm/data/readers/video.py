"""Frames out of video files, with PyAV."""

import contextlib
import pathlib
from collections.abc import Iterator

import numpy as np

from jepa_wm.data.readers import reader

try:
  import av
except ImportError:
  av = None  # type: ignore[assignment]


def read_frames(
  path: pathlib.Path, *, start: float = 0.0, num_frames: int | None = None
) -> Iterator[np.ndarray]:
  """Decodes a video, or a part of it, one frame after another.

  Args:
    path: a file that FFmpeg reads.
    start: seconds; frames that are shown earlier are left out.
    num_frames: how many follow; None decodes to the end.

  Yields:
    uint8 `[height, width, 3]`.

  Raises:
    ImportError: PyAV is not installed.
    ValueError: no such file, one that is cut off or damaged, or fewer frames.
  """
  if av is None:
    raise reader.missing('av (PyAV)', f'{path} is a video and')
  if not path.is_file():
    raise ValueError(f'{path}: no such video; copy the source again.')
  count = 0
  with _blamed(path), av.open(str(path)) as container:
    if not container.streams.video:
      raise ValueError(f'{path} has no video in it; copy the source again.')
    stream = container.streams.video[0]
    rate = float(stream.average_rate or stream.guessed_rate or 1)
    # Times are rounded to the container's ticks.
    begin = start - 0.5 / rate
    if start > 0 and stream.time_base:
      # To the key frame before, from where frames are decoded and dropped.
      container.seek(int(start / stream.time_base), stream=stream)
    for frame in container.decode(stream):
      if frame.time is not None and frame.time < begin:
        continue
      if num_frames is not None and count == num_frames:
        break
      yield frame.to_ndarray(format='rgb24')
      count += 1
  if num_frames is not None and count < num_frames:
    raise ValueError(
      f'{path} has {count} frames from {start:g} s on and its table '
      f'{num_frames} rows; it is cut off, copy it again.'
    )


def count_frames(path: pathlib.Path) -> int:
  """Number of frames of a video.

  Raises:
    ImportError: PyAV is not installed.
    ValueError: see `read_frames`.
  """
  if av is None:
    raise reader.missing('av (PyAV)', f'{path} is a video and')
  if not path.is_file():
    raise ValueError(f'{path}: no such video; copy the source again.')
  with _blamed(path), av.open(str(path)) as container:
    stream = container.streams.video[0]
    return sum(bool(packet.size) for packet in container.demux(stream))


@contextlib.contextmanager
def _blamed(path: pathlib.Path) -> Iterator[None]:
  """Says which file cannot be decoded."""
  try:
    yield
  except (av.FFmpegError, IndexError) as error:
    raise ValueError(
      f'{path} is cut off or damaged ({error}); copy it again.'
    ) from error
