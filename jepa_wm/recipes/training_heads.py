"""Trains a head on the latents of a frozen encoder, as `train` does a model."""

import dataclasses
import functools
import itertools
import os
import pathlib
import sys
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jepa_wm import exports, fields, files, lock, processes
from jepa_wm.data import config as data_config
from jepa_wm.data import gaps, goals, windows
from jepa_wm.envs import zones
from jepa_wm.models import heads
from jepa_wm.recipes import (
  fitting_heads,
  frame_latents,
  head_evaluation,
  safety_calibration,
  sources,
  training,
  training_fields,
)
from jepa_wm.training import hooks, optimizers

HELD_OUT_SEED = 1_000_000_009
"""Of the held-out batches that every run is evaluated on."""


UNUSED_FRAMES = 'a head takes as many frames as it learns of'
"""Why `data.num_frames` is no field of its training."""


@dataclasses.dataclass(frozen=True)
class HeadTraining:
  """What to train, and on what.

  Attributes:
    settings: of the head, `{'name': ..., **fields}`.
    encoder: as for `WorldModel.from_checkpoint`.
    data: where frames come from; they must lie on disk.
    optimizer: how.
    intervals: how often what happens.
    seed: of all draws.
  """

  settings: Mapping[str, Any]
  encoder: str
  data: data_config.DataConfig
  optimizer: optimizers.AdamW
  intervals: hooks.Intervals
  seed: int

  def __post_init__(self) -> None:
    """Checks what can be checked before anything is read.

    Raises:
      ValueError: no encoder, no such head, or a field out of its range or
        without effect.
    """
    head = fields.from_dict(heads.HEADS, self.settings, where='config.head')
    if head.batches == 'imagination':
      raise ValueError(
        f'config.head.name: {head.name!r} is trained by experiments.'
        'train_agent, in the imagination of a model; of recorded episodes '
        'gcivl and gciql learn.'
      )
    if not self.encoder:
      raise ValueError(
        'config.frozen_encoder must be set: a head reads the latents of a '
        'trained model, such as two_room_small, which ships.'
      )
    self.data.check_unused('num_frames', UNUSED_FRAMES)


def read_head_config(config: Mapping[str, Any]) -> HeadTraining:
  """Reads what `config` says.

  Args:
    config: as for `train_head`.

  Raises:
    ValueError: a field there is not, or out of its range.
  """
  plan = HeadTraining(
    config['head'],
    config.get('frozen_encoder', ''),
    **training_fields.read_shared(config, ('head',)),
  )
  settings = fields.from_dict(heads.HEADS, config['head'])
  if is_fitted(settings):
    processes.check_alone(f'Fitting config.head={settings.name}')
    fitting_heads.check(settings.name, config)
  return plan


def train_head(
  config: Mapping[str, Any], workdir: str | os.PathLike[str]
) -> None:
  """Trains what `config` says, in `workdir`.

  It leaves what `train` leaves, with `export/` for `exports.TrainedHead.load`,
  and beside the episodes `latents/`, which are computed once.

  Args:
    config: plain nested dict: that of `train` with `head` (settings with a
      `name`) in place of `model` and `augmentation`, without `evals`, and with
      `frozen_encoder`, a trained model of ours. A head that is fitted without
      gradients has no `fitting_heads.UNUSED`.
    workdir: folder of the run.

  Raises:
    ValueError: a field, the encoder or the data does not fit.
    OSError: no encoder, no dataset, a folder that cannot be read or written, or
      another process trains in it.
    DivergedError: a NaN or an infinity.
    Interrupted: SIGTERM or Ctrl-C came; a checkpoint was written.
  """
  plan = read_head_config(config)
  with lock.hold(workdir):
    _train(plan, files.expand(workdir))


def _train(plan: HeadTraining, workdir: pathlib.Path) -> None:
  """Takes the steps that are left, then exports."""
  model = exports.WorldModel.from_checkpoint(plan.encoder)
  source = sources.Episodes(plan.data, model.model)
  head = heads.from_config(plan.settings, sizes_of(model, source))
  tables = _tables(plan, head, source)
  known = tables['train'].columns
  for name in head.config.columns:
    if name not in known:
      raise ValueError(
        f'The head {head.config.name!r} learns of the column {name!r}, and '
        f'there is none at {plan.data.path}, only {", ".join(sorted(known))}; '
        'record episodes that have it, or train another head.'
      )
  if not is_fitted(head.config):
    # Episodes that are too short are refused before any frame is encoded.
    for table in tables.values():
      batches_of(head, table, table.columns['action'], 1, plan.seed)
  fingerprint = exports.encoder_fingerprint(model)
  encode_fn = functools.partial(jax.jit(model.encode), model.params)
  identity = ['latents', fingerprint]
  latents = {
    split: frame_latents.of_frames(source, split, encode_fn, identity)
    for split in ('train', 'held_out')
  }
  learn = fitting_heads.fit if is_fitted(head.config) else _take_steps
  variables, record, held_out = learn(
    plan,
    workdir,
    head,
    model,
    tables,
    latents,
    identity=_identity(plan, head, source, fingerprint),
    seed=HELD_OUT_SEED,
  )
  trained = exports.TrainedHead(
    head, variables, plan.encoder, fingerprint, record
  )
  if 'margin' in head.config.columns:
    trained, bounds = safety_calibration.calibrate(
      trained, model, tables['held_out'], latents['held_out']
    )
    findings = {'bounds': bounds}
    if warning := safety_calibration.warn(bounds):
      print(warning, file=sys.stderr)
  else:
    findings = head_evaluation.calibrated(
      trained, model, source, latents['held_out'], held_out
    )
  processes.by_first(lambda: head_evaluation.write(findings, workdir))
  if findings:
    record['calibration'] = {k: x.to_dict() for k, x in findings.items()}
  processes.by_first(lambda: trained.save(workdir / 'export'))


