"""Whether a process that goes on for long holds what it held at first.

  python -m benchmarks.soak [--quick] [--only=plans]

Plans 100,000 times as the README does, plays 10,000 episodes of a world outside
JAX in worker processes, half of which raise, die or give NaN now and then, and
writes 2,000 checkpoints. Prints a JSON line for each: resident memory, open
files, threads and memory maps after the first hundredth and at the end. What
grows by more than a tenth ends the process with 1.
"""

import json
import os
import pathlib
import sys
import tempfile
import threading
import time
from collections.abc import Callable
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

_ROWS = 20
# The first of these count as warming up; as much may be noise.
_SPARE = {'resident_mib': 64, 'files': 4, 'threads': 4, 'maps': 200}


@flax.struct.dataclass
class _State:
  step: Any
  kernel: Any


def held() -> dict[str, int]:
  """What this process holds now."""
  status = pathlib.Path('/proc/self/status').read_text()
  (resident,) = (
    line.split()[1] for line in status.splitlines() if 'VmRSS' in line
  )
  return {
    'resident_mib': int(resident) // 1024,
    'files': len(os.listdir('/proc/self/fd')),
    'threads': threading.active_count() + len(os.listdir('/proc/self/task')),
    'maps': len(pathlib.Path('/proc/self/maps').read_text().splitlines()),
  }


def soak(name: str, count: int, do: Callable[[int], object]) -> bool:
  """Does it so often, prints what was held, and says whether it is flat."""
  first, began = max(count // 100, 10), time.perf_counter()
  before: dict[str, int] = {}
  for number in range(count):
    do(number)
    if number == first:
      before = held()
  after = held()
  grown = {
    key: after[key] - before[key]
    for key in before
    if after[key] - before[key] > max(_SPARE[key], before[key] // 10)
  }
  seconds = time.perf_counter() - began
  line = records.line(
    f'soak/{name}',
    count,
    'times',
    {
      'first': before,
      'last': after,
      'grown': grown,
      'ms_each': round(1e3 * seconds / count, 2),
    },
  )
  print(json.dumps(line), flush=True)
  return not grown


def plans(count: int) -> bool:
  """Plans as the README does, compiled once by the library."""
  model = jepa_wm.WorldModel.from_checkpoint('two_room_small')
  size = model.image_size
  rng = np.random.default_rng(0)
  shape = (1, size, size, 3)
  frames = [rng.integers(0, 256, shape, np.uint8) for _ in range(2)]
  root = model.root(model.params, *({'pixels': x} for x in frames))

  def do(number: int) -> object:
    plan = jepa_wm.cem_plan(
      model.params,
      jax.random.key(number),
      root,
      model.dynamics,
      model.cost,
      horizon=5,
      action_dim=model.action_dim,
      num_samples=16,
      num_elites=4,
      num_iterations=2,
    )
    return jax.block_until_ready(plan.action)

  return soak('plans', count, do)


def episodes(count: int) -> bool:
  """Plays episodes of ten steps, twenty at a time; some of them break."""
  rows, rng = np.arange(_ROWS), np.random.default_rng(0)
  broken = [counting_world.RAISE, counting_world.DIE, counting_world.NAN]
  with host_pool.Pool(counting_world.make(), _ROWS, num_workers=2) as pool:

    def do(number: int) -> None:
      pool.reset(rows, number * _ROWS + rows)
      actions = rng.uniform(-1, 1, (_ROWS, 10, 1))
      if number % 2:
        actions[number % _ROWS, 5] = broken[number // 2 % len(broken)]
      pool.play(rows, actions)

    return soak('episodes', max(count // _ROWS, 11), do)


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
