"""Weights of a frozen encoder, from a checkpoint of ours or a foreign file."""

import dataclasses
import os
import pathlib
from typing import Any, NamedTuple

import flax.traverse_util
import jax

from jepa_wm import families, files, interop, world_model
from jepa_wm.families import on_latents
from jepa_wm.types import Params


class FrozenEncoder(NamedTuple):
  """What a folder holds of an encoder.

  Attributes:
    encoder: what the field `encoder` of a family with a frozen encoder takes: a
      family of ours, or a name.
    variables: of it.
  """

  encoder: Any
  variables: Params


def read(
  path: str | os.PathLike[str], *, dtype: str = 'float32'
) -> FrozenEncoder:
  """Reads the encoder out of a checkpoint of ours, or published weights.

  Args:
    path: what `WorldModel.from_checkpoint` takes, a folder or file of DINOv2's
      published weights, or what `WorldModel.from_pretrained` takes: V-JEPA,
      I-JEPA, V-JEPA 2-AC (its frozen encoder) or LeWM.
    dtype: in which a published encoder computes, which no file says.

  Raises:
    FileNotFoundError: nothing there.
    ValueError: weights of another kind; the message says of which.
  """
  if interop.is_dinov2(path):
    return FrozenEncoder(*interop.read_dinov2(path))
  if _is_published(pathlib.Path(path)):
    family, variables, _ = interop.read(path)
    if 'frozen' in variables:
      family, variables = family.encoder, variables['frozen']
    else:
      variables = _encoder_of(family, variables, path)
    return FrozenEncoder(dataclasses.replace(family, dtype=dtype), variables)
  model = world_model.WorldModel.from_checkpoint(path)
  variables = _encoder_of(model.family, model.params, path)
  return FrozenEncoder(model.family, variables)


def adopt(
  family: families.LatentDynamics, path: str | os.PathLike[str]
) -> tuple[families.LatentDynamics, Params]:
  """Gives a family the encoder and the projector of a trained one.

  Args:
    family: of which the fields that say how a frame is encoded are replaced.
    path: what `WorldModel.from_checkpoint` takes, of such a family.

  Returns:
    The family, and the collection 'frozen' of `families.OnLatents`.

  Raises:
    FileNotFoundError: nothing there.
    ValueError: a checkpoint of a family of another kind.
  """
  model = world_model.WorldModel.from_checkpoint(path)
  if not isinstance(model.family, families.LatentDynamics):
    raise ValueError(
      f'{path}: a checkpoint of the family {model.family.name!r}; the latents '
      f'of {family.name!r} are those of lewm or pldm.'
    )
  fields = {
    name: getattr(model.family, name) for name in families.ENCODING_FIELDS
  }
  family = dataclasses.replace(family, **fields)
  # An export has no collections without variables, a run does.
  variables = {'batch_stats': {}, **model.params}
  return family, on_latents.split(variables)['frozen']


def _is_published(path: pathlib.Path) -> bool:
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


def _encoder_of(
  family: Any, params: Params, path: str | os.PathLike[str]
) -> Params:
  """Variables of a family's own encoder."""
  # Of the two encoders of a V-JEPA, the one that it encodes with.
  name = getattr(family, 'inference_encoder', 'encoder')
  if name not in params['params']:
    raise ValueError(
      f'{path}: a checkpoint of the family {family.name!r}, which has '
      'no encoder of its own to be frozen; pass that of a family that '
      'trains one, such as lewm.'
    )
  return {
    collection: modules[name]
    for collection, modules in params.items()
    if name in modules
  }


def check(family: Any, variables: Params, *, where: str | pathlib.Path) -> None:
  """Compares frozen variables with what a family needs.

  Args:
    family: with a frozen encoder.
    variables: of its encoder.
    where: they are from, for the message.

  Raises:
    ValueError: they differ; the message names the first tensor, both shapes and
      how many others differ.
  """
  expected, actual = (
    {
      name: list(leaf.shape)
      for name, leaf in flax.traverse_util.flatten_dict(tree, sep='/').items()
    }
    for tree in (
      jax.eval_shape(family.init_encoder, jax.random.key(0)),
      variables,
    )
  )
  names = sorted(expected.keys() | actual.keys())
  differ = [x for x in names if expected.get(x) != actual.get(x)]
  if differ:
    first, more = differ[0], len(differ) - 1
    raise ValueError(
      f"{where}: the frozen encoder's tensor {first!r} is "
      f'{actual.get(first, "missing")}, the family {family.name!r} as '
      f'configured has {expected.get(first, "none")}, and {more} others '
      'differ; let config.model.encoder say what the weights are of.'
    )


def fingerprint(variables: Params) -> str:
  """SHA-256 of names and numbers, so that a run is resumed with the same."""
  flat = flax.traverse_util.flatten_dict(variables, sep='/')
  return files.digest(
    *(part for name in sorted(flat) for part in (name, flat[name]))
  )
