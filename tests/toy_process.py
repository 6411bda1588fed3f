"""One of several processes that train the toy model, for `processes_test`.

python tests/toy_process.py FOLDER NUM_STEPS SECONDS_A_STEP LAYOUT
"""

import pathlib
import sys
import time

import optax
import toy

from jepa_wm import lock, processes, sharding, shares
from jepa_wm.training import draws, hooks, memory, metrics, run

BATCH_SIZE = 8


def evaluate(variables, records):
  """A number of the whole parameters, on the devices of one process."""
  kernel = variables['params']['encoder']['kernel']
  assert kernel.is_fully_addressable
  return {'held_out/norm': float((kernel**2).sum()), 'held_out/n': len(records)}


def train(workdir, num_steps, seconds=0.0, mesh=None, layout='replicated'):
  """Takes the steps that are left, and gives the whole state."""
  workdir = pathlib.Path(workdir)
  with lock.hold(workdir):
    beside, _ = hooks.usual(
      workdir,
      name='toy',
      evaluators=[evaluate],
      intervals=hooks.Intervals(log_every=1, eval_every=4, checkpoint_every=4),
    )
    rows = shares.own_rows(BATCH_SIZE, mesh)
    batches = toy.ToyBatches()
    one = run.Run(
      toy.ToyModel(),
      optax.adam(1e-2),
      batches if rows is None else draws.OwnRows(batches, rows),
      num_steps=num_steps,
      mesh=mesh,
      memory=memory.Memory(sharding=layout),
      action_statistics=toy.STATISTICS,
      hooks=beside,
    )
    one.resume(workdir / 'checkpoints')
    for _ in one.steps():
      time.sleep(seconds)


def main(workdir, num_steps, seconds, layout):
  """Trains, and ends as a command does."""
  metrics.draw_curves = lambda records, path: None
  sharding._SMALLEST = 1  # So that something lies split.
  with processes.joined(sys.argv[1:]):
    try:
      train(workdir, int(num_steps), float(seconds), layout=layout)
    except hooks.Interrupted as stop:
      print(stop, file=sys.stderr)
      sys.exit(stop.exit_code)


if __name__ == '__main__':
  main(*sys.argv[1:])
