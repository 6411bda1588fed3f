"""What all configs do: refuse a variant there is not, make all fields flags."""

import ast
import contextlib
import dataclasses
import pathlib
import re
import runpy
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ml_collections

from jepa_wm import fields, files, models
from jepa_wm.data import augmentation
from jepa_wm.data import config as data_config
from jepa_wm.evaluation.diagnostics import held_out
from jepa_wm.recipes import frozen_encoders
from jepa_wm.training import hooks, memory, optimizers

_MOST_BYTES = 2**20

_RUN = {
  'frozen_encoder': '',
  'initialise_from': '',
  'evals': held_out.EVALS,
  **dataclasses.asdict(hooks.Intervals()),
  **dataclasses.asdict(memory.Memory()),
}


def check(variant: str, known: Sequence[str]) -> None:
  """Refuses a variant that a config does not have.

  Args:
    variant: what was asked for.
    known: the variants of the config.

  Raises:
    ValueError: `variant` is none of `known`.
  """
  fields.check_choice('variant', variant, known)


def begin(
  num_steps: int,
  *,
  data: Mapping[str, Any],
  optimizer: Mapping[str, Any] | None = None,
) -> ml_collections.ConfigDict:
  """A run of seed 0 that saves and evaluates every 1000 steps.

  Args:
    num_steps: its length.
    data: fields that differ from windows of four frames of Two Room.
    optimizer: all fields of the optimiser, where it is not the one of the
      small recipes.
  """
  if optimizer is None:
    optimizer = {
      'learning_rate': 1e-3,
      'weight_decay': 1e-3,
      'warmup_fraction': 0.02,
      'clip_norm': 1.0,
    }
  return ml_collections.ConfigDict(
    {
      'seed': 0,
      'num_steps': num_steps,
      'log_every': 100,
      'eval_every': 1000,
      'checkpoint_every': 1000,
      'data': {
        'source': 'cache',
        'path': 'data/two_room',
        'num_frames': 4,
        'num_eval_windows': 512,
        **data,
      },
      'optimizer': dict(optimizer),
    }
  )


def shorten(config: ml_collections.ConfigDict) -> None:
  """Makes a run of Two Room one of seconds, for a look; `config` changes."""
  config.num_steps = 20
  config.log_every = 5
  config.eval_every = config.checkpoint_every = 10
  config.data.batch_size = 16
  config.data.num_eval_windows = 64


def fill_in(config: ml_collections.ConfigDict) -> None:
  """Adds every field that a config may have and this one leaves out.

  Only what a config holds can be a flag.

  Args:
    config: with `model`, a name and nested settings, `optimizer` and `data`;
      changed.

  Raises:
    ValueError: a field that there is not, or out of its range.
  """
  frozen = config.get('frozen_encoder', '')
  model = choose(config.model.to_dict(), sys.argv, frozen)
  filled = {
    'model': model,
    'optimizer': optimizers.to_config(**config.optimizer),
    'data': dataclasses.asdict(data_config.DataConfig(**config.data)),
    'augmentation': dataclasses.asdict(
      augmentation.Augmentation(**config.get('augmentation', {}))
    ),
  }
  for name, values in filled.items():
    config[name] = ml_collections.ConfigDict(values)
  for name, value in _RUN.items():
    if name not in config:
      config[name] = value


def given(field: str, argv: Sequence[str], default: str) -> str:
  """What a command line says of a field, the last time it does.

  Args:
    field: path of it, without `config`.
    argv: the command line.
    default: where it says nothing.
  """
  value = default
  for argument, after in zip(argv, (*argv[1:], '')):
    found = re.fullmatch(rf'--?config\.{re.escape(field)}(?:=(.*))?', argument)
    if found is not None:
      value = after if found[1] is None else found[1]
  return value


