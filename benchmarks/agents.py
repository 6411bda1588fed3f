"""Milliseconds and memory of a step and of a plan against the agents there are.

  JAX_PLATFORMS=cpu python -m benchmarks.agents [--quick] [--picture=agents.png]

Prints one JSON line a measurement. A step is `dynamics` of 64 candidates of the
model `multi_agent`, whose predictor's agents meet in `hubs` or see all
(`dense`). A plan is CEM over 5 blocks by the hubs, for all agents at once
(`joint`) or for one after the other (`coordinate`, one round, which costs what
`decentralised` does); each search has the same 16 candidates and 3 iterations.
`config` has what no other process changes: the temporary memory of the compiled
program, and its operations. Numbers of agents take turns, the value is the
median; `ratio` is how many times the value of the fewest it is.
"""

import functools
import json
import pathlib
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

import jepa_wm
from benchmarks import agents_picture, records
from jepa_wm import files, models, planning, sharding
from jepa_wm.evaluation.planning import flops
from jepa_wm.types import Root

_QUICK = flags.DEFINE_bool('quick', False, 'Few agents, a smoke test.')
_PICTURE = flags.DEFINE_string('picture', '', 'Where a PNG of it goes.')

_TOKEN, _EACH, _CANDIDATES, _HISTORY = 32, 2, 64, 3
_PREDICTOR = {
  'name': 'hubs',
  'history': _HISTORY,
  'width': 128,
  'depth': 4,
  'num_heads': 4,
  'head_dim': 32,
  'mlp_dim': 256,
  'dropout': 0.0,
}
_SEARCH = {'num_samples': 16, 'num_elites': 4, 'num_iterations': 3}
_HORIZON = 5

Run = Callable[[], object]
Case = tuple[Run, dict[str, int]]


def _model(num_agents: int, attention: str) -> jepa_wm.WorldModel:
  """A model of so many agents, its variables drawn."""
  config = {
    'name': 'multi_agent',
    'num_agents': num_agents,
    'action_dim': num_agents * _EACH,
    'action_block': 1,
    'token_dim': _TOKEN,
    'encoder': {
      'name': 'conv',
      'image_size': 32,
      'channels': (4,),
      'strides': (8,),
      'blocks': (0,),
      'features': 16,
    },
    'projector': {'hidden_dim': 16},
    'actions': {'features': 32},
    'predictor': {**_PREDICTOR, 'attention': attention},
  }
  return records.draw_model(models.from_config(config))


def _draw(*shape: int) -> jax.Array:
  rng = np.random.default_rng(sum(shape))
  return jnp.asarray(rng.normal(size=shape), jnp.float32)


def _seen(model: jepa_wm.WorldModel, num_problems: int, grows: bool) -> Any:
  """States that have seen a window."""
  latents = _draw(num_problems, _HISTORY, model.model.latent_dim)
  actions = _draw(num_problems, _HISTORY - 1, model.action_dim)
  return model.start_from(model.params, latents, actions, grows=grows)


def _step(num_agents: int, attention: str) -> Case:
  """A step of all candidates."""
  model = _model(num_agents, attention)
  state = _seen(model, _CANDIDATES, False)
  action = _draw(_CANDIDATES, model.action_dim)

  def step(params: Any, state: Any) -> Any:
    return model.dynamics(params, jax.random.key(0), action, state)

  return _compiled(step, model.params, state)


def _plan(num_agents: int, scheme: str) -> Case:
  """A plan by a scheme."""
  model = _model(num_agents, 'hubs')
  search: Any = planning.CEM(**_SEARCH)
  if scheme == 'coordinate':
    search = planning.Coordinate(planner=search, num_rounds=1)

  def plan(params: Any, root: Root) -> jax.Array:
    problem = planning.Problem(
      root,
      model.dynamics,
      model.cost,
      _HORIZON,
      model.action_dim,
      agents=model.agents,
    )
    found = planning.search(search, params, jax.random.key(0), problem)
    return found.actions

  goal = _draw(1, model.model.latent_dim)
  return _compiled(plan, model.params, Root(_seen(model, 1, True), goal))


def _compiled(function: Any, *args: Any) -> Case:
  """A program, and what it costs whoever else is busy."""
  traced = jax.jit(function).trace(*args)
  program = traced.lower().compile()
  run = lambda: jax.block_until_ready(program(*args))
  run()
  size = int(program.memory_analysis().temp_size_in_bytes)
  return run, {
    'temporary_bytes': size,
    'operations': int(flops.count(traced.jaxpr)),
  }


def _milliseconds(runs: Sequence[Run], repeats: int) -> list[float]:
  """Median time of each, taken in turns: a slow minute is slow for all."""
  times: list[list[float]] = [[] for _ in runs]
  for _ in range(repeats):
    for run, taken in zip(runs, times):
      start = time.perf_counter()
      run()
      taken.append(1e3 * (time.perf_counter() - start))
  return [statistics.median(taken) for taken in times]


def _measure(
  name: str,
  make: Callable[[int], Case],
  numbers: Sequence[int],
  repeats: int,
) -> list[dict[str, Any]]:
  """A line for every number of agents."""
  runs, costs = zip(*map(make, numbers))
  times = _milliseconds(runs, 3 if _QUICK.value else repeats)
  return [
    records.line(
      f'agents/{name}',
      round(value, 4),
      'ms',
      {'num_agents': number, **cost},
      ratio=round(value / times[0], 3),
    )
    for number, cost, value in zip(numbers, costs, times)
  ]


def main(argv: list[str]) -> None:
  """Measures, prints and draws."""
  del argv
  sharding.use_every_core()
  numbers = (1, 2) if _QUICK.value else (1, 2, 4, 8)
  cases: list[tuple[str, Any, Sequence[int], int]] = [
    (f'step/{kind}', functools.partial(_step, attention=kind), numbers, 30)
    for kind in ('hubs', 'dense')
  ]
  cases += [
    (f'plan/{scheme}', functools.partial(_plan, scheme=scheme), numbers, 10)
    for scheme in ('joint', 'coordinate')
  ]
  lines = []
  for case in cases:
    for line in _measure(*case):
      print(json.dumps(line), flush=True)
      lines.append(line)
  if _PICTURE.value:
    picture = agents_picture.draw(lines)
    files.write_whole(pathlib.Path(_PICTURE.value), picture)


if __name__ == '__main__':
  records.run(main)
