"""How a command begins: before anything that can fail is imported.

`python -m experiments.NAME` calls `begin` by way of the package. It needs
nothing but Python: what the shell, the machine or a signal does to a command
that still imports is told in a sentence, too.
"""

import atexit
import builtins
import contextlib
import errno
import io
import os
import resource
import signal
import sys
import traceback
import warnings
from types import FrameType, TracebackType
from typing import Any

LEAST_MEMORY = 3 * 2**30
"""Bytes of addresses without which XLA and its threads abort the process."""

_LEAST_FILES, _MANY_FILES = 64, 1024
_LEAST_COLUMNS = 40

_OTHERS = (
  'DeprecationWarning',
  'PendingDeprecationWarning',
  'FutureWarning',
  'ImportWarning',
  'ResourceWarning',
  'SyntaxWarning',
)

_LIMITS = (
  ('RLIMIT_AS', 'v'),
  ('RLIMIT_DATA', 'd'),
)
"""Limits of memory, and the letters of `ulimit`."""


class Output(io.RawIOBase):
  """A descriptor to which writing never fails.

  Whoever reads what a command prints may go (`| head`), and the disk may be
  full where it is kept: the work goes on, and `failed` says so at the end.

  Attributes:
    failed: the first number of an error of the system; 0 if there was none.
  """

  def __init__(self, descriptor: int) -> None:
    super().__init__()
    self._descriptor = descriptor
    self.failed = 0

  def writable(self) -> bool:
    """As files say it."""
    return True

  def fileno(self) -> int:
    """The descriptor."""
    return self._descriptor

  def isatty(self) -> bool:
    """Whether somebody looks."""
    return os.isatty(self._descriptor)

  def write(self, data: Any) -> int:
    """Takes all, whether or not it can be written."""
    try:
      return os.write(self._descriptor, data)
    except OSError as error:
      self.failed = self.failed or error.errno or errno.EIO
      return len(data)


_outputs: dict[str, Output] = {}


def begin() -> None:
  """Makes the process one that commands run in, whatever the shell says.

  Nothing is lost because it cannot be printed, be it a letter or all. A signal
  ends the process at once; files that can be open are at least 1024
  where the system lets them. What others warn of stays a warning.
  """
  end_at_signals('Interrupted before anything was done.')
  # Of all that is done at the end the last: from there on Python would leave
  # signals to the system, which ends a process without a word.
  atexit.register(_ignore_signals)
  sys.excepthook = _tell
  _open_streams()
  _spare_others()
  # Figures are drawn without a toolkit; one that is not there is an error.
  os.environ['MPLBACKEND'] = 'agg'
  columns = os.environ.get('COLUMNS', '')
  if not columns.isdecimal() or int(columns[:9]) < _LEAST_COLUMNS:
    # The help of absl then takes what it takes without a terminal.
    os.environ.pop('COLUMNS', None)
  _check_files()
  _check_memory()
  try:
    os.getcwd()
  except OSError:
    sys.exit('The current folder is not there any more; change to another.')


def end_at_signals(said: str) -> None:
  """Has SIGINT and SIGTERM end the process at once, in a sentence.

  No exception is raised: the import of a module of C makes another of it.
  """

  def end(signum: int, frame: FrameType | None) -> None:
    del signum, frame
    os.write(2, f'{said}\n'.encode())
    os._exit(1)

  listen(end)


def listen(receive: Any) -> None:
  """Has a function receive SIGINT, unless it is ignored, and SIGTERM."""
  signal.signal(signal.SIGTERM, receive)
  # A shell's job in the background is not meant by Ctrl-C.
  if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
    signal.signal(signal.SIGINT, receive)


def _ignore_signals() -> None:
  for signum in (signal.SIGTERM, signal.SIGINT):
    signal.signal(signum, signal.SIG_IGN)


def finish() -> None:
  """Says at the end what of the output could not be written.

  Nobody is told who has stopped reading.
  """
  for stream in (sys.stdout, sys.stderr):
    if stream is not None:
      stream.flush()
  failed = [x.failed for x in _outputs.values() if x.failed]
  if failed and failed[0] != errno.EPIPE:
    sys.exit(
      'All is done, but what is printed could not be written: '
      f'{os.strerror(failed[0])}.'
    )


def _open_streams() -> None:
  """Opens what the shell has closed, and has writing never fail."""
  for number, name in enumerate(('stdin', 'stdout', 'stderr')):
    try:
      os.fstat(number)
    except OSError:
      # Else the next file is opened there, and printed into.
      os.open(os.devnull, os.O_RDWR)
    if number:
      before = getattr(sys, name)
      _outputs[name] = Output(number)
      stream = io.TextIOWrapper(
        io.BufferedWriter(_outputs[name]),
        encoding=before.encoding if before is not None else 'utf-8',
        errors='replace',
        line_buffering=number == 2 or os.isatty(number),
      )
      setattr(sys, name, stream)
      setattr(sys, f'__{name}__', stream)


def _spare_others() -> None:
  """Has what libraries are to change some day be no error, of `-W error`."""
  if not any(x.startswith('error') for x in sys.warnoptions):
    return
  for name in _OTHERS:
    # Who is started by this process is told in these words.
    sys.warnoptions.append(f'ignore::{name}')
    kind = getattr(builtins, name)
    others = r'(?!jepa_wm|experiments)'
    warnings.filterwarnings('ignore', category=kind, module=others)


def _check_files() -> None:
  """Has more files be open where the shell alone is in the way."""
  soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
  if not 0 <= soft < _MANY_FILES:
    return
  with contextlib.suppress(OSError, ValueError):
    wanted = _MANY_FILES if hard < 0 else min(_MANY_FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    soft = wanted
  if soft < _LEAST_FILES:
    sys.exit(
      f'This shell lets a process have {soft} open files (ulimit -n), and '
      f'commands need {_LEAST_FILES}: raise it.'
    )


def _check_memory() -> None:
  """Ends where XLA would abort without a word."""
  for name, letter in _LIMITS:
    soft, _ = resource.getrlimit(getattr(resource, name))
    if 0 <= soft < LEAST_MEMORY:
      sys.exit(
        f'This shell lets a process have {soft / 2**30:.1f} GiB of memory '
        f'(ulimit -{letter}), and commands need {LEAST_MEMORY / 2**30:.0f}: '
        'raise it.'
      )


def _tell(
  kind: type[BaseException],
  error: BaseException,
  trace: TracebackType | None,
) -> None:
  """What Python does with an exception that nobody has caught."""
  if '--verbosity=1' in sys.argv or not isinstance(
    error, (ImportError, OSError, MemoryError)
  ):
    traceback.print_exception(kind, error, trace)
  elif isinstance(error, ImportError):
    print(
      f'{error}: a package that the command needs is missing or broken in '
      f'{sys.executable}; install it as the README says.',
      file=sys.stderr,
    )
  else:
    said = str(error) or 'There is not enough memory'
    print(f'{said}, while the command was imported.', file=sys.stderr)
