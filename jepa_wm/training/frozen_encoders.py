"""Weights of a frozen encoder, from a checkpoint of ours or a foreign file."""

import hashlib
import os
import pathlib
from typing import Any, NamedTuple

import flax.traverse_util
import jax
import numpy as np

from jepa_wm import interop, world_model
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


def read(path: str | os.PathLike[str]) -> FrozenEncoder:
  """Reads the encoder out of a checkpoint of ours, or DINOv2's weights.

  Args:
    path: what `WorldModel.from_checkpoint` takes, or a folder or file of
      DINOv2's published weights.

  Raises:
    FileNotFoundError: nothing there.
    ValueError: weights of another kind; the message says of which.
  """
  if not interop.is_dinov2(path):
    model = world_model.WorldModel.from_checkpoint(path)
    # Of the two encoders of a V-JEPA, the one that it encodes with.
    name = getattr(model.family, 'inference_encoder', 'encoder')
    if name not in model.params['params']:
      raise ValueError(
        f'{path}: a checkpoint of the family {model.family.name!r}, which has '
        'no encoder of its own to be frozen; pass that of a family that '
        'trains one, such as lewm.'
      )
    variables = {
      collection: modules[name]
      for collection, modules in model.params.items()
      if name in modules
    }
    return FrozenEncoder(model.family, variables)
  return FrozenEncoder(*interop.read_dinov2(path))


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
  digest = hashlib.sha256()
  flat = flax.traverse_util.flatten_dict(variables, sep='/')
  for name in sorted(flat):
    digest.update(name.encode())
    digest.update(np.ascontiguousarray(flat[name]).tobytes())
  return digest.hexdigest()
