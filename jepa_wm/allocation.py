"""Memory that a process has freed and will want again.

XLA on a CPU asks the C library for the buffers of a program at every call and
gives them back after it. glibc maps each large one anew, so the kernel clears
every page of it at every step: a third of the CPU time of small trainings
(`benchmarks/freed_memory.py`).
"""

import ctypes
import os
import platform
import sys

# Of <malloc.h>.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8

_TOP_PAD_BYTES = 64 * 2**20


def keep_freed() -> bool:
  """Has the process keep memory that it frees, to use it again.

  It holds its peak until it ends; buffers come from the heap, none is mapped
  for itself. Whoever set `GLIBC_TUNABLES` or `MALLOC_...` of glibc has chosen
  already, and nothing is changed.

  Returns:
    Whether it does: only glibc can be told.
  """
  if any(name.startswith(('GLIBC_TUNABLES', 'MALLOC_')) for name in os.environ):
    return False
  if sys.platform != 'linux' or platform.libc_ver()[0] != 'glibc':
    return False
  mallopt = ctypes.CDLL(None).mallopt
  wanted = (
    # Arenas of threads are small, and what does not fit is mapped for itself.
    (_ARENA_MAX, 1),
    (_MMAP_MAX, 0),
    # Of all there may be: nothing goes back.
    (_TRIM_THRESHOLD, -1),
    (_TOP_PAD, _TOP_PAD_BYTES),
  )
  return all([mallopt(what, value) == 1 for what, value in wanted])
