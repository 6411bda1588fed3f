"""The file of a lock: a regular one, in which its holder says who it is."""

import json
import os
import pathlib
import stat
from typing import Any

_KINDS = {
  stat.S_IFLNK: 'a link',
  stat.S_IFDIR: 'a folder',
  stat.S_IFIFO: 'a pipe',
}


class InTheWayError(OSError):
  """Something else has the name of a lock's file; the sentence says what."""


def opened(path: pathlib.Path, flags: int) -> int:
  """Opens the file, and never what a link of its name leads to.

  Raises:
    InTheWayError: something that is no regular file has its name.
    OSError: as of `os.open`.
  """
  try:
    kind = stat.S_IFMT(os.lstat(path).st_mode)
  except FileNotFoundError:
    kind = stat.S_IFREG
  if kind != stat.S_IFREG:
    raise InTheWayError(
      f'{path} is {_KINDS.get(kind, "a device or socket")}, where a lock has '
      'its file; remove it, or choose another folder.'
    )
  # A link or pipe that has come since is not followed, and not waited for.
  return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)


def is_at(path: pathlib.Path, descriptor: int) -> bool:
  """Whether the open file is the one that has this name."""
  try:
    return os.path.samestat(os.lstat(path), os.fstat(descriptor))
  except FileNotFoundError:
    return False


def found(path: pathlib.Path) -> dict[str, Any]:
  """Who wrote the file of this name; nothing where there is none."""
  try:
    descriptor = opened(path, os.O_RDONLY)
  except FileNotFoundError:
    return {}
  try:
    return read(descriptor)
  finally:
    os.close(descriptor)


def read(descriptor: int) -> dict[str, Any]:
  """Who wrote the file; nothing where it is half written."""
  try:
    holder = json.loads(os.pread(descriptor, 4096, 0))
  except (ValueError, RecursionError):
    return {}
  return holder if isinstance(holder, dict) else {}
