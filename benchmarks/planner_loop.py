"""Milliseconds per plan of README's example in a loop, compiling counted.

  python -m benchmarks.planner_loop [--quick]

Plays 20 steps of MPC in Two Room with the shipped model and
`model.planner(jepa_wm.CEM(...), horizon=5)`, 32 candidates and 3 iterations:
each plan from the frame as it is, started from what the last one left, its
first block played. `value` is the median from frames to actions in host memory
after the first plan, which compiles; `config` says how long that took and how
many programs were compiled in the rest of the loop (the door is 0, and 20 ms).
`--quick` plays 5.
"""

import json
import statistics
import time

import jax
import numpy as np
from absl import flags

import jepa_wm
from benchmarks import records
from jepa_wm import envs

_QUICK = flags.DEFINE_bool('quick', False, 'Fewer steps, a smoke test.')
_COMPILING = '/jax/core/compile/backend_compile_duration'


def main(argv: list[str]) -> None:
  """Measures and prints."""
  del argv
  compiled = []

  def listen(event: str, duration: float, **_: object) -> None:
    if event == _COMPILING:
      compiled.append(duration)

  jax.monitoring.register_event_duration_secs_listener(listen)
  budget = {'num_samples': 32, 'num_elites': 4, 'num_iterations': 3}
  model = jepa_wm.WorldModel.from_checkpoint('two_room_small')
  world = envs.TwoRoom(image_size=model.image_size)
  planner = model.planner(
    jepa_wm.CEM(**budget),
    horizon=5,
    limits=jepa_wm.Limits(model.action_bounds(-1, 1)),
  )
  render, step = jax.jit(world.render), jax.jit(world.step)
  state, goal = map(world.reset, jax.random.split(jax.random.key(5)))
  wanted = {'pixels': render(goal)[None]}
  warm_start, seconds, counts = None, [], []
  for rng_key in jax.random.split(jax.random.key(1), 5 if _QUICK.value else 20):
    seen = {'pixels': render(state)[None]}
    start, before = time.perf_counter(), len(compiled)
    plan = planner(rng_key, seen, wanted, warm_start=warm_start)
    np.asarray(plan.actions)
    seconds.append(time.perf_counter() - start)
    counts.append(len(compiled) - before)
    warm_start = planner.shift(plan, 1)
    for action in model.raw_actions(plan.actions[:, 0])[0]:
      state = step(state, action)
  line = records.line(
    'planner_loop/two_room_small',
    round(1e3 * statistics.median(seconds[1:]), 2),
    'ms',
    {
      **budget,
      'num_plans': len(seconds),
      'slowest_ms': round(1e3 * max(seconds[1:]), 2),
      'first_seconds': round(seconds[0], 2),
      'compiled_after_the_first': sum(counts[1:]),
      'distance': round(float(world.distance(state, goal)), 1),
    },
  )
  print(json.dumps(line), flush=True)


if __name__ == '__main__':
  records.run(main)
