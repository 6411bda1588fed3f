"""One process at a time in a folder, also after one that was killed.

Who works in a folder holds `run.lock` in it; who makes a folder beside its
place, to be renamed, holds `.NAME.lock` beside it. Each looks for the other.
"""

import contextlib
import errno
import fcntl
import json
import os
import pathlib
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from jepa_wm import files, lock_file, processes

FILE = 'run.lock'
"""In the folder of a run, as long as it runs: who does, and a token of it."""

_WAIT_SECONDS, _SHOWN_SECONDS = 1.0, 20.0
_LOOK_SECONDS = 0.05
"""For which a file may be locked by somebody who only looks at it."""

_MOST_GONE = 20
"""How often a folder may be gone again before its file is made."""

_YIELD_SECONDS = 1.0
"""For which `hold_place` waits for one that may be about to give way."""

_BEAT_SECONDS, _DEAD_SECONDS = 15.0, 300.0
"""How often the file is touched, and after what silence another host's is
taken to be dead: clocks may differ by minutes."""

_own: list[pathlib.Path] = []
"""Folders that this process holds."""


class HeldError(OSError):
  """Another process works in a folder; the sentence says which.

  Attributes:
    who: it, in words.
    what: the folder.
  """

  def __init__(
    self, holder: dict[str, Any], what: pathlib.Path, more: str = ''
  ):
    """Of what the file says and the folder; `more` ends the sentence."""
    self.who, self.what = 'another process', what
    if holder:
      self.who = f'process {holder.get("pid")} on {holder.get("host")}'
    super().__init__(
      f'{self.who[0].upper()}{self.who[1:]} works in {what} already; wait for '
      f'it, stop it, or choose another folder.{more}'
    )


@contextlib.contextmanager
def hold(
  workdir: str | os.PathLike[str], *, shared: bool = True
) -> Iterator[None]:
  """Keeps others out of a folder; what a killed run left behind is taken over.

  The file is locked as well as there: the system unlocks it with the process,
  however that ends, and a pid that is given away again does not matter.

  Args:
    workdir: the folder; made where missing, and then removed if nothing was put
      into it. Of several processes that share a run, the first holds it for
      all.
    shared: whether all of them write there.

  Raises:
    HeldError: another run is in it, on this host or on another one.
    OSError: it cannot be written, or is not one folder for all processes.
  """
  workdir = files.expand(workdir)
  beside = _beside(files.real(workdir))

  @contextlib.contextmanager
  def held() -> Iterator[dict[str, Any]]:
    # Before anything is made there, which would be in the other's way.
    _check_free(beside, workdir)
    with _held(workdir / FILE, workdir) as holder:
      _check_free(beside, workdir)
      yield holder

  with _first_holds(held) as holder:
    if shared and not processes.is_first():
      _check_shared(workdir, holder)
    _own.append(files.real(workdir))
    try:
      yield
    finally:
      _own.remove(files.real(workdir))


@contextlib.contextmanager
def hold_results(out: pathlib.Path) -> Iterator[None]:
  """Keeps others out of the folder that `--out` names, as `hold`.

  Of several processes the first alone writes there.

  Raises:
    HeldError: as of `hold`.
    OSError: a file is in the way, or it cannot be written to.
  """
  processes.by_first(lambda: files.place(out))
  with hold(out, shared=False):
    processes.by_first(lambda: files.writable(out))
    yield


@contextlib.contextmanager
def hold_place(out: str | os.PathLike[str]) -> Iterator[None]:
  """Keeps others out of the place of a folder that is made beside it.

  Who holds a folder holds all places in it.

  Args:
    out: the place; need not be there, and is not made.

  Raises:
    HeldError: another process makes a folder for this place, or works in the
      one that is there, on this host or on another one.
    OSError: nothing can be written beside it.
  """
  out = files.real(out)
  if set(_own) & set(out.parents):
    yield
    return

  @contextlib.contextmanager
  def held() -> Iterator[dict[str, Any]]:
    with _held(_beside(out), out) as holder:
      until = time.monotonic() + _YIELD_SECONDS
      while True:
        try:
          _check_free(out / FILE, out)
          break
        except HeldError:
          # Of two that come at once one gives way, and that is `hold`.
          if time.monotonic() > until:
            raise
          time.sleep(_LOOK_SECONDS)
      yield holder

  with _first_holds(held):
    yield


@contextlib.contextmanager
def _first_holds(
  held: Callable[[], contextlib.AbstractContextManager[dict[str, Any]]],
) -> Iterator[dict[str, Any]]:
  """Has the first process hold a lock for all; gives what its file says."""
  with contextlib.ExitStack() as stack:
    yield processes.from_first(lambda: stack.enter_context(held()))


def _check_shared(workdir: pathlib.Path, holder: dict[str, Any]) -> None:
  """Refuses a folder that is another one than that of the first process.

  Args:
    workdir: the folder.
    holder: what the first has written into its file.
  """
  # Disks of a network show a new file late; a killed run may have left one.
  until = time.monotonic() + _SHOWN_SECONDS
  while lock_file.found(workdir / FILE) != holder:
    if time.monotonic() > until:
      raise OSError(
        f'{workdir} on {socket.gethostname()} is not the folder in which '
        'process 0 works; choose one on a disk that all hosts share.'
      )
    time.sleep(0.1)


