"""Weights that a run starts from: those of another run, with all schedules new.

Fine-tuning, and the cool-down of V-JEPA 2 (arXiv 2506.09985, section 2.4).
"""

import os
from typing import Any

import flax.traverse_util
import jax

from jepa_wm import exports, files, interop
from jepa_wm.recipes import frozen_encoders
from jepa_wm.types import Variables

_COLLECTIONS = ('params', 'batch_stats')


def read(model: Any, path: str | os.PathLike[str]) -> Variables:
  """Collections of a model's variables, with the weights of another.

  Modules of the other that the model lacks are left out. A moving average goes
  on where the export holds one, and else begins at the encoder.

  Args:
    model: a `models.Learns`.
    path: what `WorldModel.from_checkpoint` takes, or weights that others
      published.

  Returns:
    'params', 'batch_stats' and, where the model has one, 'target'.

  Raises:
    FileNotFoundError: nothing there.
    ValueError: a weight of the model is missing there, or of another shape; the
      message names the first.
  """
  if frozen_encoders.is_published(files.expand(path)):
    found = interop.read(path)[1]
  else:
    found = exports.WorldModel.from_checkpoint(path).params
  return _fitted(model, found, path)


def check(model: Any, other: Any, name: str) -> None:
  """Makes sure that a model can start from another; computes nothing.

  Args:
    model: as for `read`.
    other: a `models.Learns`.
    name: of the other, for the message.

  Raises:
    ValueError: as `read`.
  """
  jax.eval_shape(
    lambda found: _fitted(model, found, name), exports.inference_shapes(other)
  )


def _fitted(model: Any, found: Variables, path: Any) -> Variables:
  """See `read`, of variables for inference."""
  # An export has no collections without variables, a run does.
  found = {name: dict(found.get(name, {})) for name in _COLLECTIONS}
  fresh = jax.eval_shape(model.init, jax.random.key(0))
  started = {
    name: {key: x for key, x in found[name].items() if key in fresh[name]}
    for name in _COLLECTIONS
  }
  _check(fresh, started, path)
  if 'target' not in fresh:
    return started
  average = found['params'].get('target_encoder')
  if average is None:
    return {**started, 'target': model.target.split(started)['target']}
  target = {'params': {'encoder': average}}
  _check({'params': fresh['target']['params']}, target, path)
  return {**started, 'target': {**fresh['target'], **target}}


def fingerprint(path: str | os.PathLike[str]) -> str:
  """SHA-256 of the file or the exported weights at a path.

  Raises:
    FileNotFoundError: nothing there.
  """
  place = files.expand(path)
  if not frozen_encoders.is_published(place):
    place = exports.find(path)
  found = [place] if place.is_file() else sorted(place.iterdir())
  # Not the settings, where an export also says when it was made.
  return files.digest(
    *(
      files.digest_file(x) for x in found if x.is_file() and x.suffix != '.json'
    )
  )


def _check(fresh: Variables, started: Variables, path: Any) -> None:
  """Refuses what lacks a weight, or has one of another shape.

  Raises:
    ValueError: names the first.
  """
  wanted, got = (
    {
      name: list(x.shape)
      for collection in _COLLECTIONS
      for name, x in flax.traverse_util.flatten_dict(
        variables.get(collection, {}), sep='/'
      ).items()
    }
    for variables in (fresh, started)
  )
  for name in sorted({*wanted, *got}):
    if wanted.get(name) != got.get(name):
      raise ValueError(
        f'config.initialise_from: {path} has {got.get(name, "no weight")} for '
        f'{name!r}, where config.model has {wanted.get(name, "none")}; a run '
        'starts from a model of the same sizes.'
      )
