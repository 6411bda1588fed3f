"""Commands in children of one process that has imported all that they need.

`Forks` starts that process; `run` gives it a command line. It forks, and the
child becomes what `python -m` would: flags, exit code and what is printed are
those of the command. That costs a tenth of a second in place of six. No device
is touched before the fork.
"""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

ROOT = pathlib.Path(__file__).parents[2]

BEGAN = 77
"""Exit code of a child that came to where its work begins."""

TIMED_OUT = 'timed out'


@dataclasses.dataclass(frozen=True)
class Ended:
  """How a command ended.

  Attributes:
    code: its exit code; of a signal the negative number; of one that came to
      where work begins `BEGAN`.
    out: what it printed.
    err: what it printed to standard error.
    seconds: that it took.
    peak: bytes of memory that it held at most.
    count: file operations that it made, where these were counted.
    last: the last of them, where the child was killed at one.
  """

  code: int
  out: str
  err: str
  seconds: float
  peak: int
  count: int = 0
  last: str = ''

  @property
  def sentence(self) -> str:
    """The last line of standard error."""
    lines = self.err.strip().splitlines()
    return lines[-1] if lines else ''

  @property
  def has_traceback(self) -> bool:
    """Whether somebody's code showed through."""
    said = self.err + self.out
    return 'Traceback (most recent' in said or 'Fatal Python error' in said


class Forks:
  """The process that forks; use it as a context.

  Args:
    env: of the process, beside this one's.
  """

  def __init__(self, env: Mapping[str, str] | None = None):
    self._folder = tempfile.TemporaryDirectory(prefix='jepa_wm_forks_')
    answers, theirs = os.pipe()
    self._process = subprocess.Popen(
      [sys.executable, '-m', 'tests.stress.forking', str(theirs)],
      stdin=subprocess.PIPE,
      cwd=ROOT,
      env={
        **os.environ,
        'JAX_PLATFORMS': 'cpu',
        'MPLBACKEND': 'agg',
        'XDG_CACHE_HOME': f'{self._folder.name}/cache',
        'XLA_FLAGS': compiler_flags(),
        **(env or {}),
      },
      pass_fds=[theirs],
      text=True,
    )
    os.close(theirs)
    self._answers = os.fdopen(answers)
    assert self._answers.readline() == 'ready\n'

  def __enter__(self) -> 'Forks':
    return self

  def __exit__(self, *_: object) -> None:
    assert self._process.stdin is not None
    self._process.stdin.close()
    self._process.wait()
    self._answers.close()
    self._folder.cleanup()

  def start(
    self,
    module: str,
    *argv: object,
    cwd: str | os.PathLike[str],
    stop_at: Sequence[str] = (),
    kill_at: int = 0,
    fail_at: int = 0,
    count: bool = False,
    hide: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    timeout: float = 120.0,
  ) -> int:
    """Begins a command; `finish` waits for it.

    Args:
      module: of the command, `experiments.plan`, or 'module:function' of one
        that is called with `argv`.
      *argv: its arguments.
      cwd: where it runs.
      stop_at: functions, `module.name`, at which it ends with `BEGAN`.
      kill_at: number of the file operation at which SIGKILL comes; 0 for none.
      fail_at: number of the writing operation from which on the disk is full.
      count: whether file operations are counted.
      hide: what the files are below that count; all by default.
      env: changes of the environment.
      timeout: seconds after which it is killed.

    Returns:
      Its number, for `finish`.
    """
    request = {
      'module': module,
      'argv': [str(x) for x in argv],
      'cwd': str(cwd),
      'stop_at': list(stop_at),
      'kill_at': kill_at,
      'fail_at': fail_at,
      'count': count,
      'below': [str(x) for x in hide] or [str(cwd)],
      'env': dict(env or {}),
      'timeout': timeout,
      'folder': self._folder.name,
    }
    assert self._process.stdin is not None
    self._process.stdin.write(json.dumps(request) + '\n')
    self._process.stdin.flush()
    return int(self._answers.readline())

  def finish(self, number: int) -> Ended:
    """Waits for the command of that number."""
    assert self._process.stdin is not None
    self._process.stdin.write(json.dumps({'wait': number}) + '\n')
    self._process.stdin.flush()
    found: dict[str, Any] = json.loads(self._answers.readline())
    return Ended(**found)

  def run(self, module: str, *argv: object, **given: Any) -> Ended:
    """`start` and `finish`."""
    return self.finish(self.start(module, *argv, **given))


def compiler_flags() -> str:
  sys.path.insert(0, str(ROOT / 'tests'))
  try:
    import compiler
  finally:
    sys.path.pop(0)
  return compiler.FLAGS
