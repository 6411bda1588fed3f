"""What every benchmark does: draw a model, write down what was measured."""

import datetime
import os
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

import jepa_wm
from experiments import command_line, ending
from jepa_wm import sharding, units


def line(
  name: str,
  value: float,
  unit: str,
  config: dict[str, Any],
  *,
  peer: float | None = None,
  ratio: float | None = None,
) -> dict[str, Any]:
  """A measurement as it is printed, with the device, the load and the date.

  Args:
    name: of the benchmark and the case.
    value: what was measured.
    unit: of `value`.
    config: what decided it; the machine's load is added.
    peer: the same of another implementation, in the same run.
    ratio: how many times as good ours is.
  """
  return {
    'name': name,
    'value': value,
    'unit': unit,
    'peer': peer,
    'ratio': ratio,
    'config': {**config, 'load_average': round(os.getloadavg()[0], 2)},
    'device': sharding.device_description(),
    'date': datetime.date.today().isoformat(),
  }


def run(main: Callable[[list[str]], None]) -> None:
  """Reads the flags and runs; what is wrong ends in one sentence.

  Args:
    main: of a benchmark; takes the command line.
  """

  def parse(argv: list[str]) -> list[str]:
    command_line.prepare()
    own = [flag.name for flag in flags.FLAGS.get_key_flags_for_module(argv[0])]
    try:
      rest = flags.FLAGS(argv)
    except flags.Error as error:
      sys.exit(command_line.what_is_wrong(error, own))
    return command_line.finish(rest)

  def told(argv: list[str]) -> None:
    with ending.one_sentence('Interrupted.'):
      main(argv)

  app.run(told, flags_parser=parse)


def draw_model(model: Any) -> jepa_wm.WorldModel:
  """A world model none of whose variables has the value it starts with."""
  rng = np.random.default_rng(0)

  def draw(path: Any, leaf: Any) -> jax.Array:
    kind, noise = path[-1].key, rng.normal(size=leaf.shape)
    if kind == 'kernel':
      noise /= np.sqrt(leaf.shape[0])
    elif kind in ('scale', 'var'):
      noise = np.exp(0.2 * noise)
    elif kind in ('bias', 'mean'):
      noise *= 0.1
    return jnp.asarray(noise, leaf.dtype)

  shapes = jax.eval_shape(model.init, jax.random.key(0))
  params = jax.tree_util.tree_map_with_path(draw, shapes)
  dim = model.acting.action_spec.dim
  statistics = units.ActionStatistics(
    np.zeros(dim, np.float32), np.ones(dim, np.float32)
  )
  return jepa_wm.WorldModel(model, params, statistics)
