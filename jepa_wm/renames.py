"""What renaming needs of the system, and what killed writers leave behind."""

import contextlib
import ctypes
import fcntl
import glob
import os
import pathlib
import shutil
from collections.abc import Iterator
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


@contextlib.contextmanager
def scratch_folder(path: pathlib.Path) -> Iterator[pathlib.Path]:
  """Gives an empty folder beside `path`, which is gone when the block ends.

  Raises:
    OSError: it cannot be made.
  """
  own = beside(path)
  remove_abandoned(path)
  own.mkdir(parents=True)
  try:
    yield own
  finally:
    shutil.rmtree(own, ignore_errors=True)


def beside(path: pathlib.Path) -> pathlib.Path:
  """Where this process writes what will be at `path`, or is of use there."""
  return path.with_name(f'.{path.name}.{os.getpid()}.writing')


def remove_abandoned(path: pathlib.Path) -> None:
  """Removes what processes that were killed have left `beside` a path."""
  for left in path.parent.glob(f'.{glob.escape(path.name)}.*.writing'):
    pid = left.name.split('.')[-2]
    if not pid.isdecimal() or _is_running(int(pid)):
      continue
    if left.is_dir():
      shutil.rmtree(left, ignore_errors=True)
      continue
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
