"""Frames as what changes in them, where flat arrays would not fit.

Frames in a row of one episode, up to `CHUNK_FRAMES` of them, are a chunk: one
reference frame (the median of a few of them, so mostly what stands still), and
of each frame those pieces of `PIECE_BYTES` that differ from it. Four arrays
that are memory-mapped, so that any frame is read alone, whole batches are put
together by a few copies, and nothing is decompressed:

  pixels.references.npy  uint8 `[C, height, width, 3]`
  pixels.masks.npy       uint8 `[N, S / 8]`, a bit for each of S pieces: differs
  pixels.pieces.npy      uint8 `[P, PIECE_BYTES]`, of all frames in order
  pixels.starts.npy      int64 `[N + 1]`, first piece of each frame

Lossless whatever the frames are; smaller only where some of them stands still.
"""

import pathlib
from typing import Any

import numpy as np

from jepa_wm.data import flat_frames

CHUNK_FRAMES = 64
PIECE_BYTES = 32
"""At most; the largest number up to it that divides the bytes of a frame."""
_NUM_MEDIAN = 15


class ChunkedFrames:
  """Frames `[N, height, width, 3]` indexed as an array's first axis is."""

  dtype = np.dtype(np.uint8)
  ndim = 4

  def __init__(
    self,
    directory: pathlib.Path,
    *,
    name: str = 'pixels',
    frame: tuple[int, ...],
    offsets: np.ndarray,
    lengths: np.ndarray,
  ) -> None:
    """Opens the files of `ChunkWriter`.

    Args:
      directory: where they lie.
      name: of the column.
      frame: `(height, width, 3)`.
      offsets: int64 `[E]`, first frame of each episode.
      lengths: int64 `[E]`, number of frames of each episode.

    Raises:
      ValueError: a file is missing, cut off, or of other episodes.
    """
    self.shape = (int(lengths.sum()), *frame)
    self._directory, self._offsets = directory, offsets
    self._name = name
    counts = _num_chunks(lengths)
    self._first_chunks = np.cumsum(counts) - counts
    piece = _piece_bytes(frame)
    self._num_pieces = int(np.prod(frame)) // piece
    self._references = self._map('references', (int(counts.sum()), *frame))
    self._masks = self._map('masks', (len(self), -(-self._num_pieces // 8)))
    self._starts = self._map('starts', (len(self) + 1,))
    self._pieces = self._map('pieces', (int(self._starts[-1]), piece))

  def _map(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
    file = f'{self._name}.{name}.npy'
    try:
      array = np.load(
        self._directory / file, mmap_mode='r' if np.prod(shape) else None
      )
    except (OSError, ValueError, EOFError) as error:
      raise ValueError(f'{file}: {error}') from error
    if array.shape != shape:
      raise ValueError(f'{file} has shape {array.shape}, not {shape}')
    return np.asarray(array)

  def __len__(self) -> int:
    return self.shape[0]

  def __getitem__(self, index: Any) -> np.ndarray:
    """Frames in memory.

    Args:
      index: a number, a slice, or an array of numbers `[...]`.

    Returns:
      uint8 `[..., height, width, 3]`.

    Raises:
      IndexError: there is no such frame.
      ValueError: the files are damaged.
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
    taken = np.empty((*frames.shape, *self.shape[1:]), np.uint8)
    self.take(frames, taken)
    return taken

  def take(self, frames: np.ndarray, out: np.ndarray) -> None:
    """Writes frames where they are wanted.

    Args:
      frames: int64 `[...]`, from 0 to `N - 1`.
      out: uint8 `[..., height, width, 3]`, contiguous.

    Raises:
      ValueError: the files are damaged.
    """
    frames = frames.ravel()
    episodes = np.searchsorted(self._offsets, frames, side='right') - 1
    local = frames - self._offsets[episodes]
    chunks = self._first_chunks[episodes] + local // CHUNK_FRAMES
    # Where nothing is clipped, NumPy writes without a copy in between.
    taken = out.reshape(len(frames), *self.shape[1:])
    self._references.take(chunks, axis=0, out=taken, mode='clip')
    masks = self._masks[frames]
    starts, ends = self._starts[frames], self._starts[frames + 1]
    counts = np.bitwise_count(masks).sum(axis=1, dtype=np.int64)
    if not np.array_equal(ends - starts, counts):
      raise ValueError(
        f'The frames at {self._directory} are damaged; remove the cache, and '
        'it is made again.'
      )
    if not counts.any():
      return
    pieces = np.concatenate(
      [self._pieces[a:b] for a, b in zip(starts.tolist(), ends.tolist())]
    )
    differs = np.unpackbits(masks, axis=1, count=self._num_pieces)
    # Whole pieces as single items: NumPy copies those several times faster.
    item = np.dtype((np.void, self._pieces.shape[1]))
    taken.reshape(-1).view(item)[differs.reshape(-1).view(np.bool_)] = (
      pieces.reshape(-1).view(item)
    )


class ChunkWriter:
  """Writes the frames of one episode after another."""

  def __init__(
    self,
    directory: pathlib.Path,
    frame: tuple[int, ...],
    *,
    name: str = 'pixels',
  ) -> None:
    """Creates the files of column `name` for frames of shape `frame`."""
    self.frame = frame
    self._starts = directory / f'{name}.starts.npy'
    self._piece = _piece_bytes(frame)
    num_pieces = int(np.prod(frame)) // self._piece
    self._references, self._masks, self._pieces = (
      flat_frames.FlatWriter(directory / f'{name}.{part}.npy', shape)
      for part, shape in (
        ('references', frame),
        ('masks', (-(-num_pieces // 8),)),
        ('pieces', (self._piece,)),
      )
    )
    self._counts = [np.zeros(1, np.int64)]

  def add(self, pixels: np.ndarray) -> None:
    """Appends an episode, uint8 `[T, height, width, 3]`.

    Raises:
      OSError: the disk is full or cannot be written to.
    """
    for begin in range(0, len(pixels), CHUNK_FRAMES):
      chunk = pixels[begin : begin + CHUNK_FRAMES]
      number = min(len(chunk), _NUM_MEDIAN)
      some = chunk[np.arange(number) * len(chunk) // number]
      reference = np.sort(some, axis=0)[number // 2]
      pieces = chunk.reshape(len(chunk), -1, self._piece)
      differs = (pieces != reference.reshape(1, -1, self._piece)).any(axis=-1)
      self._references.add(reference[None])
      self._masks.add(np.packbits(differs, axis=1))
      self._pieces.add(pieces[differs])
      self._counts.append(np.count_nonzero(differs, axis=1))

  def close(self) -> None:
    """Finishes the files; again does nothing."""
    if not self._counts:
      return
    for writer in (self._references, self._masks, self._pieces):
      writer.close()
    starts = np.cumsum(np.concatenate(self._counts), dtype=np.int64)
    np.save(self._starts, starts)
    self._counts.clear()


def _num_chunks(lengths: np.ndarray) -> np.ndarray:
  """Chunks of an episode of so many frames."""
  return -(-lengths // CHUNK_FRAMES)


def _piece_bytes(frame: tuple[int, ...]) -> int:
  """Bytes of a piece: pieces share a frame evenly."""
  size = int(np.prod(frame))
  return max(n for n in range(1, PIECE_BYTES + 1) if size % n == 0)
