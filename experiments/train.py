"""Trains a world model from a config file.

  python -m experiments.train \
    --config=experiments/configs/lewm.py:two_room_small --workdir=runs/small

Any field of the config is a flag: `--config.model.latent_dim=16`. The folder
`--workdir` receives checkpoints, `metrics.jsonl`, TensorBoard files,
`curves.png` and, at the end, `export/`. Killed and started again with the same
command, a run goes on where it was and ends with the same parameters.

A config has the fields `model` (those of a family, with its `name`), `data`
(those of `training_data.Data`), `optimizer` (those of `optimizers.AdamW` but
`num_steps`), if need be `augmentation` (those of `augmentation.Augmentation`),
`num_steps`, `seed` and the intervals that `loop.train` takes. That of a family
with a frozen encoder also has `frozen_encoder`: a checkpoint of ours, whose
family then is `model.encoder`, a file or folder of DINOv2's weights, or
'random'. With that of a run of ours, `lewm` and `pldm` train their predictor
alone, on that run's latents, which are computed once: all fields of the encoder
and the projector then are that run's, those of what shapes latents do nothing.
"""

import dataclasses
import functools
import os
import pathlib
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from absl import app, flags, logging
from ml_collections import config_flags

from experiments import command_line, training_data
from jepa_wm import families, sharding, world_model
from jepa_wm import fields as fields_lib
from jepa_wm.data import augmentation as augmentation_lib
from jepa_wm.evaluation import collapse, probing
from jepa_wm.training import frozen_encoders, loop, masks, optimizers
from jepa_wm.training import step as step_lib

_CONFIG = config_flags.DEFINE_config_file(
  'config', None, 'File of the config, and after a colon which variant of it.'
)
_WORKDIR = flags.DEFINE_string(
  'workdir', None, 'Folder of the run; made where missing.'
)

# Seeds of the windows that every run is evaluated on; the second also sets
# simulated held-out windows apart from training, which takes small seeds.
_PROBE_SEED, _HELD_OUT_SEED = 1_000_000_007, 1_000_000_009

_LOOP_FIELDS = (
  'log_every',
  'eval_every',
  'checkpoint_every',
  'checkpoint_seconds',
  'keep_checkpoints',
)


def make_evaluator(
  model: world_model.WorldModel,
  mesh: jax.sharding.Mesh,
  probe_batches: Sequence[Mapping[str, Any]],
  held_out_batches: Sequence[Mapping[str, Any]],
) -> loop.EvaluateFn:
  """What a run reports beside its loss, all of it on held-out windows.

  Args:
    model: the family and its action statistics.
    mesh: where to compute.
    probe_batches: training windows, which the linear probe is fitted on.
    held_out_batches: windows that everything is measured on.

  Returns:
    Variables to what `step.make_eval_step` measures, as `held_out/...`, the
    collapse telemetry and, where the windows hold a true state or a label, how
    well it can be read off the latents.
  """
  eval_step = step_lib.make_eval_step(model)

  def look_at(variables, batches):
    """Mean metrics, latents `[M, D]` and true states `[M, S]` or None."""
    metrics, latents = zip(
      *(eval_step(variables, sharding.shard_batch(b, mesh)) for b in batches)
    )
    metrics, latents = jax.device_get((metrics, latents))
    mean = {k: np.mean([m[k] for m in metrics]) for k in metrics[0]}
    rows = lambda arrays: np.concatenate(
      [np.asarray(a).reshape(-1, np.shape(a)[-1]) for a in arrays]
    )
    answers = {}
    if np.shape(batches[0].get('state', ()))[-1:] > (0,):
      states = [np.asarray(batch['state']) for batch in batches]
      if np.ndim(latents[0]) == 2:
        # A clip has one latent: where things were on the whole.
        states = [x.mean(1) for x in states]
      answers['state'] = rows(states)
    if 'label' in batches[0] and len(rows(latents)) == sum(
      len(batch['label']) for batch in batches
    ):
      labels = np.concatenate([batch['label'] for batch in batches])
      answers['label'] = np.asarray(labels)
    return mean, rows(latents), answers

  def evaluate_fn(variables):
    held_out, latents, answers = look_at(variables, held_out_batches)
    groups = {'held_out': held_out, 'collapse': collapse.telemetry(latents)}
    if answers:
      _, seen, known = look_at(variables, probe_batches)
      groups['probe'] = {}
    if 'state' in answers:
      probe = probing.fit(seen, known['state'])
      groups['probe'] |= probing.score(probe, latents, answers['state'])
    if 'label' in answers:
      one_hot = np.eye(known['label'].max() + 1)[known['label']]
      guess = probing.fit(seen, one_hot)(latents).argmax(-1)
      groups['probe']['label_accuracy'] = np.mean(guess == answers['label'])
    verdict = collapse.judge(
      groups['collapse'], prediction_error=held_out.get('prediction_error')
    )
    return {
      f'{group}/{name}': float(value)
      for group, values in groups.items()
      for name, value in values.items()
    } | {f'collapse/{k}': v for k, v in verdict._asdict().items()}

  return evaluate_fn


