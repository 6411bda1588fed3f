"""Trains what a config says, in a folder, and goes on where it was."""

import contextlib
import dataclasses
import functools
import os
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax

from jepa_wm import exports, files, lock, models, processes, shares
from jepa_wm import fields as fields_lib
from jepa_wm.data import augmentation as augmentation_lib
from jepa_wm.data import config as data_config
from jepa_wm.evaluation.diagnostics import diagnostic, held_out
from jepa_wm.recipes import (
  frame_latents,
  frozen_encoders,
  sources,
  starting_weights,
  training_fields,
  training_runs,
)
from jepa_wm.training import draws, hooks, optimizers, together
from jepa_wm.training import memory as memory_lib
from jepa_wm.training import run as run_lib

# Seeds of the windows that every run is evaluated on; the second also sets
# simulated held-out windows apart from training, which takes small seeds.
_PROBE_SEED, _HELD_OUT_SEED = 1_000_000_007, 1_000_000_009


class Plan(NamedTuple):
  """A config, read and checked; `train` says what it may hold."""

  model: Any
  frozen: Any
  start: Any
  data: data_config.DataConfig
  optimizer: optimizers.AdamW
  augmentation: augmentation_lib.Augmentation | None
  intervals: hooks.Intervals
  evals: tuple[diagnostic.Diagnostic, ...]
  seed: int
  memory: memory_lib.Memory


def read_config(config: Mapping[str, Any], *, weights: bool = True) -> Plan:
  """Reads what `config` says.

  Args:
    config: as for `train`.
    weights: whether `frozen` and `start` are read, too; None otherwise.

  Raises:
    ValueError: a field there is not, or out of its range.
    FileNotFoundError: no frozen encoder, or start, where it says.
  """
  memory = training_fields.read_memory(config)
  own = ('model', 'augmentation', 'evals', 'initialise_from', *vars(memory))
  shared = training_fields.read_shared(config, own)
  path, begin = map(config.get, ('frozen_encoder', 'initialise_from'))
  settings = config.get('model', {})
  model, frozen = frozen_encoders.read_model(settings, path, weights=weights)
  batch_size = shared['data'].batch_size
  training_fields.check_memory(memory, model, batch_size)
  data = shared['data']
  if not data.num_frames:
    shared['data'] = dataclasses.replace(data, num_frames=model.num_frames)
  return Plan(
    model=model,
    frozen=frozen,
    start=starting_weights.read(model, begin) if begin and weights else None,
    augmentation=_augmentation(config, model),
    evals=diagnostic.named(config.get('evals', held_out.EVALS)),
    memory=memory,
    **shared,
  )


def lasting(plan: Plan) -> Any:
  """The model, whose target knows how long the run is."""
  config = plan.model.config
  target = config.target.lasting(plan.optimizer.num_steps)
  if target == config.target:
    return plan.model
  return dataclasses.replace(config, target=target).build()


def train(config: Mapping[str, Any], workdir: str | os.PathLike[str]) -> None:
  """Trains what `config` says, in `workdir`.

  It leaves `checkpoints/`, `metrics.jsonl`, `tensorboard/`, `curves.png` and,
  when it is done, `export/` for `WorldModel.from_checkpoint`.

  Args:
    config: plain nested dict with the fields `model` (settings with a `name`),
      `data` (those of `data.config.DataConfig`), `optimizer` (those of
      `optimizers.AdamW` but `num_steps`), `augmentation` (those of
      `augmentation.Augmentation`), `num_steps`, `seed`, `evals` (names of the
      diagnostics that are logged) and the fields of `hooks.Intervals` and of
      `memory.Memory`; only the model must be there. That of a model with a
      frozen encoder also has `frozen_encoder`: a checkpoint of ours, published
      weights, or 'random'; `frozen_encoders.freeze` brings a checkpoint's own
      settings of the encoder into the config. `initialise_from` is a run, an
      export or published weights to start from, with new schedules. Where
      nothing augments the frames of a cache, what a frozen encoder makes of
      them is computed once.
    workdir: folder of the run.

  Raises:
    ValueError: a field or the data does not fit.
    OSError: no dataset, a folder that cannot be read or written, or another
      process trains in it.
    DivergedError: a NaN or an infinity.
    Interrupted: SIGTERM or Ctrl-C came; a checkpoint was written.
  """
  plan = read_config(config)
  for sentence in plan.memory.inert():
    print(sentence, file=sys.stderr)
  # First of all: nothing is decoded or encoded for a run that may not be.
  with lock.hold(workdir):
    _train(plan, files.expand(workdir))


