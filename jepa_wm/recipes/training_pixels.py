"""Trains a head that acts and the encoder that it reads, from pixels."""

import dataclasses
import itertools
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jepa_wm import exports, fields, files, lock, models, processes
from jepa_wm.data import columns
from jepa_wm.data import config as data_config
from jepa_wm.models import heads, joint
from jepa_wm.recipes import sources, training, training_fields, training_heads
from jepa_wm.training import hooks, optimizers


@dataclasses.dataclass(frozen=True)
class PixelTraining:
  """What to train, and on what.

  Attributes:
    settings: of the head, `{'name': ..., **fields}`.
    model: of the model, `{'name': ..., **fields}`.
    data: where frames come from; they must lie on disk.
    optimizer: how.
    intervals: how often what happens.
    seed: of all draws.

  Raises:
    ValueError: no such head, or a field out of its range.
  """

  settings: Mapping[str, Any]
  model: Mapping[str, Any]
  data: data_config.DataConfig
  optimizer: optimizers.AdamW
  intervals: hooks.Intervals
  seed: int

  def __post_init__(self) -> None:
    fields.from_dict(heads.HEADS, self.settings, where='config.head')
    self.data.check_unused('num_frames', training_heads.UNUSED_FRAMES)


def train_from_pixels(
  config: Mapping[str, Any], workdir: str | os.PathLike[str]
) -> None:
  """Trains what `config` says, in `workdir`.

  It leaves what `train_head` leaves; beside `export/`, the head, there is
  `model/`, its encoder, a checkpoint as any other.

  Args:
    config: plain nested dict: that of `train_head` with `model` (settings with
      a `name`) in place of `frozen_encoder`.
    workdir: folder of the run.

  Raises:
    ValueError: a field, the model or the data does not fit.
    OSError: no dataset, a folder that cannot be read or written, or another
      process trains in it.
    DivergedError: a NaN or an infinity.
    Interrupted: SIGTERM or Ctrl-C came; a checkpoint was written.
  """
  if encoder := config.get('frozen_encoder'):
    raise ValueError(
      f'config.frozen_encoder={encoder} would do nothing beside config.model, '
      'whose encoder is trained; leave one of the two out.'
    )
  plan = PixelTraining(
    config['head'],
    config['model'],
    **training_fields.read_shared(config, ('head', 'model')),
  )
  with lock.hold(workdir):
    _train(plan, files.expand(workdir))


def _train(plan: PixelTraining, workdir: pathlib.Path) -> None:
  """Takes the steps that are left, then exports both."""
  model: Any = models.from_config(plan.model)
  source = sources.Episodes(plan.data, model)
  world = exports.WorldModel(model, None, source.action_statistics)
  head = heads.from_config(
    plan.settings, training_heads.sizes_of(world, source)
  )
  learner = joint.Joint(model, head)
  batches = {
    split: training_heads.batches_of(
      head,
      source.split(split),
      source.split(split).columns[columns.PIXELS],
      plan.data.batch_size,
      seed,
      with_after=True,
    )
    for split, seed in (
      ('train', plan.seed),
      ('held_out', training_heads.HELD_OUT_SEED),
    )
  }
  count = -(-plan.data.num_eval_windows // plan.data.batch_size)
  held_out = list(itertools.islice(batches['held_out'], count))
  look = jax.jit(learner.evaluate)

  def evaluate(variables: Any, records: Any) -> dict[str, float | str]:
    del records
    found = []
    for batch in held_out:
      action = source.action_statistics.normalize(batch['action'])
      found.append(jax.device_get(look(variables, {**batch, 'action': action})))
    return {
      f'held_out/{name}': float(np.mean([values[name] for values in found]))
      for name in found[0]
    }

  variables, record = training.take_steps(
    plan,
    workdir,
    learner,
    batches['train'],
    evaluate,
    action_statistics=source.action_statistics,
    config={
      'head': fields.to_dict(head.config),
      'model': fields.to_dict(model.config),
      **training_fields.shared_identity(plan.data, plan.optimizer, source),
    },
  )
  encoder = dataclasses.replace(
    world, params=joint.part(variables, 'model'), record=record
  )
  trained = exports.TrainedHead(
    head,
    joint.part(variables, 'head'),
    str(workdir / 'model'),
    exports.encoder_fingerprint(encoder),
    record,
  )
  processes.by_first(lambda: encoder.save(workdir / 'model'))
  processes.by_first(lambda: trained.save(workdir / 'export'))
