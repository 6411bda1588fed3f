"""One process at a time in a folder, also after one that was killed."""

import contextlib
import fcntl
import json
import os
import pathlib
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

from jepa_wm import files, processes

FILE = 'run.lock'
"""In the folder of a run, as long as it runs: who does, and a token of it."""

_WAIT_SECONDS, _SHOWN_SECONDS = 1.0, 20.0
_BEAT_SECONDS, _DEAD_SECONDS = 15.0, 300.0
"""How often the file is touched, and after what silence another host's is
taken to be dead: clocks may differ by minutes."""


class HeldError(OSError):
  """Another process works in this folder; the sentence says which."""


@contextlib.contextmanager
def hold(workdir: str | os.PathLike[str]) -> Iterator[None]:
  """Keeps others out of a folder; what a killed run left behind is taken over.

  The file is locked as well as there: the system unlocks it with the process,
  however that ends, and a pid that is given away again does not matter.

  Args:
    workdir: the folder; made where missing, and then removed if nothing was put
      into it. Of several processes that share a run, the first holds it for
      all.

  Raises:
    HeldError: another run is in it, on this host or on another one.
    OSError: it cannot be written, or is not one folder for all processes.
  """
  workdir = files.expand(workdir)
  with contextlib.ExitStack() as stack:

    def take() -> dict[str, Any]:
      return stack.enter_context(_held(workdir))

    holder = processes.from_first(take)
    if not processes.is_first():
      _check_shared(workdir, holder)
    yield


def _check_shared(workdir: pathlib.Path, holder: dict[str, Any]) -> None:
  """Refuses a folder that is another one than that of the first process.

  Args:
    workdir: the folder.
    holder: what the first has written into its file.
  """
  # Disks of a network show a new file late; a killed run may have left one.
  until = time.monotonic() + _SHOWN_SECONDS
  while _found(workdir / FILE) != holder:
    if time.monotonic() > until:
      raise OSError(
        f'{workdir} on {socket.gethostname()} is not the folder in which '
        'process 0 works; choose one on a disk that all hosts share.'
      )
    time.sleep(0.1)


@contextlib.contextmanager
def _held(workdir: pathlib.Path) -> Iterator[dict[str, Any]]:
  """`hold`, for a process that is alone; gives what the file says of it."""
  path = workdir / FILE
  missing = [x for x in (workdir, *workdir.parents) if not x.exists()]
  try:
    descriptor = _acquire(path)
  except HeldError:
    raise
  except OSError as error:
    # Found out before the training, not after it.
    raise OSError(
      f'{workdir} cannot be written ({error.strerror}); choose another folder.'
    ) from error
  done = threading.Event()
  beat = threading.Thread(target=_beat, args=(descriptor, done), daemon=True)
  beat.start()
  try:
    yield _read(descriptor)
  finally:
    done.set()
    beat.join()
    # Before it is unlocked, so that nobody's file but ours is removed.
    path.unlink(missing_ok=True)
    os.close(descriptor)
    # Where all was refused, nothing is left: folders that are empty go.
    with contextlib.suppress(OSError):
      for folder in missing:
        folder.rmdir()


@contextlib.contextmanager
def wait(workdir: str | os.PathLike[str]) -> Iterator[None]:
  """Keeps others out of a folder, as `hold`, once nobody is in it any more."""
  while True:
    with contextlib.ExitStack() as stack:
      try:
        stack.enter_context(hold(workdir))
      except HeldError:
        time.sleep(_WAIT_SECONDS)
        continue
      yield
      return


def tidy(workdir: str | os.PathLike[str]) -> None:
  """Removes the lock that a killed process has left in a folder, if one has."""
  if (files.expand(workdir) / FILE).exists():
    with contextlib.suppress(HeldError), hold(workdir):
      pass


def _beat(descriptor: int, done: threading.Event) -> None:
  """Touches the file now and then, until it is over."""
  while not done.wait(_BEAT_SECONDS):
    with contextlib.suppress(OSError):
      os.utime(descriptor)


def _acquire(path: pathlib.Path) -> int:
  """The locked file, with our host, pid and a token in it."""
  while True:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
      descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except FileNotFoundError:
      # Whoever made the folder removed it in between.
      continue
    try:
      fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      holder = _read(descriptor)
      os.close(descriptor)
      raise HeldError(_sentence(path, holder)) from None
    if not _is_at(path, descriptor):
      # Whoever held it removed it in between.
      os.close(descriptor)
      continue
    holder = _read(descriptor)
    # Not every file system of several hosts carries a lock to the others.
    silence = time.time() - os.fstat(descriptor).st_mtime
    is_ours = holder.get('host', socket.gethostname()) == socket.gethostname()
    if not is_ours and silence < _DEAD_SECONDS:
      os.close(descriptor)
      raise HeldError(
        _sentence(path, holder)
        + f' It was alive {silence:.0f} s ago; after {_DEAD_SECONDS:.0f} s of '
        'silence another host takes over.'
      )
    os.ftruncate(descriptor, 0)
    us = {
      'host': socket.gethostname(),
      'pid': os.getpid(),
      'token': secrets.token_hex(8),
    }
    os.pwrite(descriptor, json.dumps(us).encode(), 0)
    # Other hosts read it while it is open here.
    os.fsync(descriptor)
    return descriptor


def _is_at(path: pathlib.Path, descriptor: int) -> bool:
  """Whether the open file is the one that has this name."""
  try:
    return os.path.samestat(os.stat(path), os.fstat(descriptor))
  except FileNotFoundError:
    return False


def _found(path: pathlib.Path) -> dict[str, Any]:
  """Who wrote the file of this name; nothing where there is none."""
  try:
    descriptor = os.open(path, os.O_RDONLY)
  except FileNotFoundError:
    return {}
  try:
    return _read(descriptor)
  finally:
    os.close(descriptor)


def _read(descriptor: int) -> dict[str, Any]:
  """Who wrote the file; nothing where it is half written."""
  try:
    holder = json.loads(os.pread(descriptor, 4096, 0))
  except ValueError:
    return {}
  return holder if isinstance(holder, dict) else {}


def _sentence(path: pathlib.Path, holder: dict[str, Any]) -> str:
  who = 'Another process'
  if holder:
    who = f'Process {holder.get("pid")} on {holder.get("host")}'
  return (
    f'{who} works in {path.parent} already; wait for it, stop it, or choose '
    'another folder.'
  )
