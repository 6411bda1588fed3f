"""Milliseconds and bytes of a step against how much came before it.

  JAX_PLATFORMS=cpu python -m benchmarks.memory [--quick] [--picture=memory.png]

Prints one JSON line a measurement, for predictors of one width and depth on
latents of 64 numbers: `window`, LeWM's causal transformer that looks back on
everything, with the keys and values of all of it kept; `gru`, `banks`,
`deltanet` and `hybrid`, whose states have one size. Theirs have absorbed as
many latents as the history says; the window's are drawn. A step is `advance` of
one state, a plan CEM from it: 16 candidates, 5 steps, 3 iterations. Histories
take turns, the value is the median; `ratio` is how many times the time at the
shortest history that is.
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
from benchmarks import memory_picture, records
from jepa_wm import files, models, sharding
from jepa_wm.types import Root

_QUICK = flags.DEFINE_bool('quick', False, 'Short histories, a smoke test.')
_PICTURE = flags.DEFINE_string('picture', '', 'Where a PNG of it goes.')

_SIZE, _ACTION = 64, 2
_SIZES = {'width': _SIZE, 'depth': 4, 'mlp_dim': 256}
_HEADS = {'num_heads': 2, 'head_dim': 32}
_PLAN = {'num_samples': 16, 'num_elites': 4, 'num_iterations': 3, 'horizon': 5}
_PREDICTORS: dict[str, dict[str, Any]] = {
  'window': {'name': 'causal', **_SIZES, **_HEADS},
  'gru': {'name': 'recurrent', 'memory_dim': 192},
  'banks': {'name': 'banks', **_SIZES},
  'deltanet': {'name': 'hybrid', 'linear_every': 1, **_SIZES, **_HEADS},
  'hybrid': {'name': 'hybrid', **_SIZES, **_HEADS},
}

Run = Callable[[], object]


def _model(name: str, history: int) -> jepa_wm.WorldModel:
  """A LeWM of states with this predictor, its variables drawn."""
  # A window has room for what is planned from it.
  longest = history + 2 + _PLAN['horizon'] if name == 'window' else 256
  config = {
    'name': 'lewm',
    'latent_dim': _SIZE,
    'action_dim': _ACTION,
    'action_block': 1,
    'encoder': {
      'name': 'state',
      'key': 'proprio',
      'dim': _SIZE,
      'features': _SIZE,
      'num_hidden': 0,
    },
    'projector': {'name': 'linear'},
    'actions': {'features': _SIZE},
    'predictor': {'history': longest, **_PREDICTORS[name]},
  }
  return records.draw_model(models.from_config(config))


def _draw(*shape: int) -> jax.Array:
  rng = np.random.default_rng(sum(shape))
  return jnp.asarray(rng.normal(size=shape), jnp.float32)


def _state(model: jepa_wm.WorldModel, name: str, history: int) -> Any:
  """A state of one problem, that has seen `history` latents."""
  if name == 'window':
    start = functools.partial(model.start_from, grows=True)
    shapes = jax.eval_shape(
      start,
      model.params,
      jax.ShapeDtypeStruct((1, history, _SIZE), jnp.float32),
      jax.ShapeDtypeStruct((1, history - 1, _ACTION), jnp.float32),
    )
    # Filled: computing them all would take the square of the history.
    return jax.tree.map(lambda leaf: _draw(*leaf.shape), shapes)
  first = model.start_from(model.params, _draw(1, 1, _SIZE))

  @jax.jit
  def absorb(params: Any, state: Any, tokens: Any) -> Any:
    step = lambda state, token: (model.absorb(params, state, *token), None)
    return jax.lax.scan(step, state, tokens)[0]

  number = history - 1
  tokens = _draw(number, 1, _ACTION), _draw(number, 1, _SIZE)
  return absorb(model.params, first, tokens)


def _programs(model: jepa_wm.WorldModel) -> tuple[Any, Any]:
  """A step of a state and a plan from it, of variables and state."""
  action, goal = _draw(1, _ACTION), _draw(1, _SIZE)

  def step(params: Any, state: Any) -> Any:
    return model.dynamics(params, jax.random.key(0), action, state)

  def plan(params: Any, state: Any) -> Any:
    return jepa_wm.cem_plan(
      params,
      jax.random.key(0),
      Root(state, goal),
      model.dynamics,
      model.cost,
      action_dim=model.action_dim,
      **_PLAN,
    ).actions

  return jax.jit(step), jax.jit(plan)


def _run(program: Any, model: jepa_wm.WorldModel, state: Any) -> Run:
  """Something to call that was called once."""
  run = lambda: jax.block_until_ready(program(model.params, state))
  run()
  return run


def _milliseconds(runs: Sequence[Run], repeats: int) -> list[float]:
  """Median time of each, taken in turns: a slow minute is slow for all."""
  times: list[list[float]] = [[] for _ in runs]
  for _ in range(repeats):
    for run, taken in zip(runs, times):
      start = time.perf_counter()
      run()
      taken.append(1e3 * (time.perf_counter() - start))
  return [statistics.median(taken) for taken in times]


def _measure(name: str, histories: Sequence[int]) -> list[dict[str, Any]]:
  """The lines of one predictor."""
  # A state of one size needs one model, whatever it has seen.
  own = histories if name == 'window' else histories[:1]
  built = [
    (model, *_programs(model)) for model in (_model(name, x) for x in own)
  ]
  built *= len(histories) // len(built)
  states = [_state(x[0], name, history) for x, history in zip(built, histories)]
  lines = []
  for index, what, repeats in ((1, 'step', 300), (2, 'plan', 20)):
    runs = [_run(x[index], x[0], state) for x, state in zip(built, states)]
    times = _milliseconds(runs, 5 if _QUICK.value else repeats)
    for history, (model, *_), state, value in zip(
      histories, built, states, times
    ):
      config = {
        'history': history,
        'state_bytes': sum(x.nbytes for x in jax.tree.leaves(state)),
        'num_parameters': sum(x.size for x in jax.tree.leaves(model.params)),
        **(_PLAN if what == 'plan' else {}),
      }
      lines.append(
        records.line(
          f'memory/{what}/{name}',
          round(value, 4),
          'ms',
          config,
          ratio=round(value / times[0], 3),
        )
      )
  return lines


def main(argv: list[str]) -> None:
  """Measures, prints and draws."""
  del argv
  sharding.use_every_core()
  histories = (10, 50) if _QUICK.value else (10, 100, 1000, 10_000)
  lines = []
  for name in _PREDICTORS:
    for line in _measure(name, histories):
      print(json.dumps(line), flush=True)
      lines.append(line)
  if _PICTURE.value:
    picture = memory_picture.draw(lines)
    files.write_whole(pathlib.Path(_PICTURE.value), picture)


if __name__ == '__main__':
  records.run(main)
