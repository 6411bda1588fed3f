"""What renaming needs of the system, and what killed writers leave behind."""

import contextlib
import ctypes
import fcntl
import glob
import os
import pathlib
from typing import BinaryIO

_HERE, _EXCHANGE = -100, 2
"""AT_FDCWD and RENAME_EXCHANGE of Linux."""


def exchange(one: pathlib.Path, other: pathlib.Path) -> bool:
  """Has two folders change places at once; False where the system cannot."""
  rename = getattr(ctypes.CDLL(None), 'renameat2', None)
  if rename is None:
    return False
  names = os.fsencode(one), os.fsencode(other)
  return bool(rename(_HERE, names[0], _HERE, names[1], _EXCHANGE) == 0)


def open_own(path: pathlib.Path) -> BinaryIO:
  """Opens a file to write, and locks it where the disk knows locks.

  Raises:
    OSError: it cannot be opened.
  """
  file = path.open('wb')
  with contextlib.suppress(OSError):
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
  return file


def remove_abandoned(path: pathlib.Path) -> None:
  """Removes what processes that were killed have left of writing a file.

  Args:
    path: of the file; they wrote to `.NAME.PID.writing` beside it.
  """
  for left in path.parent.glob(f'.{glob.escape(path.name)}.*.writing'):
    pid = left.name.split('.')[-2]
    if pid.isdecimal() and not _is_running(int(pid)):
      # It is locked by one of another host, or gone in between.
      with contextlib.suppress(OSError), left.open('r+b') as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        left.unlink()


def _is_running(pid: int) -> bool:
  try:
    os.kill(pid, 0)
  except (OverflowError, ProcessLookupError):
    return False
  except PermissionError:
    return True
  return True
