"""Frames in compressed records of a few, where flat arrays would not fit.

An ArrayRecord file of one record a chunk: up to `CHUNK_FRAMES` frames in a row
of one episode, raw and then compressed by ArrayRecord. Chunks of an episode
overlap by `OVERLAP` frames, so that a window of `OVERLAP + 1` frames in a row
lies in one of them; any other frames are gathered from as many as they need.
"""

import errno
import pathlib
from typing import Any

import numpy as np
from array_record.python import array_record_module

CHUNK_FRAMES = 16
OVERLAP = 3
_STRIDE = CHUNK_FRAMES - OVERLAP
# Decompressed at once, whatever is asked for.
_MAX_BYTES = 2**27


class ChunkedFrames:
  """Frames `[N, height, width, 3]` indexed as an array's first axis is."""

  dtype = np.dtype(np.uint8)
  ndim = 4

  def __init__(
    self,
    path: pathlib.Path,
    *,
    frame: tuple[int, ...],
    offsets: np.ndarray,
    lengths: np.ndarray,
  ) -> None:
    """Opens a file of `ChunkWriter`.

    Args:
      path: the file.
      frame: `(height, width, 3)`.
      offsets: int64 `[E]`, first frame of each episode.
      lengths: int64 `[E]`, number of frames of each episode.

    Raises:
      ValueError: the file is cut off, or holds another number of chunks.
    """
    self.shape = (int(lengths.sum()), *frame)
    self._path, self._offsets = path, offsets
    counts = _num_chunks(lengths)
    self._first_chunks = np.cumsum(counts) - counts
    self._last_chunks = counts - 1
    try:
      self._reader: Any = array_record_module.ArrayRecordReader(str(path))
      found = self._reader.num_records()
    except (RuntimeError, ValueError) as error:
      raise ValueError(f'{path.name}: {error}') from error
    if found != counts.sum():
      raise ValueError(
        f'{path.name} has {found} chunks, not the {counts.sum()} of '
        f'{len(lengths)} episodes'
      )

  def __len__(self) -> int:
    return self.shape[0]

  def __getitem__(self, index: Any) -> np.ndarray:
    """Frames in memory.

    Args:
      index: a number, a slice, or an array of numbers `[...]`; of a window's
        frames along the last axis.

    Returns:
      uint8 `[..., height, width, 3]`.

    Raises:
      IndexError: there is no such frame.
      ValueError: the file is damaged.
    """
    if isinstance(index, slice):
      index = np.arange(len(self))[index]
    index = np.asarray(index)
    if index.dtype == np.bool_:
      index = np.flatnonzero(index)
    if index.size and not (
      -len(self) <= index.min() and index.max() < len(self)
    ):
      raise IndexError(
        f'Frames {index.min()}..{index.max()} of {len(self)} were asked for.'
      )
    frames = np.where(index < 0, index + len(self), index).astype(np.int64)
    windows = frames.reshape(-1, frames.shape[-1] if frames.ndim else 1)
    taken = np.empty((*windows.shape, *self.shape[1:]), np.uint8)
    chunks, places = self._places(windows)
    per_read = max(1, _MAX_BYTES // (CHUNK_FRAMES * taken[:1, :1].nbytes or 1))
    order = np.argsort(chunks, axis=None, kind='stable')
    sorted_chunks = chunks.ravel()[order]
    needed, begins = np.unique(sorted_chunks, return_index=True)
    flat, flat_places = taken.reshape(-1, *self.shape[1:]), places.ravel()
    ends = np.append(begins[1:], len(order))
    for start in range(0, len(needed), per_read):
      group = slice(start, start + per_read)
      for record, begin, end in zip(
        self._read(needed[group]), begins[group], ends[group], strict=True
      ):
        wanted = order[begin:end]
        flat[wanted] = record[flat_places[wanted]]
    return taken.reshape(*frames.shape, *self.shape[1:])

  def _places(self, windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Chunk of each frame and its place there, few chunks a window."""
    episodes = np.searchsorted(self._offsets, windows, side='right') - 1
    local = windows - self._offsets[episodes]
    own = np.minimum(local // _STRIDE, self._last_chunks[episodes])
    first = self._first_chunks[episodes]
    for t in range(1, windows.shape[1]):
      # The frame before has its chunk read anyway.
      ahead = local[:, t] - own[:, t - 1] * _STRIDE
      reused = (
        (episodes[:, t] == episodes[:, t - 1])
        & (ahead >= 0)
        & (ahead < CHUNK_FRAMES)
      )
      own[:, t] = np.where(reused, own[:, t - 1], own[:, t])
    return first + own, local - own * _STRIDE

  def _read(self, chunks: np.ndarray) -> list[np.ndarray]:
    try:
      records = self._reader.read(chunks.tolist())
      return [
        np.frombuffer(record, np.uint8).reshape(-1, *self.shape[1:])
        for record in records
      ]
    except (RuntimeError, ValueError, IndexError) as error:
      raise ValueError(
        f'{self._path} is cut off or damaged ({error}); remove its folder, '
        'and it is made again.'
      ) from error


class ChunkWriter:
  """Writes the frames of one episode after another."""

  def __init__(self, path: pathlib.Path) -> None:
    """Creates the file."""
    self._writer: Any = array_record_module.ArrayRecordWriter(
      str(path), 'group_size:1'
    )

  def add(self, pixels: np.ndarray) -> None:
    """Appends an episode, uint8 `[T, height, width, 3]`.

    Raises:
      OSError: the disk is full or cannot be written to.
    """
    try:
      for chunk in range(int(_num_chunks(np.asarray(len(pixels))))):
        begin = chunk * _STRIDE
        self._writer.write(pixels[begin : begin + CHUNK_FRAMES].tobytes())
    except RuntimeError as error:
      raise OSError(errno.EIO, str(error)) from error

  def close(self) -> None:
    """Finishes the file; again does nothing."""
    if self._writer.is_open():
      self._writer.close()


def _num_chunks(lengths: np.ndarray) -> np.ndarray:
  """Chunks of an episode of so many frames: as few as cover it."""
  return np.maximum(1, -(-(lengths - OVERLAP) // _STRIDE))
