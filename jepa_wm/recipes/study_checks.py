"""What a config comes to, so that a change that does nothing is found out.

Two configs that train the same have the same `effect`: the traced program of
the loss with all its constants, where gradients stop, the update of the target,
what is drawn on the host, optimiser, data and length. Nothing is computed.
"""

import dataclasses
import functools
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np
from jax.extend import core

from jepa_wm import files, models
from jepa_wm.data import config as data_config
from jepa_wm.recipes import training
from jepa_wm.training import optimizers

_BATCH_SIZE, _NUM_DRAWS = 4, 32
_ADDRESS = re.compile(r'0x[0-9a-f]+')

# Fields of data that one source alone reads.
_ONLY_OF = {
  'path': 'cache',
  'environment': 'simulation',
  'action_noise': 'simulation',
  'episode_length': 'simulation',
  'num_digits': 'digits',
  'background': 'digits',
}

# Fields that say how a run is watched or where it reads, not what it learns.
BESIDE = (
  'seed',
  'evals',
  'log_every',
  'eval_every',
  'checkpoint_every',
  'checkpoint_seconds',
  'keep_checkpoints',
  'sharding',
  'remat',
  'accumulate',
)


def effect(config: Mapping[str, Any]) -> str:
  """Digest of all that decides what a config trains.

  Args:
    config: plain nested dict, as for `recipes.train`. A frozen encoder counts
      by its settings and its name, and so does what the run starts from; the
      weights need not be there.

  Raises:
    ValueError: a field that there is not, or out of its range.
  """
  frozen = config.get('frozen_encoder', '')
  plan = training.read_config(config, weights=False)
  described = {
    'frozen_encoder': frozen,
    'initialise_from': config.get('initialise_from', ''),
    'num_steps': plan.optimizer.num_steps,
    'data': _data(plan.data),
    'augmentation': repr(plan.augmentation),
    'seed': plan.seed,
  }
  return files.digest(
    json.dumps(described, sort_keys=True),
    *_update(plan.optimizer),
    _program(training.lasting(plan).config, plan.data.num_frames),
  )


def inert(
  config: Mapping[str, Any],
  named: Mapping[str, Any],
  resolve_fn: Callable[[Mapping[str, Any]], Mapping[str, Any]],
) -> list[str]:
  """Fields among `named` without which the config trains just the same.

  Args:
    config: with all of `named`.
    named: values of dotted fields.
    resolve_fn: the config of some of them.
  """
  whole = effect(config)
  if len(named) == 1:
    return [*named] if effect(resolve_fn({})) == whole else []
  found = []
  for name in named:
    others = {x: value for x, value in named.items() if x != name}
    try:
      if effect(resolve_fn(others)) == whole:
        found.append(name)
    except ValueError:
      # The others stand on it.
      continue
  return found


def changed(
  before: Mapping[str, Any], after: Mapping[str, Any]
) -> dict[str, tuple[Any, Any]]:
  """Dotted fields that differ, with both values; missing ones are None."""
  one, other = flat(before), flat(after)
  return {
    name: (one.get(name), other.get(name))
    for name in sorted({*one, *other})
    if one.get(name) != other.get(name)
  }


def flat(config: Mapping[str, Any], where: str = '') -> dict[str, Any]:
  """A nested dict as one of dotted names."""
  found: dict[str, Any] = {}
  for name, value in config.items():
    if isinstance(value, Mapping):
      found |= flat(value, f'{where}{name}.')
    else:
      found[where + name] = list(value) if type(value) is tuple else value
  return found


def unnamed(differing: Iterable[str], named: Iterable[str]) -> list[str]:
  """Fields that differ though nobody named them, nor the kind they belong to.

  `model.encoder.name` names all of `model.encoder`, and a term all of it.
  """
  roots = [
    name.rpartition('.')[0] + '.' if name.endswith('.name') else name
    for name in named
  ]
  roots += [
    '.'.join(name.split('.')[:3]) + '.'
    for name in named
    if name.startswith('model.terms.')
  ]
  # What is frozen brings its own settings.
  if 'frozen_encoder' in roots:
    roots.append('model.')
  return [
    name
    for name in differing
    if not any(
      name == root or (root.endswith('.') and name.startswith(root))
      for root in roots
    )
  ]