def train_together(
  configs: Sequence[Mapping[str, Any]], workdirs: Sequence[pathlib.Path]
) -> list[Exception | None]:
  """Trains what configs say that differ in their seeds alone, as one program.

  Args:
    configs: as for `train`.
    workdirs: a folder for each.

  Returns:
    For each what made it fail, None for what is trained.

  Raises:
    ValueError: a field or the data does not fit, or configs differ in more.
    OSError: as for `train`.
    Interrupted: SIGTERM or Ctrl-C came; checkpoints were written.
  """
  first, *others = [{**config, 'seed': 0} for config in configs]
  if any(other != first for other in others):
    raise ValueError('Configs of one program may differ in their seeds alone.')
  plan = read_config(configs[0])
  plan.memory.check_default('several runs in one program (--vmap_seeds)')
  seeds = [config.get('seed', 0) for config in configs]
  with contextlib.ExitStack() as stack:
    for workdir in workdirs:
      stack.enter_context(lock.hold(workdir))
    training = _Training(plan)
    runs = [
      training.run(seed, files.expand(workdir), listens=False)
      for seed, workdir in zip(seeds, workdirs)
    ]
    faults = together.take_steps([run for run, _ in runs])
    for (run, log), workdir, fault in zip(runs, workdirs, faults):
      if fault is None:
        training.save(run, log, files.expand(workdir))
  return faults


class _Training:
  """What runs share that differ in their seeds: model, data, what is looked at.

  Args:
    plan: of one of them.
  """

  def __init__(self, plan: Plan):
    self._source = sources.open_source(plan.data, plan.model)
    self._plan = plan = _fitted(plan, self._source)
    self._model = exports.WorldModel(
      plan.model,
      None,
      None if plan.model.acting is None else self._source.action_statistics,
    )
    self._given = _given(plan, self._source)
    self._learner = lasting(plan)
    self._evaluate_fn = _evaluator(plan, self._source, self._model)

  def run(
    self, seed: int, workdir: pathlib.Path, *, listens: bool = True
  ) -> tuple[run_lib.Run, hooks.Log]:
    """A run where it goes on, and its log."""
    plan = self._plan._replace(seed=seed)
    frozen = {} if plan.frozen is None else {'frozen': plan.frozen}
    size = plan.data.batch_size
    rows = shares.own_rows(size)
    batches = self._source.batches('train', seed, rows=rows, **self._given)
    return training_runs.make_run(
      plan,
      workdir,
      self._learner,
      draws.DrawnBatches(
        batches, plan.model, seed=seed, rows=rows, batch_size=size
      ),
      self._evaluate_fn,
      listens=listens,
      action_statistics=self._model.units,
      augment_fn=plan.augmentation,
      memory=plan.memory,
      start={**(plan.start or {}), **frozen},
      config=_identity(plan, self._source),
    )

  def save(
    self, run: run_lib.Run, log: hooks.Log, workdir: pathlib.Path
  ) -> None:
    """Exports what a run has learnt."""
    variables, record = training_runs.learnt(run, log)
    trained = dataclasses.replace(self._model, params=variables, record=record)
    processes.by_first(lambda: trained.save(workdir / 'export'))


def _train(plan: Plan, workdir: pathlib.Path) -> None:
  """Takes the steps that are left, then exports."""
  training = _Training(plan)
  run, log = training.run(plan.seed, workdir)
  for _ in run.steps():
    pass
  training.save(run, log, workdir)


def _fitted(plan: Plan, source: Any) -> Plan:
  """The plan, what is frozen fitted to the data where it asks for that."""
  if plan.frozen is None:
    return plan
  first = source.some_batches('train', _PROBE_SEED)[0]
  frozen = plan.model.fitted(plan.frozen, first['observation'])
  return plan._replace(frozen=frozen)


