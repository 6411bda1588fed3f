"""What the config of every training says, read and checked."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from jepa_wm import fields as fields_lib
from jepa_wm import models, sharding
from jepa_wm.data import config as data_config
from jepa_wm.models import targets
from jepa_wm.networks import remat
from jepa_wm.training import hooks, optimizers
from jepa_wm.training import memory as memory_lib

NUM_STEPS = 3000
"""Updates of a run whose config does not say."""


def read_shared(
  config: Mapping[str, Any], others: Sequence[str]
) -> dict[str, Any]:
  """What every training says: `data`, `optimizer`, `intervals` and `seed`.

  Args:
    config: plain nested dict.
    others: what it may hold besides these and `frozen_encoder`.

  Raises:
    ValueError: a field there is not, or out of its range, or a batch that the
      devices cannot share.
  """
  known = [field.name for field in dataclasses.fields(hooks.Intervals)]
  own = ('frozen_encoder', 'data', 'optimizer', 'num_steps', 'seed')
  fields_lib.check_names('config', config, [*others, *own, *known])
  data = build(data_config.DataConfig, 'config.data', config.get('data', {}))
  num_steps = config.get('num_steps', NUM_STEPS)
  optimizer = build(
    optimizers.AdamW,
    'config.optimizer',
    config.get('optimizer', {}),
    num_steps=num_steps,
  )
  seed = config.get('seed', 0)
  if type(seed) is not int or not 0 <= seed < 2**63:
    raise ValueError(f'config.seed must be in 0..2**63 - 1, got {seed!r}.')
  mesh = sharding.make_mesh()
  if data.batch_size % mesh.size:
    several = sharding.num_processes(mesh)
    of = f' of {several} processes' if several > 1 else ''
    raise ValueError(
      f'config.data.batch_size is {data.batch_size}, which {mesh.size} '
      f'devices{of} cannot share evenly; choose a multiple of the number of '
      'devices.'
    )
  return {
    'data': data,
    'optimizer': optimizer,
    'intervals': build(
      hooks.Intervals, 'config', {x: config[x] for x in known if x in config}
    ),
    'seed': seed,
  }


def read_memory(config: Mapping[str, Any]) -> memory_lib.Memory:
  """What a config says of the memory of devices: fields of `memory.Memory`.

  Raises:
    ValueError: a field out of its range.
  """
  known = [field.name for field in dataclasses.fields(memory_lib.Memory)]
  given = {name: config[name] for name in known if name in config}
  memory: memory_lib.Memory = build(memory_lib.Memory, 'config', given)
  return memory


def check_memory(
  memory: memory_lib.Memory, model: models.Learns, batch_size: int
) -> None:
  """Refuses what `model` cannot do, and what would do nothing for it.

  Raises:
    ValueError: chunks that do not divide the batch, or a loss without parts; no
      block that is trained could compute anything again.
  """
  if memory.accumulate > 1:
    _check_chunks(memory.accumulate, model, batch_size)
  if memory.remat == 'none':
    return
  blocks = remat.paths(model.init, jax.random.key(0))
  if model.is_frozen:
    blocks = [path for path in blocks if path[0] not in targets.ENCODING]
  if not blocks:
    raise ValueError(
      f'config.remat={memory.remat} would do nothing: no part of the model '
      f'{model.config.name!r} that is trained is a transformer; leave it at '
      "'none'."
    )


def _check_chunks(count: int, model: models.Learns, batch_size: int) -> None:
  """See `check_memory`."""
  num_devices = sharding.make_mesh().size
  if batch_size % (count * num_devices):
    devices = 'device' if num_devices == 1 else 'devices'
    raise ValueError(
      f'config.data.batch_size={batch_size} is not divided by '
      f'config.accumulate={count} chunks on {num_devices} {devices}; choose a '
      f'multiple of {count * num_devices}.'
    )
  try:
    model.parts()
  except ValueError as error:
    raise ValueError(f'config.accumulate={count}: {error}') from error


def shared_identity(
  data: data_config.DataConfig, optimizer: optimizers.AdamW, source: Any
) -> dict[str, Any]:
  """What of `data` and `optimizer` makes a run this run, in JSON's types."""
  described = dataclasses.asdict(data)
  # A dataset may move; what is in it may not change.
  del described['path']
  return {
    'data': {**described, **source.identity},
    'optimizer': dataclasses.asdict(optimizer),
  }


def build(kind: Any, where: str, fields: Mapping[str, Any], **given: Any):
  """`kind(**fields)`, with a misspelt field met by the nearest one."""
  known = [f.name for f in dataclasses.fields(kind) if f.name not in given]
  fields_lib.check_names(where, fields, known)
  fields_lib.check_types(where, kind, {**fields, **given})
  try:
    return kind(**fields, **given)
  except ValueError as error:
    # What checks itself does not know where in a config it stands.
    if str(error).split(' ')[0] not in known:
      raise
    raise type(error)(f'{where}.{error}') from error
