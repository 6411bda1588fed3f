"""How long the README's command takes, the first time and the second.

  python -m benchmarks.start_up [--quick]

Prints a JSON line for each of three starts of `experiments.plan` with the
shipped model, each a process of its own: without a compile cache, with an empty
one, and with what that one has left. `value` is seconds on a clock, `ratio` how
many times as long the start without takes, and `config` holds the CPU seconds
of user and system together. Floor and ceiling are measured beforehand; they are
kept in the user's cache folder, in whichever way programs are.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

from absl import flags

from benchmarks import records

_QUICK = flags.DEFINE_bool('quick', False, 'Few pairs and candidates.')

_SHORT = (
  *('--num_pairs=8', '--num_samples=30'),
  *('--num_elites=5', '--num_iterations=3'),
)


def _start(home: pathlib.Path, *arguments: str) -> tuple[float, float]:
  """Seconds and CPU seconds of a command whose user's cache is `home`."""
  left_out = 'JAX_COMPILATION_CACHE_DIR', 'JAX_PERSISTENT'
  environment = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith(left_out)
  }
  began = time.perf_counter()
  process = subprocess.Popen(
    [
      *(sys.executable, '-m', 'experiments.plan'),
      *(f'--out={tempfile.mkdtemp(dir=home)}', *arguments),
    ],
    env={**environment, 'XDG_CACHE_HOME': str(home)},
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
  )
  _, status, used = os.wait4(process.pid, 0)
  seconds = time.perf_counter() - began
  process.returncode = os.waitstatus_to_exitcode(status)
  if process.returncode:
    raise ValueError(f'experiments.plan ended with {process.returncode}.')
  return seconds, used.ru_utime + used.ru_stime


def main(argv: list[str]) -> None:
  """Measures and prints."""
  del argv
  given = _SHORT if _QUICK.value else ()
  with tempfile.TemporaryDirectory() as folder:
    home = pathlib.Path(folder)
    # Files are read once, and the baselines kept.
    _start(home, '--nocompile_cache', *given)
    without = None
    for name, more in (
      ('without', ('--nocompile_cache',)),
      ('first', ()),
      ('second', ()),
    ):
      seconds, cpu = _start(home, *more, *given)
      without = without or seconds
      kept = [x for x in home.rglob('*-cache') if x.is_file()]
      line = records.line(
        f'start_up/{name}',
        round(seconds, 1),
        's',
        {
          'cpu_s': round(cpu, 1),
          'programs': len(kept),
          'kept_mib': round(sum(x.stat().st_size for x in kept) / 2**20, 1),
        },
        ratio=round(without / seconds, 2),
      )
      print(json.dumps(line), flush=True)


if __name__ == '__main__':
  records.run(main)
