"""Losses of a run of several processes, against those of one.

  python -m benchmarks.processes [--quick] [--steps=50]

Prints one JSON line. `experiments.train` trains the smallest LeWM on Two Room
as one process with four devices, as two with two and as four with one, joined
by gloo on this machine; `value` is the largest difference of the loss at any
step. Then two processes are started again, one of them is killed (SIGKILL) half
way, and all are started anew: `config` says of how many logged numbers the bits
differ from those of the two that nobody killed, and how long the other took to
end.
"""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
from typing import Any

from absl import flags

from benchmarks import records
from jepa_wm.training import metrics

_QUICK = flags.DEFINE_bool('quick', False, 'Two processes, eight steps.')
_STEPS = flags.DEFINE_integer('steps', 50, 'Steps of a run.', lower_bound=4)

_DEVICES = 4


def _start(
  workdir: pathlib.Path, count: int, steps: int
) -> list[subprocess.Popen[bytes]]:
  """The processes of a run."""
  with socket.socket() as probe:
    probe.bind(('localhost', 0))
    port = probe.getsockname()[1]
  given = {
    'config': 'experiments/configs/lewm.py:two_room_tiny',
    'config.data.source': 'simulation',
    'config.data.batch_size': 16,
    'config.data.num_eval_windows': 16,
    'config.num_steps': steps,
    'config.log_every': 1,
    'config.eval_every': steps,
    'config.checkpoint_every': max(2, steps // 5),
    'workdir': workdir,
  }
  started = []
  for index in range(count):
    environment = {
      **os.environ,
      'JAX_PLATFORMS': 'cpu',
      'JAX_NUM_CPU_DEVICES': str(_DEVICES // count),
    }
    if count > 1:
      environment |= {
        'JAX_COORDINATOR_ADDRESS': f'localhost:{port}',
        'JAX_NUM_PROCESSES': str(count),
        'JAX_PROCESS_ID': str(index),
      }
    command = [sys.executable, '-m', 'experiments.train']
    process = subprocess.Popen(
      [*command, *(f'--{name}={value}' for name, value in given.items())],
      env=environment,
      stdout=subprocess.DEVNULL,
      stderr=(workdir.parent / f'{workdir.name}.{index}.txt').open('w'),
    )
    started.append(process)
  return started


def _said(workdir: pathlib.Path) -> str:
  """What each process of a run said last."""
  texts = sorted(workdir.parent.glob(f'{workdir.name}.*.txt'))
  lines = [text.read_text().strip().splitlines() for text in texts]
  return ' | '.join(found[-1] if found else 'nothing' for found in lines)


def _trained(workdir: pathlib.Path, count: int, steps: int) -> list[Any]:
  """What a run logs, once all of its processes have ended well."""
  for process in _start(workdir, count, steps):
    if process.wait():
      raise ValueError(f'A run of {count} processes failed: {_said(workdir)}')
  found = metrics.read(workdir / 'metrics.jsonl')
  return [
    {
      name: x
      for name, x in record.items()
      if name.startswith(('train', 'held'))
    }
    for record in found
  ]


def _killed(workdir: pathlib.Path, steps: int) -> float:
  """Kills the second of two processes half way.

  Returns:
    Seconds until the first had ended.
  """
  first, second = _start(workdir, 2, steps)
  log = workdir / 'metrics.jsonl'
  while max([0, *(record['step'] for record in metrics.read(log))]) < steps / 2:
    if first.poll() is not None:
      raise ValueError(f'The run ended by itself: {_said(workdir)}')
    time.sleep(0.05)
  second.send_signal(signal.SIGKILL)
  second.wait()
  began = time.perf_counter()
  if first.wait() == 0:
    raise ValueError('The first process did not notice that it was alone.')
  return time.perf_counter() - began


def main(argv: list[str]) -> None:
  """Measures and prints."""
  del argv
  steps = 8 if _QUICK.value else _STEPS.value
  counts = (2,) if _QUICK.value else (2, 4)
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    one = _trained(folder / 'one', 1, steps)
    several = {x: _trained(folder / f'of_{x}', x, steps) for x in counts}
    seconds = _killed(folder / 'killed', steps)
    again = _trained(folder / 'killed', 2, steps)
  worst = {
    count: max(
      abs(record['train/loss'] - expected['train/loss'])
      for expected, record in zip(one, found, strict=True)
      if 'train/loss' in expected
    )
    for count, found in several.items()
  }
  different = sum(
    record[name] != value
    for expected, record in zip(several[2], again, strict=True)
    for name, value in expected.items()
  )
  line = records.line(
    'processes/two_room_tiny',
    max(worst.values()),
    'difference of the loss',
    {
      'steps': steps,
      'devices': _DEVICES,
      'loss': [one[1]['train/loss'], one[-2]['train/loss']],
      'by_processes': {str(x): value for x, value in worst.items()},
      'numbers_that_differ_after_a_kill': different,
      'seconds_until_the_other_ended': round(seconds, 1),
    },
  )
  print(json.dumps(line), flush=True)


if __name__ == '__main__':
  records.run(main)
