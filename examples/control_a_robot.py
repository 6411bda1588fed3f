"""Drives a robot by an exported plan: looks, plans, acts, looks again.

python -m experiments.export --what=plan --num_samples=32 --num_iterations=3
python examples/control_a_robot.py
"""

import hashlib
import json
import pathlib
import time
from collections import deque

import numpy as np
from jax import export, jit, random

from jepa_wm import envs


def load(folder, name):
  """A function of an exported folder, and what it takes and gives."""
  try:
    manifest = pathlib.Path(folder, 'manifest.json').read_text()
    about = json.loads(manifest)['functions'][name]
    content = pathlib.Path(folder, f'{name}.stablehlo').read_bytes()
  except (OSError, ValueError, KeyError, TypeError) as error:
    raise ValueError(f'{folder} holds no {name}; export it again.') from error
  if hashlib.sha256(content).hexdigest() != about['stablehlo']['sha256']:
    raise ValueError(f'{name} in {folder} is damaged; copy it again.')
  return jit(export.deserialize(content).call), about


def drive(camera, act, goal, plan, about, *, seconds, num_blocks):
  """Looks, plans and plays a block of actions; says how each plan went."""
  takes, shape = about['inputs'], about['inputs']['pixels']['shape']
  still = np.zeros(about['outputs']['actions']['shape'][-2:], np.float32)
  full = lambda x: np.full(x['shape'], float(x['start']), x['dtype'])
  fresh = {name: full(x) for name, x in takes.items() if 'start' in x}
  length = shape[1] if len(shape) == 5 else 1  # Frames that it looks back.
  seen, played = (deque([x] * length, length) for x in (camera(), still))
  blocks, carried, said = [], fresh, []
  for number in range(num_blocks):
    given = {'pixels': np.reshape(seen, shape), 'goal/pixels': goal[None]}
    given |= {'actions': np.asarray(played)[None, 1:], **carried}
    given['rng_key'] = np.uint32([0, number])
    given['steps_left'] = np.int32((num_blocks - number) * len(still))
    due = time.monotonic() + seconds
    made = plan({name: given[name] for name in takes})  # Returns at once.
    while not made['actions'].is_ready() and time.monotonic() < due:
      time.sleep(1e-3)
    if not made['actions'].is_ready():  # The last plan goes on, then it stops.
      said, carried = [*said, 'late'], fresh
    elif all(np.isfinite(made[x]).all() for x in {'actions', 'cost'} & {*made}):
      blocks = [*np.reshape(made['actions'], (-1, *still.shape))]
      said, carried = [*said, 'new'], {k: np.asarray(made[k]) for k in fresh}
    else:  # The model cannot say what will be: stop.
      blocks, said, carried = [], [*said, 'not finite'], fresh
    played.append(blocks.pop(0) if blocks else still)
    for action in played[-1]:
      act(action)
    seen.append(camera())
  return said


def main(folder='outputs/export', num_blocks=12):
  """Drives to a goal in Two Room; the distance left, in px."""
  world = envs.TwoRoom(image_size=64)
  render, step = jit(world.render), jit(world.step)
  *states, goal = map(world.reset, random.split(random.key(5)))
  camera = lambda: np.asarray(render(states[-1]))
  act = lambda action: states.append(step(states[-1], action))
  ways = np.asarray(render(goal)), *load(folder, 'plan')
  drive(camera, lambda _: None, *ways, seconds=60.0, num_blocks=1)  # Compiles.
  said = drive(camera, act, *ways, seconds=0.5, num_blocks=num_blocks)
  there = 'reached' if world.success(states[-1], goal) else 'not reached'
  print(f'{said.count("new")} of {len(said)} plans in time; goal {there}')
  return float(world.distance(states[-1], goal))


if __name__ == '__main__':
  main()