def _take_steps(
  plan: HeadTraining,
  workdir: pathlib.Path,
  head: heads.Learner,
  model: exports.WorldModel,
  tables: Mapping[str, Any],
  latents: Mapping[str, np.ndarray],
  *,
  identity: Mapping[str, Any],
  seed: int,
) -> tuple[Any, dict[str, Any], list[Mapping[str, Any]]]:
  """Follows gradients; see `fitting_heads.fit`, which does not."""
  batches = {
    split: batches_of(
      head,
      tables[split],
      latents[split],
      plan.data.batch_size,
      plan.seed if split == 'train' else seed,
    )
    for split in latents
  }
  count = -(-plan.data.num_eval_windows // plan.data.batch_size)
  held_out = list(itertools.islice(batches['held_out'], count))
  variables, record = training.take_steps(
    plan,
    workdir,
    head,
    batches['train'],
    head_evaluation.evaluator(head, model, held_out),
    action_statistics=model.units if head_evaluation.acts(head) else None,
    config=dict(identity),
  )
  return variables, record, held_out


def is_fitted(settings: Any) -> bool:
  """Whether a head of such settings learns without gradients."""
  batches: str = settings.batches
  return batches == 'episodes'


def _tables(
  plan: HeadTraining, head: heads.Head, source: sources.Episodes
) -> dict[str, Any]:
  """The episodes of both splits, with what a zone makes of their states.

  Raises:
    ValueError: no such zone, or states that do not tell of it.
  """
  tables: dict[str, Any] = {x: source.split(x) for x in ('train', 'held_out')}
  if 'margin' not in head.config.columns:
    return tables
  environment = source.identity['environment'] or plan.data.environment
  zone = zones.parse(head.config.zone, environment)
  found = {x: safety_calibration.labelled(t, zone) for x, t in tables.items()}
  safety_calibration.check_halves(found['held_out'], zone.spec)
  return found


def sizes_of(
  model: exports.WorldModel, source: sources.Episodes
) -> heads.Sizes:
  """What a head must know of the model and the data."""
  table = source.split('train')
  sizes = exports.head_sizes(model, *_action_bounds(source))
  state = table.columns.get('state')
  if state is None:
    return sizes
  # In two passes of float64: positions are far from zero.
  state = np.asarray(state, np.float64)
  return dataclasses.replace(
    sizes,
    state_mean=tuple(state.mean(axis=0).tolist()),
    state_std=tuple(np.maximum(state.std(axis=0), 1e-6).tolist()),
  )


def _action_bounds(source: sources.Episodes) -> tuple[np.ndarray, np.ndarray]:
  """The world's bounds of a raw action, else the extremes of the data."""
  if source.world is not None:
    env = source.world.make()
    return np.asarray(env.action_low), np.asarray(env.action_high)
  actions = source.split('train').columns['action']
  return np.nanmin(actions, axis=0), np.nanmax(actions, axis=0)


def batches_of(
  head: heads.Head,
  table: Any,
  latents: np.ndarray,
  batch_size: int,
  seed: int,
  *,
  with_after: bool = False,
) -> Any:
  """Endless batches of what the head learns of.

  Args:
    head: learns of them.
    table: the episodes.
    latents: of all frames, or what else is drawn in their place.
    batch_size: B.
    seed: of the draws.
    with_after: whether pairs have the frame a block on, see
      `goals.hindsight_pairs`.

  Raises:
    ValueError: a column that the data does not have, or episodes that are too
      short.
  """
  settings, stride = head.config, head.sizes.action_block
  drawn: dict[str, Any] = {'batch_size': batch_size, 'seed': seed}
  if settings.batches in ('pairs', 'legs'):
    blocks = settings.stride if settings.batches == 'legs' else int(with_after)
    return goals.hindsight_pairs(
      table,
      latents=latents,
      stride=stride,
      max_steps=settings.max_steps,
      ahead=blocks * stride,
      **drawn,
    )
  if settings.batches == 'gaps':
    return gaps.gap_pairs(
      table, latents=latents, max_steps=settings.max_steps, **drawn
    )
  if settings.batches == 'goals':
    odds = goals.odds_of(settings)
    return goals.transitions(
      table, latents=latents, stride=stride, odds=odds, **drawn
    )
  num_blocks = _num_blocks(settings)
  names = ['action'] if num_blocks else []
  return windows.cached_windows(
    dataclasses.replace(table, columns={**table.columns, 'latents': latents}),
    num_frames=1 + num_blocks,
    stride=stride if names else 1,
    columns=('latents', *names, *settings.columns),
    skip_short_episodes=True,
    **drawn,
  )


def _num_blocks(settings: Any) -> int:
  """Blocks of a window that a head learns of."""
  if settings.batches == 'paths':
    return int(settings.num_blocks)
  return {'frames': 0, 'blocks': 1}[settings.batches]


def _identity(
  plan: HeadTraining,
  head: heads.Head,
  source: sources.Episodes,
  fingerprint: str,
) -> dict[str, Any]:
  """What makes this run this run, in JSON's types."""
  shared = training_fields.shared_identity(plan.data, plan.optimizer, source)
  if is_fitted(head.config):
    del shared['optimizer']
  return {
    'head': fields.to_dict(head.config),
    **shared,
    'frozen_encoder': fingerprint,
  }
