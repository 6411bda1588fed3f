"""CPU seconds of a training that keeps the memory it frees, and of one without.

  python -m benchmarks.freed_memory [--quick] [--agent=imagination]

Prints one JSON line. Each training is the command `experiments.train_agent` in
a process of its own, by turns; `ratio` is how many times the CPU seconds (of
user and system together) one takes without. `config` holds the system's seconds
and the largest resident memory of both, `[kept, given back]`.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from typing import Any

from absl import flags

from benchmarks import records

_QUICK = flags.DEFINE_bool('quick', False, 'A tiny training, once.')
_AGENT = flags.DEFINE_string('agent', 'imagination', 'Who is trained.')

# Says what glibc does anyway, so that `allocation` leaves it alone.
_GIVE_BACK = {'GLIBC_TUNABLES': 'glibc.malloc.perturb=0'}


def _train(agent: str, environment: dict[str, str]) -> Any:
  """The resources that a training took."""
  with tempfile.TemporaryDirectory() as folder:
    process = subprocess.Popen(
      [
        *(sys.executable, '-m', 'experiments.train_agent'),
        *(f'--agent={agent}', f'--workdir={folder}/run'),
      ],
      env={**os.environ, **environment},
      stdout=subprocess.DEVNULL,
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
  if process.returncode:
    raise ValueError(f'The training of {agent!r} ended with {status}.')
  return used


def main(argv: list[str]) -> None:
  """Measures and prints."""
  del argv
  agent = _AGENT.value + ('_tiny' if _QUICK.value else '')
  _train(f'{_AGENT.value}_tiny', {})  # Files are read once.
  taken: list[list[Any]] = [[], []]
  for _ in range(1 if _QUICK.value else 3):
    for found, environment in zip(taken, ({}, _GIVE_BACK)):
      found.append(_train(agent, environment))
  middle = lambda fn: [statistics.median(map(fn, found)) for found in taken]
  kept, given_back = middle(lambda used: used.ru_utime + used.ru_stime)
  line = records.line(
    f'freed_memory/{agent}',
    round(kept, 1),
    'CPU s',
    {
      'given_back': round(given_back, 1),
      'system_s': [round(x, 1) for x in middle(lambda used: used.ru_stime)],
      'peak_gib': [
        round(x / 2**20, 2) for x in middle(lambda used: used.ru_maxrss)
      ],
    },
    ratio=round(given_back / kept, 2),
  )
  print(json.dumps(line), flush=True)


if __name__ == '__main__':
  records.run(main)