@contextlib.contextmanager
def _held(path: pathlib.Path, what: pathlib.Path) -> Iterator[dict[str, Any]]:
  """Holds a file that keeps others out of `what`; gives what it says of us."""
  missing = [x for x in path.parents if not x.exists()]
  try:
    descriptor = _acquire(path, what)
  except (HeldError, lock_file.InTheWayError):
    raise
  except OSError as error:
    _remove(missing)
    in_the_way = isinstance(error, FileExistsError | NotADirectoryError)
    why = 'a file is in the way' if in_the_way else error.strerror
    # Found out before the work, not after it.
    raise OSError(
      f'{what} cannot be written ({why}); choose another folder.'
    ) from error
  done = threading.Event()
  beat = threading.Thread(target=_beat, args=(descriptor, done), daemon=True)
  beat.start()
  try:
    yield lock_file.read(descriptor)
  finally:
    done.set()
    beat.join()
    # Before it is unlocked, so that nobody's file but ours is removed.
    path.unlink(missing_ok=True)
    os.close(descriptor)
    # Where all was refused, nothing is left.
    _remove(missing)


def _remove(folders: Iterable[pathlib.Path]) -> None:
  """Removes folders that are empty, the innermost first."""
  with contextlib.suppress(OSError):
    for folder in folders:
      folder.rmdir()


@contextlib.contextmanager
def wait(
  folder: str | os.PathLike[str],
  hold_fn: Callable[
    [str | os.PathLike[str]], contextlib.AbstractContextManager[None]
  ] = hold,
) -> Iterator[None]:
  """Keeps others out of a folder once nobody is in it any more.

  Args:
    folder: of `hold_fn`.
    hold_fn: `hold` or `hold_place`.

  Raises:
    OSError: as of `hold_fn`.
  """
  is_told = False
  while True:
    with contextlib.ExitStack() as stack:
      try:
        stack.enter_context(hold_fn(folder))
      except HeldError as held:
        if not is_told:
          print(f'Waiting for {held.who} in {held.what}.', file=sys.stderr)
        is_told = True
        time.sleep(_WAIT_SECONDS)
        continue
      yield
      return


def tidy(folder: str | os.PathLike[str]) -> None:
  """Removes what a killed process has left of its lock, in or beside a folder.

  Where somebody else holds it, or nobody may write, it stays.
  """
  folder = files.expand(folder)
  for path, hold_fn in (
    (folder / FILE, hold),
    (_beside(files.real(folder)), hold_place),
  ):
    if path.exists():
      with contextlib.suppress(OSError), hold_fn(folder):
        pass


def _beat(descriptor: int, done: threading.Event) -> None:
  """Touches the file now and then, until it is over."""
  while not done.wait(_BEAT_SECONDS):
    with contextlib.suppress(OSError):
      os.utime(descriptor)


def _acquire(path: pathlib.Path, what: pathlib.Path) -> int:
  """The locked file, with our host, pid and a token in it."""
  tries = gone = 0
  while True:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
      descriptor = lock_file.opened(path, os.O_RDWR | os.O_CREAT)
    except FileNotFoundError:
      # Whoever made the folder removed it in between; /proc never takes one.
      gone += 1
      if gone > _MOST_GONE:
        raise
      continue
    try:
      _lock(descriptor, what, fcntl.LOCK_EX)
    except HeldError:
      os.close(descriptor)
      tries += 1
      if tries < 3:
        time.sleep(_LOOK_SECONDS)
        continue
      raise
    if not lock_file.is_at(path, descriptor):
      # Whoever held it removed it in between.
      os.close(descriptor)
      continue
    us = {
      'host': socket.gethostname(),
      'pid': os.getpid(),
      'token': secrets.token_hex(8),
    }
    try:
      os.ftruncate(descriptor, 0)
      os.pwrite(descriptor, json.dumps(us).encode(), 0)
      # Other hosts read it while it is open here.
      os.fsync(descriptor)
    except OSError:
      path.unlink(missing_ok=True)
      os.close(descriptor)
      raise
    return descriptor


def _check_free(path: pathlib.Path, what: pathlib.Path) -> None:
  """Refuses where somebody who is alive holds this file.

  Raises:
    HeldError: somebody does.
  """
  try:
    descriptor = lock_file.opened(path, os.O_RDONLY)
  except OSError as error:
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
      return
    raise
  try:
    _lock(descriptor, what, fcntl.LOCK_SH)
  finally:
    os.close(descriptor)


def _lock(descriptor: int, what: pathlib.Path, kind: int) -> None:
  """Locks an open file, unless somebody who is alive has it.

  Raises:
    HeldError: somebody has.
  """
  try:
    fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
  except BlockingIOError:
    raise HeldError(lock_file.read(descriptor), what) from None
  holder = lock_file.read(descriptor)
  # Not every file system of several hosts carries a lock to the others.
  silence = time.time() - os.fstat(descriptor).st_mtime
  is_ours = holder.get('host', socket.gethostname()) == socket.gethostname()
  # No clock is so wrong, whether the time has been or is yet to come.
  if not is_ours and abs(silence) < _DEAD_SECONDS:
    raise HeldError(
      holder,
      what,
      f' It was alive {max(silence, 0):.0f} s ago; after {_DEAD_SECONDS:.0f} s '
      'of silence another host takes over.',
    )


def _beside(out: pathlib.Path) -> pathlib.Path:
  """What who makes the folder `out` holds."""
  return out.parent / f'.{out.name}.lock'
