"""Weights of a frozen encoder, from a checkpoint of ours or a foreign file."""

import os
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.traverse_util
import jax

from jepa_wm import exports, fields, files, interop, models
from jepa_wm.interop import safetensors_file
from jepa_wm.models import targets
from jepa_wm.types import Variables


class Source(NamedTuple):
  """What a path holds of an encoder.

  Attributes:
    config: nested settings of the model of ours that it is of; None of others.
    encoder: variables of the encoder's module alone.
    whole: of encoder and projector, for models whose latents are shared.
  """

  config: dict[str, Any] | None
  encoder: Variables
  whole: Variables


def check(model: Any, path: str | os.PathLike[str]) -> None:
  """Makes sure that a model has a frozen encoder; reads nothing.

  Raises:
    ValueError: it trains its own.
  """
  if not model.is_frozen:
    raise ValueError(
      f'config.frozen_encoder is {str(path)!r}, but {model.config.name!r} '
      "trains its own encoder; leave it out, or set target.name='frozen'."
    )


def read_model(
  settings: Mapping[str, Any], path: str | None, *, weights: bool = True
) -> tuple[Any, Any]:
  """A model, and the weights of its frozen encoder if it has one.

  Args:
    settings: of the model, in JSON's types.
    path: as for `adopt`; empty or None for a model that trains its encoder.
    weights: whether the weights are read; None stands for them otherwise.

  Raises:
    ValueError: a field there is not, or an encoder that does not fit.
    FileNotFoundError: no frozen encoder where it says.
  """
  model = models.from_config(settings)
  if path and not weights:
    check(model, path)
    return model, None
  if path:
    return model, adopt(model, path)
  if model.is_frozen:
    raise ValueError(
      f'config.frozen_encoder must be set for {model.config.name!r} with a '
      'frozen target: a checkpoint of ours, the weights of its encoder, or '
      "'random'."
    )
  return model, None


def adopt(model: Any, path: str | os.PathLike[str]) -> Variables:
  """The collection 'frozen' of a model, with the weights of another.

  Args:
    model: a `models.jepa.Jepa` whose target is 'frozen'.
    path: a checkpoint of ours; published weights of DINOv2, V-JEPA, I-JEPA,
      V-JEPA 2-AC (its frozen encoder) or LeWM; or 'random', to draw them.

  Raises:
    FileNotFoundError: nothing there.
    ValueError: the model trains its own encoder, or the weights are of another
      encoder than the model's settings say; the message names the first
      setting or tensor that differs.
  """
  check(model, path)
  # Of what is drawn only this part is made.
  fresh = jax.jit(lambda key: model.init(key)['frozen'])(jax.random.key(0))
  if path == 'random':
    return fresh
  source = read(path)
  ours = fields.to_dict(model.config)
  if 'encoder' in ours['encoder']:
    # Tokens of any encoder.
    if source.config is not None:
      _same(ours['encoder']['encoder'], source.config['encoder'], path)
    frozen = _within(fresh, source.encoder)
  else:
    if source.config is None or 'projector' not in source.config:
      name = 'another' if source.config is None else source.config['name']
      raise ValueError(
        f'{path}: an encoder of {name!r}; the latents of '
        f'{model.config.name!r} are those of lewm or pldm.'
      )
    _same_latents(ours, source.config, path)
    frozen = source.whole
  safetensors_file.check_declared(
    path,
    flax.traverse_util.flatten_dict(fresh, sep='/'),
    flax.traverse_util.flatten_dict(frozen, sep='/'),
    'the frozen encoder',
    'let config.model.encoder say what the weights are of',
  )
  return frozen


def check_alike(model: Any, other: Any, name: str) -> None:
  """Makes sure that a model can take the encoder of another; reads nothing.

  Args:
    model: a `models.jepa.Jepa` whose target is 'frozen'.
    other: a `models.jepa.Jepa`.
    name: of the other, for the message.

  Raises:
    ValueError: the model trains its own encoder, or one of other settings.
  """
  check(model, name)
  ours, theirs = (fields.to_dict(x.config) for x in (model, other))
  _same_latents(ours, theirs, name)


def read(path: str | os.PathLike[str]) -> Source:
  """Reads the encoder out of a checkpoint of ours, or published weights.

  Args:
    path: what `WorldModel.from_checkpoint` or `from_pretrained` takes, or a
      folder or file of DINOv2's published weights.

  Raises:
    FileNotFoundError: nothing there.
    ValueError: weights of another kind; the message says of which.
  """
  if interop.is_dinov2(path):
    variables = interop.read_dinov2(path).variables
    return Source(None, variables, {})
  if is_published(files.expand(path)):
    model, params, _ = interop.read(path)
    return Source(None, _encoder_of(model, params, path), {})
  found = exports.WorldModel.from_checkpoint(path)
  config = fields.to_dict(found.model.config)
  # An export has no collections without variables, a run does.
  params = {'batch_stats': {}, **found.params}
  encoder = _encoder_of(found.model, params, path)
  if 'encoder' in config['encoder']:
    config = {**config, 'encoder': config['encoder']['encoder']}
  return Source(config, encoder, targets.encoding_part(params))