def run(config: Mapping[str, Any], workdir: str | os.PathLike[str]) -> None:
  """Trains what `config` says, in `workdir`.

  Args:
    config: plain nested dict, see the top of this file.
    workdir: folder of the run.

  Raises:
    ValueError: a field or the data does not fit; see also `loop.train`.
    OSError: no dataset, or a folder that cannot be read or written.
  """
  config = dict(config)
  family, frozen = _family(
    config.pop('model'), config.pop('frozen_encoder', '')
  )
  data = _build(training_data.Data, 'config.data', config.pop('data'))
  num_steps, seed = config.pop('num_steps'), config.pop('seed')
  optimizer = _build(
    optimizers.AdamW,
    'config.optimizer',
    config.pop('optimizer'),
    num_steps=num_steps,
  )
  augmentation = _augmentation(config.pop('augmentation', {}), family)
  intervals = {k: config.pop(k) for k in _LOOP_FIELDS if k in config}
  if config:
    raise ValueError(f'The config has unknown fields: {sorted(config)}.')
  mesh = sharding.make_mesh()
  if data.batch_size % mesh.size:
    raise ValueError(
      f'config.data.batch_size is {data.batch_size}, which {mesh.size} devices '
      'cannot share evenly; choose a multiple of the number of devices.'
    )
  source = training_data.open_source(data, family)
  statistics = source.action_statistics
  if not families.has_dynamics(family):
    statistics = None
  model = world_model.WorldModel(family, None, statistics)
  trained = family
  given: dict[str, Any] = {}
  identity: dict[str, Any] = {}
  if frozen is not None:
    if isinstance(family, families.LatentDynamics):
      if augmentation:
        raise ValueError(
          'config.augmentation changes pixels, which a frozen encoder sees '
          'once and as they are; leave it at its defaults.'
        )
      trained = families.OnLatents(family)
      given['latents'] = source.encoded('train', _encoder(model, frozen))
    else:
      first = source.some_batches('train', _PROBE_SEED)[0]
      frames = first['observation']['pixels']
      frozen = jax.jit(family.fit_tokens)(frozen, frames)
    identity['frozen_encoder'] = frozen_encoders.fingerprint(frozen)
  described = dataclasses.asdict(data)
  # A dataset may move; what is in it may not change.
  del described['path']
  loop.train(
    trained,
    optimizer,
    statistics,
    _with_masks(source.batches('train', seed, **given), family, seed),
    workdir=workdir,
    seed=seed,
    config={
      'model': families.to_config(family),
      'data': {**described, **source.identity},
      'optimizer': dataclasses.asdict(optimizer),
      **identity,
      **({'augmentation': vars(augmentation)} if augmentation else {}),
    },
    evaluators=[
      make_evaluator(
        model,
        mesh,
        *(
          list(_with_masks(iter(source.some_batches(*which)), family, which[1]))
          for which in (('train', _PROBE_SEED), ('held_out', _HELD_OUT_SEED))
        ),
      )
    ],
    mesh=mesh,
    frozen=frozen,
    augment_fn=augmentation,
    **intervals,
  )


def _family(fields: Mapping[str, Any], path: str) -> tuple[Any, Any]:
  """A family, and the weights of its frozen encoder if it takes any."""
  family = families.from_config(fields)
  if path and isinstance(family, families.LatentDynamics):
    return frozen_encoders.adopt(family, path)
  freezes = hasattr(family, 'init_frozen')
  if freezes != bool(path):
    raise ValueError(
      f'config.frozen_encoder must be set for {family.name!r}: a checkpoint of '
      "ours, the weights of its encoder, or 'random'."
      if freezes
      else f'config.frozen_encoder is {path!r}, but {family.name!r} trains its '
      'own encoder; leave it out.'
    )
  if not freezes:
    return family, None
  if path == 'random':
    return family, jax.jit(family.init_encoder)(jax.random.key(0))
  encoder, frozen = frozen_encoders.read(path, dtype=family.dtype)
  if not isinstance(encoder, str):
    family = dataclasses.replace(family, encoder=encoder)
  frozen_encoders.check(family, frozen, where=path)
  return family, frozen


def _encoder(
  model: world_model.WorldModel, frozen: Any
) -> Callable[[np.ndarray, np.ndarray], jax.Array]:
  """Pixels and proprio to latents by frozen variables, on one device."""

  @jax.jit
  def encode(frozen, pixels, proprio):
    seen = proprio if model.proprio_dim else None
    return model.encode(frozen, pixels, seen)

  return functools.partial(encode, frozen)


def _augmentation(
  fields: Mapping[str, Any], family: Any
) -> augmentation_lib.Augmentation | None:
  """The augmentation of training clips, None where it does nothing.

  Raises:
    ValueError: it would make the actions of `family` mean something else.
  """
  augmentation = _build(
    augmentation_lib.Augmentation, 'config.augmentation', fields
  )
  wrong = augmentation.changes_actions
  if wrong and getattr(family, 'action_dim', 0):
    raise ValueError(
      f'config.augmentation.{" and ".join(wrong)} would change what an action '
      f'does to the picture, and {family.name} learns from actions; leave it '
      'at its default. Shifts and colours are fine.'
    )
  return None if augmentation.is_identity else augmentation


def _with_masks(batches: Any, family: Any, seed: int) -> Any:
  """The batches, with masks if `family` wants any."""
  if not hasattr(family, 'sample_masks'):
    return batches
  return masks.MaskedBatches(batches, family, seed=seed)


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
  except loop.Interrupted as stop:
    print(stop, file=sys.stderr)
    sys.exit(stop.exit_code)
  except KeyboardInterrupt:
    # Before the first step; during them `loop.train` saves and says so.
    sys.exit('Interrupted; run the same command again to go on.')
  except (ValueError, OSError, loop.DivergedError) as error:
    logging.debug('%s', error, exc_info=True)  # Shown by --verbosity=1.
    sys.exit(str(error))
  export = pathlib.Path(_WORKDIR.value) / 'export'
  acts = families.has_dynamics(families.FAMILIES.get(_CONFIG.value.model.name))
  print(
    f'Trained: {export}. {"Plan with" if acts else "Probe"} it: '
    f'python -m experiments.{"plan" if acts else "probe"} '
    f'--checkpoint={_WORKDIR.value}'
  )


if __name__ == '__main__':
  app.run(main, flags_parser=parse_flags)
