"""Counts what a process does to files, kills it there, or has the disk full.

An operation is whatever changes what is on the disk: a file that is opened to
be written (before, and once more after, when it is there and empty), one that
is renamed, removed, truncated or synchronised, a folder that is made or
removed, a write to a descriptor. Python tells of them by audit events; what it
does not tell of is wrapped.
"""

import builtins
import errno
import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# Position of the path, or paths, among the arguments of an audit event.
_EVENTS = {
  'os.rename': (0, 1),
  'os.remove': (0,),
  'os.rmdir': (0,),
  'os.mkdir': (0,),
  'os.link': (0, 1),
  'os.symlink': (0, 1),
  'os.truncate': (0,),
}
_FULL = frozenset({'os.mkdir', 'open', 'opened', 'write', 'os.truncate'})


class _Watch:
  """What `watch` installs."""

  def __init__(
    self, below: Sequence[str], record: int, kill_at: int, fail_at: int
  ):
    self._below = tuple(os.path.realpath(x) for x in below)
    self._record, self._kill_at, self._fail_at = record, kill_at, fail_at
    self._count = self._writes = 0
    self._own = threading.local()
    self._lock = threading.RLock()
    self.write = os.write

  def hook(self, event: str, args: tuple[Any, ...]) -> None:
    """Audits."""
    if event == 'open':
      path, mode, flags = args
      text = mode if isinstance(mode, str) else ''
      writes = set(text) & set('wax+') or (flags or 0) & _WRITING
      if writes:
        self.came('open', (path,))
    elif event in _EVENTS:
      self.came(event, [args[i] for i in _EVENTS[event]])

  def came(self, event: str, paths: Sequence[Any]) -> None:
    """Counts an operation on a file that counts."""
    if getattr(self._own, 'busy', False) or not self._counts(paths):
      return
    with self._lock:
      self._own.busy = True
      try:
        self._count += 1
        told = f'{event} {" ".join(map(str, paths))}'
        self.write(self._record, f'{told!r}\n'.encode())
        if self._count == self._kill_at:
          os.kill(os.getpid(), signal.SIGKILL)
        if event in _FULL:
          self._writes += 1
          if self._fail_at and self._writes >= self._fail_at:
            raise OSError(
              errno.ENOSPC, os.strerror(errno.ENOSPC), str(paths[0])
            )
      finally:
        self._own.busy = False

  def _counts(self, paths: Sequence[Any]) -> bool:
    for path in paths:
      if isinstance(path, int):
        try:
          path = os.readlink(f'/proc/self/fd/{path}')
        except OSError:
          return False
      where = os.path.realpath(os.fsdecode(path))
      if any(where == x or where.startswith(f'{x}/') for x in self._below):
        return True
    return False


def watch(
  below: Sequence[str],
  record: str | os.PathLike[str],
  *,
  kill_at: int = 0,
  fail_at: int = 0,
) -> None:
  """Watches this process from here on.

  Args:
    below: folders in which operations count.
    record: file that gets a line for each.
    kill_at: number of the operation at which SIGKILL comes, from 1; 0 for none.
    fail_at: number of the operation that takes room from which on there is
      none left; 0 for never.
  """
  descriptor = os.open(record, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
  watched = _Watch(below, descriptor, kill_at, fail_at)
  opened: dict[str, Callable[..., Any]] = {'io': io.open, 'os': os.open}

  def io_open(file: Any, mode: str = 'r', *args: Any, **kwargs: Any) -> Any:
    found = opened['io'](file, mode, *args, **kwargs)
    if set(mode) & set('wx'):
      watched.came('opened', (file,))
    return found

  def os_open(path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
    found: int = opened['os'](path, flags, *args, **kwargs)
    if flags & (os.O_CREAT | os.O_TRUNC):
      watched.came('opened', (path,))
    return found

  def with_descriptor(event: str, function: Callable[..., Any]) -> Any:
    def called(where: Any, *args: Any, **kwargs: Any) -> Any:
      watched.came(event, (where,))
      return function(where, *args, **kwargs)

    return called

  builtins.open = io.open = io_open  # type: ignore[assignment]
  os.open = os_open
  for name in ('write', 'pwrite', 'fsync', 'ftruncate'):
    event = 'write' if 'write' in name else name
    setattr(os, name, with_descriptor(event, getattr(os, name)))
  sys.addaudithook(watched.hook)
