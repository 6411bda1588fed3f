"""Trains a world model from a config file.

  python -m experiments.train \
    --config=experiments/configs/lewm.py:two_room_small --workdir=runs/small

Any field of the config is a flag: `--config.model.latent_dim=16`. The folder
`--workdir` receives checkpoints, `metrics.jsonl`, TensorBoard files,
`curves.png` and, at the end, `export/`. Killed and started again with the same
command, a run goes on where it was and ends with the same parameters.

A config has the fields `model` (nested settings, with a `name`), `data` (those
of `data.config.DataConfig`), `optimizer` (those of `optimizers.AdamW` but
`num_steps`), if need be `augmentation` (those of `augmentation.Augmentation`),
`num_steps`, `seed`, `evals` (names of the diagnostics that are logged) and the
fields of `hooks.Intervals`. That of a model with a frozen encoder also has
`frozen_encoder`: a checkpoint of ours, published weights, or 'random'. On the
command line it brings the checkpoint's own settings of the encoder into the
config; `lewm` and `pldm` then train their predictor alone. Where nothing
augments the frames of a cache, what a frozen encoder makes of them is computed
once.
"""

import dataclasses
import datetime
import functools
import os
import pathlib
import re
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
from absl import app, flags, logging
from ml_collections import config_flags

from experiments import command_line, training_data
from jepa_wm import exports, models, provenance, sharding
from jepa_wm import fields as fields_lib
from jepa_wm.data import augmentation as augmentation_lib
from jepa_wm.data import config as data_config
from jepa_wm.evaluation.diagnostics import diagnostic, held_out
from jepa_wm.recipes import frozen_encoders
from jepa_wm.training import draws, hooks, lock, metrics, optimizers
from jepa_wm.training import run as run_lib

_CONFIG = config_flags.DEFINE_config_file(
  'config', None, 'File of the config, and after a colon which variant of it.'
)
_WORKDIR = flags.DEFINE_string(
  'workdir', None, 'Folder of the run; made where missing.'
)

# Seeds of the windows that every run is evaluated on; the second also sets
# simulated held-out windows apart from training, which takes small seeds.
_PROBE_SEED, _HELD_OUT_SEED = 1_000_000_007, 1_000_000_009


class Plan(NamedTuple):
  """A config, read and checked; see the top of this file."""

  model: Any
  frozen: Any
  data: data_config.DataConfig
  optimizer: optimizers.AdamW
  augmentation: augmentation_lib.Augmentation | None
  intervals: hooks.Intervals
  evals: tuple[diagnostic.Diagnostic, ...]
  seed: int


def read_config(config: Mapping[str, Any]) -> Plan:
  """Reads what `config` says.

  Args:
    config: plain nested dict, see the top of this file.

  Raises:
    ValueError: a field there is not, or out of its range.
    FileNotFoundError: no frozen encoder where it says.
  """
  config = dict(config)
  model, frozen = _model(config.pop('model'), config.pop('frozen_encoder', ''))
  plan = Plan(
    model=model,
    frozen=frozen,
    data=_build(data_config.DataConfig, 'config.data', config.pop('data')),
    optimizer=_build(
      optimizers.AdamW,
      'config.optimizer',
      config.pop('optimizer'),
      num_steps=config.pop('num_steps'),
    ),
    augmentation=_augmentation(config.pop('augmentation', {}), model),
    intervals=_build(
      hooks.Intervals,
      'config',
      {
        field.name: config.pop(field.name)
        for field in dataclasses.fields(hooks.Intervals)
        if field.name in config
      },
    ),
    evals=diagnostic.named(config.pop('evals', held_out.EVALS)),
    seed=config.pop('seed'),
  )
  if config:
    raise ValueError(f'The config has unknown fields: {sorted(config)}.')
  num_devices = sharding.make_mesh().size
  if plan.data.batch_size % num_devices:
    raise ValueError(
      f'config.data.batch_size is {plan.data.batch_size}, which {num_devices} '
      'devices cannot share evenly; choose a multiple of the number of devices.'
    )
  return plan


