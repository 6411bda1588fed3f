"""How a command runs and ends: in its results, or in one sentence."""

import atexit
import contextlib
import errno
import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

import jax
from absl import app, logging

from experiments import imports, starting
from jepa_wm import launchers

_FULL = errno.ENOSPC, errno.EDQUOT, errno.EFBIG

_AGAIN_SECONDS = 0.05


def run(
  main: Callable[[list[str]], object],
  parse_fn: Callable[[list[str]], list[str]],
) -> None:
  """Runs a command: all of them begin and end here.

  Args:
    main: what it does, in `one_sentence`.
    parse_fn: parses the command line, before any file is written.
  """

  def begun(argv: list[str]) -> None:
    try:
      with one_sentence('Interrupted.'):
        # Of several processes each may wait for another in C++, where nothing
        # but the system ends it.
        if launchers.has_company():
          signal.signal(signal.SIGTERM, signal.SIG_DFL)
          signal.signal(signal.SIGINT, signal.default_int_handler)
        else:
          sys.unraisablehook = STOPS.again
          STOPS.listen()
        main(argv)
    except SystemExit as stop:
      if STOPS.came:
        _leave(stop.code)
      if stop.code:
        raise
    finally:
      starting.end_at_signals('Interrupted at the end.')
    starting.finish()

  app.run(begun, flags_parser=parse_fn)


def _leave(code: Any) -> None:
  """Ends at once: threads that were at work may not outlive Python's end."""
  starting.end_at_signals('Interrupted.')
  if isinstance(code, str):
    print(code, file=sys.stderr)
    code = 1
  atexit._run_exitfuncs()
  for stream in (sys.stdout, sys.stderr):
    stream.flush()
  os._exit(code or 0)


@contextlib.contextmanager
def one_sentence(interrupted: str, *, out: str = '') -> Iterator[None]:
  """Ends the process in a sentence where the block cannot go on.

  Args:
    interrupted: what Ctrl-C leaves, unless it says so itself.
    out: folder that is written, of which errors of the system are then said.
  """
  try:
    yield
  except KeyboardInterrupt as stop:
    sys.exit(str(stop) or interrupted)
  except Exception as error:
    logging.debug('%s', error, exc_info=True)  # Shown by --verbosity=1.
    if STOPS.came:
      # Somebody took it for an error of his own.
      sys.exit(interrupted)
    if said := _sentence(error, out):
      sys.exit(said + _advice(error, said))
    raise


def _advice(error: Exception, said: str) -> str:
  """What to do about a full disk, where nobody says so."""
  is_full = getattr(error, 'errno', None) in _FULL
  if not is_full and os.strerror(errno.ENOSPC) not in said:
    return ''
  if any(x in said for x in ('make room', 'another', 'put that right')):
    return ''
  stop = '' if said.endswith('.') else '.'
  advice = (
    'Make room or choose another folder, then run the same command again.'
  )
  return f'{stop} {advice}'


def _sentence(error: Exception, out: str) -> str:
  """What an error says that is none of ours; '' where it may be."""
  if isinstance(error, OSError) and error.errno == errno.EMFILE:
    return (
      f'The system lets this process open no more files ({error.strerror}); '
      'raise the limit (ulimit -n).'
    )
  if isinstance(error, OSError) and error.errno and out:
    why = str(error.strerror).rpartition('Cannot write: ')[2]
    return f'Cannot write to {out}: {why}.'
  if isinstance(error, OSError) and error.errno and error.filename is not None:
    return f'{error.filename}: {error.strerror}.'
  if isinstance(error, (ImportError, ValueError, OSError)):
    return str(error)
  said = str(error).strip().partition('\n')[0]
  if isinstance(error, MemoryError) or 'RESOURCE_EXHAUSTED' in str(error):
    return (
      f'There is not enough memory ({said or "none left"}); choose smaller '
      'batches, horizons or numbers of episodes.'
    )
  if line := imports.line_of(error):
    return f'import: {line}: {type(error).__name__}: {said}.'
  platforms = jax.config.values['jax_platforms']
  if platforms and not _finds_devices():
    why = said.partition(' (set ')[0].rstrip('.')
    why = f' ({why})' if why else ''
    return (
      f'JAX finds none of the devices that JAX_PLATFORMS={platforms} asks for'
      f'{why}; leave it out, or say cpu.'
    )
  return ''


def _finds_devices() -> bool:
  """Whether the error is not that JAX has none; its own has no class."""
  try:
    return bool(jax.devices())
  except (RuntimeError, AssertionError):
    return False


class Stops:
  """SIGTERM and Ctrl-C as a KeyboardInterrupt that is not lost.

  Raised wherever Python is, it is lost in a destructor, or in a library that
  takes every exception for its own; `check` raises it again.

  Attributes:
    came: whether one has.
  """

  came = False

  def listen(self) -> None:
    """Has signals received."""
    starting.listen(self._receive)

  def check(self) -> None:
    """Between two pieces of work.

    Raises:
      KeyboardInterrupt: a signal has come.
    """
    if self.came:
      raise KeyboardInterrupt

  def again(self, unraisable: Any) -> None:
    """What `sys.unraisablehook` is: one that was lost comes once more."""
    if unraisable.exc_type is not KeyboardInterrupt:
      sys.__unraisablehook__(unraisable)
      return
    signal.signal(signal.SIGALRM, self._receive)
    signal.setitimer(signal.ITIMER_REAL, _AGAIN_SECONDS)

  def _receive(self, signum: int, frame: object) -> None:
    del signum, frame
    self.came = True
    raise KeyboardInterrupt


STOPS = Stops()
"""Those of this process."""