def _data(data: data_config.DataConfig) -> dict[str, Any]:
  """Fields that the source reads, without how much is looked at beside it."""
  return {
    name: value
    for name, value in dataclasses.asdict(data).items()
    if _ONLY_OF.get(name, data.source) == data.source
    and name != 'num_eval_windows'
  }


def _update(optimizer: optimizers.AdamW) -> list[str]:
  """An update of a matrix and a vector as text, schedules in it."""
  params = {'kernel': np.zeros((2, 2), np.float32), 'bias': np.zeros(2)}
  params = jax.tree.map(np.float32, params)
  transformation = optimizer.transformation()
  state = jax.eval_shape(transformation.init, params)
  update = jax.make_jaxpr(transformation.update)
  return program_text(update(params, state, params))


@functools.cache
def _program(config: Any, num_frames: int) -> str:
  """Loss and target update as text, and what is drawn."""
  model: models.Learns = config.build()
  key = jax.random.key(0)
  drawn = model.draw(np.random.default_rng(0), _BATCH_SIZE)
  batch: dict[str, Any] = {
    'observation': {
      name: jax.ShapeDtypeStruct(
        (_BATCH_SIZE, num_frames, *spec.shape), spec.dtype
      )
      for name, spec in model.observation_spec.items()
    },
    **jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), drawn),
  }
  if model.acting is not None:
    batch['action'] = jax.ShapeDtypeStruct(
      (_BATCH_SIZE, num_frames - 1, model.acting.action_spec.size),
      np.dtype(np.float32),
    )
  variables = jax.eval_shape(model.init, key)

  def loss(variables: Any, batch: Any, rng_key: jax.Array) -> jax.Array:
    return model.losses(variables, batch, rng_key).loss

  # Several times: what differs between draws is one thing for a whole batch.
  draws = [
    jax.tree.leaves(model.draw(np.random.default_rng(seed), _BATCH_SIZE))
    for seed in range(_NUM_DRAWS)
  ]
  found = [files.digest(*leaves) for leaves in draws] + [str(variables)]
  found += program_text(jax.make_jaxpr(loss)(variables, batch, key))
  found += program_text(jax.make_jaxpr(model.after_update)(variables, 0))
  return files.digest(*found)


def program_text(closed: core.ClosedJaxpr) -> list[str]:
  """A program with the numbers of its constants, of inner programs too."""
  found = [_ADDRESS.sub('', str(closed.jaxpr))]
  found += [files.digest(np.asarray(x)) for x in _constants(closed)]
  return found


def _constants(closed: core.ClosedJaxpr) -> list[Any]:
  """Arrays that a program holds, wherever in it."""
  found = [x for x in closed.consts if _is_plain(x)]
  stack = [closed.jaxpr]
  while stack:
    jaxpr = stack.pop()
    for equation in jaxpr.eqns:
      found += [
        x.val
        for x in equation.invars
        if isinstance(x, core.Literal) and _is_plain(x.val) and np.ndim(x.val)
      ]
      for value in _flattened(equation.params.values()):
        if isinstance(value, core.ClosedJaxpr):
          found += [x for x in value.consts if _is_plain(x)]
          stack.append(value.jaxpr)
        elif isinstance(value, core.Jaxpr):
          stack.append(value)
  return found


def _flattened(values: Iterable[Any]) -> list[Any]:
  found = []
  for value in values:
    found += list(value) if isinstance(value, (tuple, list)) else [value]
  return found


def _is_plain(value: Any) -> bool:
  """Whether it is an array of numbers, not of random keys."""
  dtype = getattr(value, 'dtype', None)
  return dtype is None or not jax.dtypes.issubdtype(dtype, jax.dtypes.extended)