def is_published(path: pathlib.Path) -> bool:
  """Whether others wrote what is there: a file, or a folder with their config.

  A checkpoint of ours is a folder whose config says its format.
  """
  if path.is_file():
    return True
  try:
    config = files.read_json(path / 'config.json')
  except (OSError, ValueError):
    return False
  return isinstance(config, dict) and 'format_version' not in config


def fingerprint(variables: Variables) -> str:
  """SHA-256 of names and numbers, so that a run is resumed with the same."""
  flat = flax.traverse_util.flatten_dict(variables, sep='/')
  return files.digest(
    *(part for name in sorted(flat) for part in (name, flat[name]))
  )


def freeze(
  config: dict[str, Any], path: str | os.PathLike[str]
) -> dict[str, Any]:
  """Puts the settings of a checkpoint's encoder into those of another model.

  Args:
    config: nested settings of a model.
    path: of a checkpoint of ours.

  Returns:
    The settings with that encoder. A model that would train its own has its
    target frozen, and the terms left out that shape latents.

  Raises:
    FileNotFoundError: no checkpoint there.
    ValueError: a damaged one, or of a model without an encoder to share.
  """
  theirs = exports.read_config(path)
  encoder = theirs['encoder'].get('encoder', theirs['encoder'])
  if 'encoder' in config['encoder']:
    return {**config, 'encoder': {**config['encoder'], 'encoder': encoder}}
  if 'projector' not in theirs or 'projector' not in config:
    raise ValueError(
      f'{path}: a checkpoint of {theirs["name"]!r}; the latents of '
      f'{config["name"]!r} are those of lewm or pldm.'
    )
  kept = ('prediction', 'inverse_dynamics', 'policy')
  return {
    **config,
    **{part: theirs[part] for part in ('encoder', 'projector', 'latent_dim')},
    'target': {'name': 'frozen'},
    'terms': {k: x for k, x in config['terms'].items() if k in kept},
  }


def _encoder_of(
  model: models.Learns, params: Variables, path: str | os.PathLike[str]
) -> Variables:
  """Variables of a model's encoder alone."""
  config = fields.to_dict(model.config)
  # Of the two encoders of a V-JEPA, the one that it encodes with.
  name = config.get('inference_encoder', 'encoder')
  part = _module(params, name)
  if not part['params']:
    raise ValueError(
      f'{path}: a checkpoint of {config["name"]!r} that holds no {name!r}.'
    )
  # Tokens of any encoder hold it one name further in.
  return _module(part, 'encoder') if 'encoder' in config['encoder'] else part


def _module(variables: Variables, name: str) -> Variables:
  return {
    collection: modules[name]
    for collection, modules in variables.items()
    if name in modules
  } or {'params': {}}


def _within(fresh: Variables, encoder: Variables) -> Variables:
  """The collection 'frozen' of tokens, their encoder's variables replaced."""
  frozen = {}
  for collection, modules in fresh.items():
    parts = dict(modules.get('encoder', {}))
    if collection in encoder:
      parts['encoder'] = encoder[collection]
    frozen[collection] = {'encoder': parts} if parts else {}
  return frozen


def _same_latents(
  ours: Mapping[str, Any],
  theirs: Mapping[str, Any],
  path: str | os.PathLike[str],
) -> None:
  """Refuses settings of models whose latents are not made alike."""
  for part in ('encoder', 'projector', 'latent_dim'):
    _same({part: ours[part]}, {part: theirs[part]}, path)


def _same(
  ours: Mapping[str, Any],
  theirs: Mapping[str, Any],
  path: str | os.PathLike[str],
  where: str = '',
) -> None:
  """Refuses settings that differ, by the name of the first."""
  for name in sorted({*ours, *theirs}):
    mine, other = ours.get(name, 'missing'), theirs.get(name, 'missing')
    place = f'{where}{name}'
    if isinstance(mine, Mapping) and isinstance(other, Mapping):
      _same(mine, other, path, f'{place}.')
    elif _plain(mine) != _plain(other):
      raise ValueError(
        f'{path}: its encoder has {place}={other!r}, and config.model says '
        f'{place}={mine!r}; a frozen encoder stays what it is, so take that '
        'over, or another encoder.'
      )


def _plain(value: Any) -> Any:
  """A setting as JSON has it."""
  return list(value) if isinstance(value, tuple) else value
