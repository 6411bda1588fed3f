"""The folder of a trained model or head: two files, whole or not at all."""

import contextlib
import json
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import flax.traverse_util
import jax
import numpy as np
import safetensors.numpy

from jepa_wm import fields, files, lock
from jepa_wm.interop import safetensors_file
from jepa_wm.types import Params, Variables

FORMAT_VERSION = 2
"""Layout of an exported folder; one more when old ones cannot be read."""

WEIGHTS, CONFIG = 'model.safetensors', 'config.json'


def write(
  path: str | os.PathLike[str], config: dict[str, Any], params: Params
) -> None:
  """Writes the folder of a model or a head, whole or not at all.

  Waits for another process that writes it.
  """
  flat = flax.traverse_util.flatten_dict(params, sep='/')
  # Not ascontiguousarray, which gives a scalar an axis.
  tensors = {k: np.asarray(v, order='C') for k, v in flat.items()}
  text = json.dumps({'format_version': FORMAT_VERSION, **config}, indent=2)
  files.check_replaceable(path, (WEIGHTS, CONFIG).__contains__)
  with (
    lock.wait(path, lock.hold_place),
    files.folder_written_whole(path) as folder,
  ):
    # Not save_file: it makes files that nobody else may read.
    (folder / WEIGHTS).write_bytes(safetensors.numpy.save(tensors))
    (folder / CONFIG).write_text(text + '\n')


def read_config(
  path: pathlib.Path, parts: Sequence[str] = ('model', 'units')
) -> dict[str, Any]:
  """The config of a folder, its `parts` there and of their types.

  Raises:
    FileNotFoundError: no file there.
    ValueError: of another layout, of a head for a model or the other way, or
      edited.
  """
  config: Any = files.read_json(path)
  if not isinstance(config, dict) or 'format_version' not in config:
    raise ValueError(
      f'{path}: not the config of an exported checkpoint; WorldModel.'
      'from_pretrained reads what others published.'
    )
  version = config['format_version']
  if version != FORMAT_VERSION:
    raise ValueError(
      f'{path}: written in layout {version}, this version of jepa_wm reads '
      f'layout {FORMAT_VERSION}; export the checkpoint again with this version.'
    )
  if 'head' in config and 'head' not in parts:
    raise ValueError(
      f'{path}: the head {config["head"].get("name")!r}, which reads the '
      f'latents of {config.get("encoder")}; pass that, and this as what the '
      'head is for (--proposals, --decoder).'
    )
  if 'head' in parts and 'head' not in config:
    raise ValueError(f'{path}: a model, where a head is wanted.')
  if missing := set(parts) - config.keys():
    raise ValueError(f'{path}: {sorted(missing)} missing; export it again.')
  for name in (*parts, 'record'):
    value = config.get(name, {})
    # A model without actions has no units.
    is_there = name != 'units' or value is not None
    kind = str if name.startswith('encoder') else dict
    if is_there and not isinstance(value, kind):
      raise ValueError(
        f'{path}: {name} is {value!r:.40}; it was edited, export it again.'
      )
  _check_record(path, config.get('record', {}))
  found: dict[str, Any] = config
  return found


def _check_record(path: pathlib.Path, record: dict[str, Any]) -> None:
  """Refuses a record in which no one could look up the data of the run."""
  where: Any = record
  for name in ('config', 'data'):
    where = where.get(name, {})
    if not isinstance(where, dict):
      raise ValueError(
        f'{path}: {name} of its record is {where!r:.40}; it was edited, '
        'export it again.'
      )
  for name in ('source', 'environment', 'background'):
    if not isinstance(where.get(name), str | None):
      raise ValueError(
        f'{path}: {name} of the data of its record is {where[name]!r:.40}; it '
        'was edited, export it again.'
      )


@contextlib.contextmanager
def told(path: files.Path) -> Iterator[None]:
  """A ValueError says which config a model cannot be built of."""
  try:
    yield
  except fields.UnknownNameError as error:
    where = f'{path} (parts of your own need --import=FILE.py)'
    raise fields.UnknownNameError(f'{where}: {error}') from error
  except ValueError as error:
    raise ValueError(
      f'{path}: {error} It was edited; export it again.'
    ) from error
  except (ArithmeticError, AttributeError, LookupError, TypeError) as error:
    why = f'{type(error).__name__}: {" ".join(str(error).split()):.200}'
    raise ValueError(
      f'{path}: no model can be built of it ({why}); it was edited, export it '
      'again.'
    ) from error


def read_weights(path: pathlib.Path, shapes: Variables, what: str) -> Variables:
  """Tensors of `path`, checked one by one against what is declared."""
  if not path.is_file():
    raise FileNotFoundError(f'{path}: missing beside its {CONFIG}.')
  expected = flax.traverse_util.flatten_dict(shapes, sep='/')
  found = safetensors_file.read_declared(path, expected, what).items()
  # Copies, since a device may keep them; jnp.array is a program of each shape.
  params = jax.device_put({k: np.array(v) for k, v in found})
  unflat: Variables = flax.traverse_util.unflatten_dict(params, sep='/')
  return unflat