def run(config: Mapping[str, Any], workdir: str | os.PathLike[str]) -> None:
  """Trains what `config` says, in `workdir`.

  It leaves `checkpoints/`, `metrics.jsonl`, `tensorboard/`, `curves.png` and,
  when it is done, `export/` for `WorldModel.from_checkpoint`.

  Args:
    config: plain nested dict, see the top of this file.
    workdir: folder of the run.

  Raises:
    ValueError: a field or the data does not fit.
    OSError: no dataset, a folder that cannot be read or written, or another
      process trains in it.
    DivergedError: a NaN or an infinity.
    Interrupted: SIGTERM or Ctrl-C came; a checkpoint was written.
  """
  plan = read_config(config)
  # First of all: nothing is decoded or encoded for a run that may not be.
  with lock.hold(workdir):
    _train(plan, pathlib.Path(workdir))


def _train(plan: Plan, workdir: pathlib.Path) -> None:
  """Takes the steps that are left, then exports."""
  source = training_data.open_source(plan.data, plan.model)
  plan = _fitted(plan, source)
  model = exports.WorldModel(
    plan.model,
    None,
    None if plan.model.acting is None else source.action_statistics,
  )
  given = _given(plan, source)
  batches = source.batches('train', plan.seed, **given)
  beside, log = hooks.usual(
    workdir,
    name=plan.model.config.name,
    evaluators=[_evaluator(plan, source, model)],
    intervals=plan.intervals,
  )
  training = run_lib.Run(
    plan.model,
    plan.optimizer.transformation(),
    draws.DrawnBatches(batches, plan.model, seed=plan.seed),
    num_steps=plan.optimizer.num_steps,
    seed=plan.seed,
    action_statistics=model.units,
    augment_fn=plan.augmentation,
    schedule_fn=plan.optimizer.metrics,
    frozen=plan.frozen,
    config=_identity(plan, source),
    hooks=beside,
  )
  training.resume(workdir / 'checkpoints')
  for _ in training.steps():
    pass
  _export(training, log, model, workdir / 'export')


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
  return {'latents': source.encoded('train', encode_fn)}


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
    diagnostic.Episodes(windows.__getitem__),
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
  if plan.augmentation:
    identity['augmentation'] = vars(plan.augmentation)
  described = dataclasses.asdict(plan.data)
  # A dataset may move; what is in it may not change.
  del described['path']
  return {
    'model': fields_lib.to_dict(plan.model.config),
    'data': {**described, **source.identity},
    'optimizer': dataclasses.asdict(plan.optimizer),
    **identity,
  }


def _export(
  training: run_lib.Run,
  log: hooks.Log,
  model: exports.WorldModel,
  path: pathlib.Path,
) -> None:
  """Saves the trained model, with what its reader wants to know."""
  exports.WorldModel(
    model.model,
    training.learner.for_inference(training.state.variables),
    model.units,
    {
      'num_parameters': training.num_parameters,
      'config': training.identity,
      'seconds': round(log.metrics.seconds, 1),
      'metrics': log.metrics.newest(),
      'device': sharding.device_description(),
      'date': datetime.date.today().isoformat(),
      'versions': provenance.versions(),
      'commit': provenance.commit(),
    },
  ).save(path)


def _model(settings: Mapping[str, Any], path: str) -> tuple[Any, Any]:
  """A model, and the weights of its frozen encoder if it has one."""
  model = models.from_config(settings)
  if path:
    return model, frozen_encoders.adopt(model, path)
  if model.is_frozen:
    raise ValueError(
      f'config.frozen_encoder must be set for {model.config.name!r} with a '
      'frozen target: a checkpoint of ours, the weights of its encoder, or '
      "'random'."
    )
  return model, None


