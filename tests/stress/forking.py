"""The process that forks; see `forks`, which starts it and speaks with it.

Every line of standard input is a request, JSON; every answer is a line to the
descriptor that the command line names.
"""

import atexit
import contextlib
import importlib
import json
import os
import pathlib
import pkgutil
import resource
import runpy
import select
import signal
import sys
import time
import traceback
import warnings
from typing import Any

from tests.stress import file_operations, forks

MOST_MEMORY = 8 * 2**30

LIBRARIES = (
  *('matplotlib.pyplot', 'orbax.checkpoint', 'tensorflow_datasets', 'grain'),
  *('h5py', 'hdf5plugin', 'pyarrow.parquet', 'av', 'dm_pix', 'tensorboardX'),
  *('imageio.v3', 'flax.linen', 'optax', 'safetensors.numpy', 'array_record'),
)


def main() -> None:
  """Imports, then serves until standard input ends."""
  answers = os.fdopen(int(sys.argv[1]), 'w', buffering=1)
  os.set_inheritable(answers.fileno(), False)
  _import_all()
  answers.write('ready\n')
  running: dict[int, tuple[dict[str, Any], int, float]] = {}
  for number, line in enumerate(sys.stdin):
    request = json.loads(line)
    if 'wait' in request:
      answers.write(json.dumps(_wait(*running.pop(request['wait']))) + '\n')
      continue
    request['number'] = number
    pid = os.fork()
    if not pid:
      answers.close()
      _become(request)
    running[number] = request, pid, time.monotonic()
    answers.write(f'{number}\n')


def _import_all() -> None:
  """All of the package, the commands, and what they import when they must."""
  warnings.simplefilter('ignore')
  for name in LIBRARIES:
    with contextlib.suppress(ImportError):
      importlib.import_module(name)
  for package in map(importlib.import_module, ('jepa_wm', 'experiments')):
    for module in pkgutil.walk_packages(
      package.__path__, f'{package.__name__}.'
    ):
      # One has a world whose bounds are arrays; others need an extra.
      if module.name != 'experiments.bring_your_own':
        with contextlib.suppress(ImportError):
          importlib.import_module(module.name)


def _files_of(request: dict[str, Any]) -> dict[str, pathlib.Path]:
  folder = pathlib.Path(request['folder'])
  return {
    x: folder / f'{request["number"]}.{x}' for x in ('out', 'err', 'count')
  }


def _become(request: dict[str, Any]) -> None:
  """What `python -m` would be; never returns."""
  code = 1
  try:
    os.setsid()
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    paths = _files_of(request)
    for descriptor, name in ((0, None), (1, 'out'), (2, 'err')):
      flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC if name else os.O_RDONLY
      opened = os.open(paths[name] if name else os.devnull, flags, 0o644)
      os.dup2(opened, descriptor)
      os.close(opened)
    os.chdir(request['cwd'])
    os.environ.update(request['env'])
    for name in request['stop_at']:
      _stop_at(name)
    if request['kill_at'] or request['fail_at'] or request['count']:
      file_operations.watch(
        request['below'],
        paths['count'],
        kill_at=request['kill_at'],
        fail_at=request['fail_at'],
      )
    code = _run(request['module'], request['argv'])
    atexit._run_exitfuncs()
  except BaseException:
    traceback.print_exc()
  finally:
    with contextlib.suppress(BaseException):
      sys.stdout.flush()
      sys.stderr.flush()
    os._exit(code)


def _run(module: str, argv: list[str]) -> int:
  """Runs a module as the main one, or calls a function; the exit code."""
  name, _, function = module.partition(':')
  sys.argv = [name, *argv]
  try:
    if function:
      getattr(importlib.import_module(name), function)(*argv)
    else:
      runpy.run_module(name, run_name='__main__', alter_sys=True)
  except SystemExit as stop:
    if stop.code is None or isinstance(stop.code, int):
      return stop.code or 0
    print(stop.code, file=sys.stderr)
    return 1
  return 0


def _stop_at(path: str) -> None:
  """Has a function end the process in place of its work."""
  name, _, attribute = path.rpartition('.')
  try:
    owner: Any = importlib.import_module(name)
  except ImportError:
    module, _, kind = name.rpartition('.')
    owner = getattr(importlib.import_module(module), kind)
  assert callable(getattr(owner, attribute)), path

  def began(*_: Any, **__: Any) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(forks.BEGAN)

  setattr(owner, attribute, began)


def _wait(request: dict[str, Any], pid: int, began: float) -> dict[str, Any]:
  """Waits for a child, or ends it and all that it has started."""
  handle = os.pidfd_open(pid)
  left = began + request['timeout'] - time.monotonic()
  is_late = not select.select([handle], [], [], max(left, 0))[0]
  os.close(handle)
  if is_late:
    os.killpg(pid, signal.SIGKILL)
  _, status, usage = os.wait4(pid, 0)
  seconds = time.monotonic() - began
  # Workers that it leaves behind.
  with contextlib.suppress(ProcessLookupError, PermissionError):
    os.killpg(pid, signal.SIGKILL)
  paths = _files_of(request)
  said = {
    x: paths[x].read_text(errors='replace') if paths[x].exists() else ''
    for x in paths
  }
  for path in paths.values():
    path.unlink(missing_ok=True)
  counted = said['count'].splitlines()
  late = f'\n{forks.TIMED_OUT} after {seconds:.0f} s' if is_late else ''
  return {
    'code': os.waitstatus_to_exitcode(status),
    'out': said['out'],
    'err': said['err'] + late,
    'seconds': seconds,
    'peak': usage.ru_maxrss * 1024,
    'count': len(counted),
    'last': counted[-1] if counted else '',
  }


if __name__ == '__main__':
  main()
