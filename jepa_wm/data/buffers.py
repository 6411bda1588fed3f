"""Memory for batches that is used again once nobody holds it any more."""

import sys
import threading

import numpy as np

_PROBE = [object()]
# References that there are where a list alone holds an object.
_ALONE = sys.getrefcount(_PROBE[0])


class Buffers:
  """Arrays of one shape, to be written over from end to end.

  Fresh pages, which the system fills with zeros first, cost as much as copying
  a large batch into them. An array is given out again only when nothing refers
  to it: whoever keeps a batch, a view of it, or a JAX or PyTorch array that
  shares its memory, keeps what is in it. Threads may share an instance.
  """

  def __init__(self, shape: tuple[int, ...], *, num_kept: int) -> None:
    """Prepares for uint8 arrays of `shape`, at most `num_kept` used again."""
    self._shape, self._num_kept = shape, num_kept
    self._buffers: list[np.ndarray] = []
    self._lock = threading.Lock()

  def next(self) -> np.ndarray:
    """An array that nobody else has; anything may be in it."""
    with self._lock:
      for number in range(len(self._buffers)):
        if sys.getrefcount(self._buffers[number]) == _ALONE:
          return self._buffers[number]
      buffer = np.empty(self._shape, np.uint8)
      if len(self._buffers) < self._num_kept:
        self._buffers.append(buffer)
      return buffer
