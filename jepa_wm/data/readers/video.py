"""Frames out of video files, with PyAV."""

import contextlib
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from jepa_wm import files
from jepa_wm.data.readers import images, reader

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
  count = 0
  with _opened(path) as (container, stream):
    for _, frame in _decoded(container, stream, start):
      if num_frames is not None and count == num_frames:
        break
      yield frame.to_ndarray(format='rgb24')
      count += 1
  if num_frames is not None and count < num_frames:
    raise _too_short(path, count, start, num_frames)


def read_frames_at(
  path: pathlib.Path, times: np.ndarray
) -> Iterator[np.ndarray]:
  """Decodes the frames of a video that are shown at given times.

  Args:
    path: a file that FFmpeg reads.
    times: seconds after the first frame, `[T]`, rising.

  Yields:
    uint8 `[height, width, 3]`, for each time the frame that is nearest, less
    than half a frame away.

  Raises:
    ImportError: PyAV is not installed.
    ValueError: no such file, one that is cut off or damaged, times that do not
      rise, or one where the video has no frame of its own.
  """
  times = np.asarray(times, np.float64)
  if not (np.isfinite(times).all() and (np.diff(times) > 0).all()):
    raise ValueError(
      f'{path} cannot be read at the timestamps of its table, which do not '
      'rise from row to row.'
    )
  count = 0
  with _opened(path) as (container, stream):
    # Two frames may be equally near: an earlier one is kept until it is passed.
    half = 0.5 / _rate(stream)
    near: Any = None
    for time, frame in _decoded(container, stream, float(times[0]) - half):
      if near is not None and _is_nearer(near[0], time, times[count]):
        yield _at(path, near, times[count], half)
        near, count = None, count + 1
        if count == len(times):
          return
      near = (time, frame)
    if near is not None:
      yield _at(path, near, times[count], half)
      count += 1
  if count < len(times):
    raise _too_short(path, count, float(times[0]), len(times))


def count_frames(path: pathlib.Path) -> int:
  """Number of frames of a video.

  Raises:
    ImportError: PyAV is not installed.
    ValueError: see `read_frames`.
  """
  with _opened(path) as (container, stream):
    return sum(bool(packet.size) for packet in container.demux(stream))


def claimed_frames(path: pathlib.Path) -> int:
  """Number of frames that a video says it has; 0 where it does not."""
  if av is None:
    return 0
  try:
    with av.open(str(path)) as container:
      return max((x.frames for x in container.streams.video), default=0)
  except av.FFmpegError:
    return 0


def _is_nearer(earlier: float, later: float, time: float) -> bool:
  """Whether the frame before is the one of `time`."""
  return time - earlier <= later - time


def _at(
  path: pathlib.Path, near: tuple[float, Any], time: float, half: float
) -> np.ndarray:
  """The frame, if it is the one that is shown at `time`."""
  if abs(near[0] - time) >= half:
    raise ValueError(
      f'{path} has no frame of its own at {time:g} s, where its table has a '
      f'row: the nearest is at {near[0]:g} s, the frames are {2 * half:g} s '
      'apart; table and video are not of one recording, or one was thinned out.'
    )
  return near[1].to_ndarray(format='rgb24')


@contextlib.contextmanager
def _opened(path: pathlib.Path) -> Iterator[tuple[Any, Any]]:
  """A container and its video; says which file cannot be decoded."""
  if av is None:
    raise reader.missing('av (PyAV)', f'{path} is a video and')
  if not path.is_file():
    raise ValueError(f'{path}: no such video; copy the source again.')
  try:
    with av.open(str(path)) as container:
      if not container.streams.video:
        raise ValueError(f'{path} has no video in it; copy the source again.')
      stream = container.streams.video[0]
      images.check_size(stream.width, stream.height)
      yield container, stream
  except (av.FFmpegError, IndexError, MemoryError) as error:
    raise files.damaged(path, error) from error


def _rate(stream: Any) -> float:
  return float(stream.average_rate or stream.guessed_rate or 1)


def _decoded(
  container: Any, stream: Any, start: float
) -> Iterator[tuple[float, Any]]:
  """Frames from `start` on, each with its seconds after the first."""
  half = 0.5 / _rate(stream)
  # Some streams begin late; rows are counted from the first frame.
  zero = 0.0
  if stream.start_time is not None and stream.time_base:
    zero = float(stream.start_time * stream.time_base)
  if start > 0 and stream.time_base:
    # To the key frame before, from where frames are decoded and dropped.
    container.seek(int((zero + start) / stream.time_base), stream=stream)
  for number, frame in enumerate(container.decode(stream)):
    time = number * 2 * half if frame.time is None else frame.time - zero
    # Times are rounded to the container's ticks.
    if time >= start - half:
      images.check_size(frame.width, frame.height)
      yield time, frame


def _too_short(
  path: pathlib.Path, count: int, start: float, num_rows: int
) -> ValueError:
  return ValueError(
    f'{path} has {count} frames from {max(start, 0.0):g} s on and its table '
    f'{num_rows} rows; it is cut off, copy it again.'
  )
