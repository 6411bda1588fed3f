"""Frames one after another in a `.npy` file that can be memory-mapped."""

import pathlib

import numpy as np


class FlatWriter:
  """One array of frames whose number is known at the end."""

  def __init__(self, path: pathlib.Path, frame: tuple[int, ...]) -> None:
    """Creates the file for frames of shape `frame`."""
    self.frame = frame
    self._num_frames = 0
    self._file = path.open('wb', buffering=0)
    self._data_start = self._write_header()

  def add(self, pixels: np.ndarray) -> None:
    """Appends an episode, uint8 `[T, height, width, 3]`.

    Raises:
      OSError: the disk is full or cannot be written to.
    """
    self._num_frames += len(pixels)
    if pixels.size:  # A view of nothing cannot be cast.
      self._write(np.ascontiguousarray(pixels).data)

  def close(self) -> None:
    """Finishes the file; again does nothing."""
    if self._file.closed:
      return
    self._file.seek(0)
    # NumPy pads its header so that the number of rows can be filled in later.
    start = self._write_header()
    self._file.close()
    if start != self._data_start:
      raise RuntimeError('The header of pixels.npy outgrew its place.')

  def _write_header(self) -> int:
    header = {
      'descr': '|u1',
      'fortran_order': False,
      'shape': (self._num_frames, *self.frame),
    }
    np.lib.format.write_array_header_1_0(self._file, header)
    return self._file.tell()

  def _write(self, data: memoryview) -> None:
    """Writes all of `data`; one unbuffered write may stop short."""
    data = data.cast('B')
    while data:
      data = data[self._file.write(data) :]