def choose(
  model: dict[str, Any], argv: Sequence[str], frozen_encoder: str = ''
) -> dict[str, Any]:
  """Puts the kinds of modules and terms in place that a command asks for.

  The fields of a kind can only be flags if the config has that kind, so that
  names count before all other overrides: `--config.model.encoder.name=vit`
  replaces the encoder, and fields that both kinds have stay;
  `--config.model.terms.vcreg.variance=18` adds the term; `--config.
  frozen_encoder=runs/mine` brings the encoder of that run.

  Args:
    model: nested settings.
    argv: the command line, where ml_collections looks for overrides, too.
    frozen_encoder: that of the config itself.

  Returns:
    Nested settings of those kinds.

  Raises:
    ValueError: there is no such kind.
  """
  config = fields.to_dict(fields.from_dict(models.MODELS, model))
  encoder = given('frozen_encoder', argv, frozen_encoder)
  if encoder not in ('', 'random'):
    # Published weights, and runs that are still to come, say no settings.
    with contextlib.suppress(FileNotFoundError, ValueError):
      config = frozen_encoders.freeze(config, encoder)
  for argument, after in zip(argv, (*argv[1:], '')):
    found = re.fullmatch(r'--?config\.model\.([\w.]+)(?:=(.*))?', argument)
    if found is None:
      continue
    *path, field = found[1].split('.')
    value = after if found[2] is None else found[2]
    if path[:1] == ['terms'] and path[1:]:
      config = fields.with_kind(models.MODELS, config, path[:1], path[1])
    elif path and field == 'name':
      config = fields.with_kind(models.MODELS, config, path, value)
  return config


def resolve(spec: str, overrides: Mapping[str, Any]) -> dict[str, Any]:
  """The whole config that a file, a variant and overrides come to.

  Args:
    spec: 'lewm.py:two_room_plain', a file of this folder or a path, and after
      a colon which variant of it.
    overrides: values of dotted fields; those of kinds (`model.encoder.name`)
      and of terms bring the fields of that kind, whatever their order.

  Returns:
    Plain nested dict.

  Raises:
    ValueError: no such file, variant or field, or a value of another type.
  """
  file, _, variant = spec.partition(':')
  path = pathlib.Path(file)
  if not path.exists():
    path = pathlib.Path(__file__).parent / file
  if not path.exists():
    known = sorted(p.name for p in pathlib.Path(__file__).parent.glob('*.py'))
    raise ValueError(
      f'There is no config file {file!r}.{files.nearest(file, known)}'
    )
  get_config = _run(path)
  found = (get_config(variant) if variant else get_config()).to_dict()
  argv = [
    f'--config.{name}={value}'
    for name, value in overrides.items()
    if name.endswith('.name') or name.startswith('model.terms.')
  ]
  frozen = str(overrides.get('frozen_encoder', found.get('frozen_encoder', '')))
  if 'model' in found:
    found['model'] = choose(found['model'], argv, frozen)
  for name, value in overrides.items():
    _set(found, name, value, spec)
  return found


def check_file(path: pathlib.Path) -> None:
  """Refuses what is there and can be no config file.

  Raises:
    ValueError: a folder or device, not Python's, or too large.
  """
  if not path.exists():
    return
  if path.suffix != '.py' or not path.is_file():
    raise ValueError(f'A config is a Python file, and {path} is none.')
  if (size := path.stat().st_size) > _MOST_BYTES:
    raise ValueError(f'{path} has {size} bytes, more than a config ever has.')


def _run(path: pathlib.Path) -> Callable[..., Any]:
  """Runs a config file; what it defines as `get_config`."""
  check_file(path)
  try:
    found: Callable[..., Any] = runpy.run_path(str(path))['get_config']
    return found
  except (SyntaxError, KeyError, NameError) as error:
    why = ' '.join(str(error).split())
    raise ValueError(
      f'The config {path} cannot be read ({type(error).__name__}: {why:.200}).'
    ) from error


def literal(text: str) -> Any:
  """The value that a flag's text stands for: a literal, or the text itself."""
  if text.lower() in ('true', 'false'):
    return text.lower() == 'true'
  try:
    return ast.literal_eval(text)
  except (ValueError, SyntaxError):
    return text


def _set(config: dict[str, Any], name: str, value: Any, spec: str) -> None:
  """Sets a dotted field that is there, to a value of its type."""
  *path, field = name.split('.')
  place: Any = config
  for step, part in enumerate(path):
    fields.check_names(f'{spec}: {".".join(path[:step])}', [part], list(place))
    place = place[part]
  fields.check_names(f'{spec}: {".".join(path)}', [field], list(place))
  before = place[field]
  if isinstance(before, float) and type(value) is int:
    value = float(value)
  if isinstance(before, tuple) and isinstance(value, list):
    value = tuple(value)
  if before is not None and type(value) is not type(before):
    raise ValueError(
      f'{spec}: {name} must be {type(before).__name__}, got {value!r}.'
    )
  place[field] = value