def _given(plan: Plan, source: Any) -> dict[str, Any]:
  """Features of all frames, computed once, for the batches of a run.

  Nothing where the encoder is trained, where frames are augmented, or where
  the data never shows a frame twice.
  """
  if plan.frozen is None or plan.augmentation or not source.repeats:
    return {}
  encode = jax.jit(
    lambda frozen, seen: plan.model.features({'frozen': frozen}, seen)
  )
  encode_fn = functools.partial(encode, plan.frozen)
  settings = fields_lib.to_dict(plan.model.config)
  decides = ('name', 'encoder', 'projector', 'latent_dim', 'dtype')
  identity = [
    'features',
    frozen_encoders.fingerprint(plan.frozen),
    {name: settings[name] for name in decides if name in settings},
  ]
  found = frame_latents.of_frames(source, 'train', encode_fn, identity)
  return {'latents': found}


def _evaluator(
  plan: Plan, source: Any, model: exports.WorldModel
) -> held_out.EvaluateFn:
  """Looks at windows of both splits, the same in every run."""
  train, other = (
    _drawn(plan, source.some_batches(split, seed), seed)
    for split, seed in (('train', _PROBE_SEED), ('held_out', _HELD_OUT_SEED))
  )
  windows = {'train': train, 'held_out': other}
  return held_out.make_evaluator(
    lambda variables: dataclasses.replace(model, params=variables),
    plan.evals,
    diagnostic.Episodes(windows.__getitem__, source.world),
  )


def _drawn(
  plan: Plan, batches: list[Mapping[str, Any]], seed: int
) -> list[Mapping[str, Any]]:
  """The batches, with what the model draws for them."""
  stream = draws.DrawnBatches(iter(batches), plan.model, seed=seed)
  return [next(stream) for _ in batches]


def _identity(plan: Plan, source: Any) -> dict[str, Any]:
  """What makes this run this run, in JSON's types."""
  identity: dict[str, Any] = {}
  if plan.frozen is not None:
    identity['frozen_encoder'] = frozen_encoders.fingerprint(plan.frozen)
  if plan.start is not None:
    identity['initialise_from'] = frozen_encoders.fingerprint(plan.start)
  if plan.augmentation:
    identity['augmentation'] = vars(plan.augmentation)
  return {
    'model': fields_lib.to_dict(plan.model.config),
    **training_fields.shared_identity(plan.data, plan.optimizer, source),
    **identity,
  }


def take_steps(
  plan: Any,
  workdir: pathlib.Path,
  learner: Any,
  batches: Any,
  evaluate_fn: hooks.EvaluateFn,
  **given: Any,
) -> tuple[Any, dict[str, Any]]:
  """Takes the steps that are left of a run.

  Args:
    plan: as all others for `training_runs.make_run`.
    workdir: folder of the run.
    learner: what learns.
    batches: what it learns from.
    evaluate_fn: what is logged of it now and then.
    **given: the rest of what `run.Run` takes.

  Returns:
    As `training_runs.learnt`.
  """
  rows = shares.own_rows(plan.data.batch_size)
  if rows is not None:
    batches = draws.OwnRows(batches, rows)
  run, log = training_runs.make_run(
    plan, workdir, learner, batches, evaluate_fn, **given
  )
  for _ in run.steps():
    pass
  return training_runs.learnt(run, log)


def _augmentation(
  config: Mapping[str, Any], model: models.Learns
) -> augmentation_lib.Augmentation | None:
  """The augmentation of training clips, None where it does nothing.

  Raises:
    ValueError: it would make the actions of `model` mean something else.
  """
  augmentation = training_fields.build(
    augmentation_lib.Augmentation,
    'config.augmentation',
    config.get('augmentation', {}),
  )
  wrong = augmentation.changes_actions
  if wrong and model.acting is not None:
    raise ValueError(
      f'config.augmentation.{" and ".join(wrong)} would change what an action '
      f'does to the picture, and {model.config.name} learns from actions; '
      'leave it at its default. Shifts and colours are fine.'
    )
  return None if augmentation.is_identity else augmentation