def _augmentation(
  fields: Mapping[str, Any], model: models.Learns
) -> augmentation_lib.Augmentation | None:
  """The augmentation of training clips, None where it does nothing.

  Raises:
    ValueError: it would make the actions of `model` mean something else.
  """
  augmentation = _build(
    augmentation_lib.Augmentation, 'config.augmentation', fields
  )
  wrong = augmentation.changes_actions
  if wrong and model.acting is not None:
    raise ValueError(
      f'config.augmentation.{" and ".join(wrong)} would change what an action '
      f'does to the picture, and {model.config.name} learns from actions; '
      'leave it at its default. Shifts and colours are fine.'
    )
  return None if augmentation.is_identity else augmentation


def _build(kind: Any, where: str, fields: Mapping[str, Any], **given: Any):
  """`kind(**fields)`, with a misspelt field met by the nearest one."""
  known = [f.name for f in dataclasses.fields(kind) if f.name not in given]
  fields_lib.check_names(where, fields, known)
  return kind(**fields, **given)


def parse_flags(argv: list[str]) -> list[str]:
  """Parses the command line; a wrong config ends in one sentence.

  Args:
    argv: the command and its arguments.

  Returns:
    The command and the arguments that are no flags.
  """
  try:
    rest = flags.FLAGS(command_line.at_home(argv))
    if flags.FLAGS.config is not None:
      # A file that is not there is only noticed when a field is read.
      flags.FLAGS.config.to_dict()
  except (flags.Error, OSError) as error:
    # What is wrong comes last, behind a traceback or the places looked at.
    sys.exit(str(error).strip().splitlines()[-1].strip())
  except (AttributeError, KeyError) as error:
    # From an override of a field that the config does not have; one error
    # may carry the other: "'modle'\nDid you mean "model" instead of ...".
    said = error.args[0]
    while isinstance(said, Exception):
      said = said.args[0]
    name, *near = re.findall(r'[\'"](\w+)[\'"]', said)
    argument = next(a for a in argv if name in a.partition('=')[0].split('.'))
    hint = f'; did you mean {near[0]!r}?' if near else '.'
    sys.exit(f'The config has no field {name!r} for {argument}{hint}')
  if not flags.FLAGS['verbosity'].present:
    # Orbax tells twenty lines about every checkpoint.
    logging.set_verbosity(logging.WARNING)
  return rest


def main(argv: list[str]) -> None:
  """Reads the flags, trains, and ends in one sentence whatever happens."""
  if len(argv) > 1:
    raise app.UsageError(f'Unexpected arguments: {argv[1:]}.')
  if _CONFIG.value is None or _WORKDIR.value is None:
    sys.exit(
      'Say what to train and where to keep it, for example --config='
      'experiments/configs/lewm.py:two_room_small --workdir=runs/small.'
    )
  try:
    run(_CONFIG.value.to_dict(), _WORKDIR.value)
  except hooks.Interrupted as stop:
    print(stop, file=sys.stderr)
    sys.exit(stop.exit_code)
  except KeyboardInterrupt:
    # Before the first step; during them a hook saves and says so.
    sys.exit('Interrupted; run the same command again to go on.')
  except (ValueError, OSError, run_lib.DivergedError) as error:
    logging.debug('%s', error, exc_info=True)  # Shown by --verbosity=1.
    sys.exit(str(error))
  export = pathlib.Path(_WORKDIR.value) / 'export'
  last = metrics.read(pathlib.Path(_WORKDIR.value) / 'metrics.jsonl')[-1]
  if last.get('collapse/verdict', 'healthy') != 'healthy':
    print(last['collapse/sentence'], file=sys.stderr)
  settings = _CONFIG.value.model.to_dict()
  acts = models.from_config(settings).acting is not None
  print(
    f'Trained: {export}. {"Plan with" if acts else "Probe"} it: '
    f'python -m experiments.{"plan" if acts else "probe"} '
    f'--checkpoint={_WORKDIR.value}'
  )


if __name__ == '__main__':
  app.run(main, flags_parser=parse_flags)
