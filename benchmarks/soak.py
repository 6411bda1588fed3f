"""Whether a process that goes on for long holds what it held at first.

  python -m benchmarks.soak [--quick] [--only=plans]

Plans 100,000 times as the README does, plays 10,000 episodes of a world outside
JAX in worker processes, half of which raise, die or give NaN now and then, and
writes 2,000 checkpoints. Prints a JSON line for each: memory of the process and
of its children, open files, threads and memory maps.

What is held is read a hundred times, evenly spread, behind the first thousand
times (the first tenth, of less than ten thousand). The median of the last ten
readings is held against that of the first ten: what has grown by more than
`SPARE`, far below what a leak of 200 bytes a plan comes to, ends the process
with 1.
"""

import contextlib
import json
import os
import pathlib
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

import jepa_wm
from benchmarks import records
from jepa_wm.envs import host_pool
from jepa_wm.training import checkpoints
from tests import counting_world

_QUICK = flags.DEFINE_bool('quick', False, 'A hundredth of it.')
_ONLY = flags.DEFINE_enum(
  'only', None, ['plans', 'episodes', 'checkpoints'], 'One of the three.'
)

SPARE = {
  'resident_mib': 16,
  'children_mib': 32,
  'children': 0,
  'files': 2,
  'threads': 2,
  'maps': 64,
}
"""What may be noise: pages that an allocator keeps, a pool's last thread."""

_ROWS = 20
_READINGS, _COMPARED = 100, 10


@flax.struct.dataclass
class _State:
  step: Any
  kernel: Any


def held() -> dict[str, int]:
  """What this process and its children hold now."""
  tasks = [*pathlib.Path('/proc/self/task').iterdir()]
  children: list[str] = []
  for task in tasks:
    with contextlib.suppress(OSError):  # It may have ended.
      children += (task / 'children').read_text().split()
  return {
    'resident_mib': _resident('self') // 1024,
    'children_mib': sum(map(_resident, children)) // 1024,
    'children': len(children),
    'files': len(os.listdir('/proc/self/fd')),
    'threads': len(tasks),
    'maps': len(pathlib.Path('/proc/self/maps').read_text().splitlines()),
  }


def _resident(process: str) -> int:
  """Resident memory of a process in KiB; 0 of one that is gone."""
  try:
    status = pathlib.Path(f'/proc/{process}/status').read_text()
  except OSError:
    return 0
  found = re.search(r'VmRSS:\s+(\d+)', status)
  return int(found[1]) if found else 0


def grown(readings: Sequence[dict[str, int]]) -> dict[str, float]:
  """What is more at the end than at first, by more than may be noise."""
  size = max(1, min(_COMPARED, len(readings) // 2))
  first, last = (
    {key: statistics.median(x[key] for x in some) for key in SPARE}
    for some in (readings[:size], readings[-size:])
  )
  more = {key: last[key] - first[key] for key in SPARE}
  return {key: more[key] for key in SPARE if more[key] > SPARE[key]}


def soak(
  name: str, count: int, do: Callable[[int], object], *, each: int = 1
) -> bool:
  """Does it so often, prints what was held, and says whether it is flat.

  Args:
    name: of what is done.
    count: how often.
    do: does it; takes how often it was called before.
    each: how many times of `count` a call is.
  """
  began, readings = time.perf_counter(), []
  calls, warm = count // each, min(1000, count // 10) // each
  numbers = np.linspace(warm, calls - 1, min(_READINGS, calls - warm))
  reading = set(numbers.astype(int).tolist())
  for number in range(calls):
    do(number)
    if number in reading:
      readings.append(held())
  seconds = time.perf_counter() - began
  more = grown(readings)
  line = records.line(
    f'soak/{name}',
    count,
    'times',
    {
      'first': readings[0],
      'last': readings[-1],
      'most': {key: max(x[key] for x in readings) for key in SPARE},
      'grown': more,
      'ms_each': round(1e3 * seconds / count, 2),
    },
  )
  print(json.dumps(line), flush=True)
  return not more


def plans(count: int) -> bool:
  """Plans as the README does, compiled once."""
  model = jepa_wm.WorldModel.from_checkpoint('two_room_small')
  rng = np.random.default_rng(0)
  shape = (1, model.image_size, model.image_size, 3)
  seen, wanted = (
    {'pixels': rng.integers(0, 256, shape, np.uint8)} for _ in range(2)
  )
  planner = model.planner(
    jepa_wm.CEM(num_samples=16, num_elites=4, num_iterations=2), horizon=5
  )

  def do(number: int) -> object:
    plan = planner(jax.random.key(number), seen, wanted)
    return np.asarray(plan.actions)

  return soak('plans', count, do)


def episodes(count: int) -> bool:
  """Plays episodes of ten steps, twenty at a time; some of them break."""
  rows, rng = np.arange(_ROWS), np.random.default_rng(0)
  with host_pool.Pool(counting_world.make(), _ROWS, num_workers=2) as pool:

    def do(number: int) -> None:
      pool.reset(rows, number * _ROWS + rows)
      actions = rng.uniform(-1, 1, (_ROWS, 10, 1))
      if number % 2:
        broken = [counting_world.RAISE, counting_world.NAN][number // 2 % 2]
        # A worker that dies takes seconds: the next one imports all anew.
        dies = number % 25 == 7
        actions[number % _ROWS, 5] = counting_world.DIE if dies else broken
      pool.play(rows, actions)

    return soak('episodes', count, do, each=_ROWS)


def write_checkpoints(count: int) -> bool:
  """Writes checkpoints as a run does, of which two are kept."""
  kernel = jnp.zeros((64, 64))
  with tempfile.TemporaryDirectory() as folder:
    return soak(
      'checkpoints',
      count,
      lambda number: checkpoints.save(
        folder, _State(jnp.int32(number), kernel), {}, keep=2
      ),
    )


def main(argv: list[str]) -> None:
  """Soaks."""
  del argv
  share = 100 if _QUICK.value else 1
  whole = {
    'plans': (plans, 100_000),
    'episodes': (episodes, 10_000),
    'checkpoints': (write_checkpoints, 2000),
  }
  are_flat = [
    do(count // share)
    for name, (do, count) in whole.items()
    if _ONLY.value in (None, name)
  ]
  sys.exit(0 if all(are_flat) else 1)


if __name__ == '__main__':
  records.run(main)
