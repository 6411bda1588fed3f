"""Trained models as folders: saved, found, loaded, and those of others read.

A folder has `model.safetensors` and `config.json`. Nothing else is needed to
use the model, and nothing in it is executed.
"""

import dataclasses
import json
import os
import pathlib
import warnings
from typing import Any

import flax.traverse_util
import jax
import numpy as np

from jepa_wm import (
  export_folder,
  fields,
  files,
  interop,
  models,
  pytrees,
  units,
  world_model,
)
from jepa_wm.models import heads, targets
from jepa_wm.types import Params, Variables

SHIPPED = pathlib.Path(__file__).parent / 'checkpoints'
"""Folder of the checkpoints that come with the package."""


class WorldModel(world_model.WorldModel):
  """A world model that can be saved and loaded: the one that users hold."""

  def save(self, path: str | os.PathLike[str]) -> None:
    """Writes `model.safetensors` and `config.json` into the folder `path`.

    The folder appears whole or not at all; one that was there is replaced, if
    nothing else is in it.

    Raises:
      OSError: the folder cannot be written, or other files are there.
    """
    config = {
      'model': fields.to_dict(self.model.config),
      'units': None if self.units is None else self.units.to_dict(),
      'record': self.record,
    }
    export_folder.write(path, config, self.params)

  @classmethod
  def from_checkpoint(cls, path: str | os.PathLike[str]) -> 'WorldModel':
    """Loads an exported folder.

    Args:
      path: a folder with `model.safetensors` and `config.json`, the working
        directory of a training run (its `export` folder is read), or the name
        of a checkpoint that ships with the package (`two_room_small`).

    Raises:
      FileNotFoundError: nothing to load there.
      ValueError: a file that is cut off, of another model or layout.
    """
    folder = find(path)
    config = export_folder.read_config(folder / export_folder.CONFIG)
    with export_folder.told(folder / export_folder.CONFIG):
      model = models.from_config(config['model'])
      shapes = inference_shapes(model)
    params = export_folder.read_weights(
      folder / export_folder.WEIGHTS, shapes, f'the model {model.config.name!r}'
    )
    known = None
    if model.acting is not None:
      known = units.ActionStatistics.from_dict(config['units'])
      size, dim = known.mean.size, model.acting.action_spec.dim
      if size != dim:
        raise ValueError(
          f'{folder}: units of {size} raw actions, where the model takes '
          f'{dim}; take weights and config of one export.'
        )
    return cls(model, params, known, config.get('record', {}))

  @classmethod
  def from_pretrained(
    cls,
    path: str | os.PathLike[str],
    *,
    action_statistics: units.ActionStatistics | None = None,
    action_block: int | None = None,
    encoder: str | None = None,
  ) -> 'WorldModel':
    """Loads weights that others published; nothing in them is executed.

    Known are LeWM, V-JEPA 1 and 2, V-JEPA 2-AC and I-JEPA (`jepa_wm.interop`).
    LeWM's release holds no action statistics: they were fitted on the dataset.
    Without them the model takes and gives actions in units of their standard
    deviation, and a warning says so. V-JEPA 2-AC's actions are as they are.

    Args:
      path: a folder with `config.json` and `weights.pt` or
        `model.safetensors`, as downloaded from the Hub; or the file of weights
        beside its config; or a released V-JEPA or I-JEPA file, which has none.
      action_statistics: of the raw actions of the dataset that the weights
        were trained on (`units.fit`).
      action_block: environment steps of one action block, where the source
        does not say; if left out, what its recipe has (LeWM: 5).
      encoder: 'target_encoder' or 'encoder', where there are two (V-JEPA,
        V-JEPA 2-AC, I-JEPA); if left out, the first.

    Raises:
      FileNotFoundError: no weights or no config there.
      ValueError: a source that is not known, weights that do not fit their
        config, a file with more than tensors in it, statistics of another
        number of actions.
    """
    model, params, record = interop.read(
      path, action_block=action_block, encoder=encoder
    )
    if model.acting is None:
      return cls(model, params, None, record)
    spec = model.acting.action_spec
    as_they_are = units.ActionStatistics(
      np.zeros(spec.dim, np.float32), np.ones(spec.dim, np.float32)
    )
    if 'action_statistics' in record:
      if action_statistics is not None:
        raise ValueError(
          f'{path}: takes actions as they are (action_statistics: '
          f'{record["action_statistics"]}); leave action_statistics out.'
        )
      return cls(model, params, as_they_are, record)
    if action_statistics is None:
      warnings.warn(
        f'{path}: no action statistics there, so actions are taken as '
        'normalised already (mean 0, deviation 1); pass action_statistics, '
        'fitted on the dataset the weights were trained on.',
        stacklevel=2,
      )
      action_statistics = as_they_are
      record['action_statistics'] = 'unknown, taken as mean 0, deviation 1'
    elif action_statistics.mean.shape != (spec.dim,):
      raise ValueError(
        f'action_statistics: expected {spec.dim} raw actions '
        f'(action_block={spec.block}), got '
        f'{list(action_statistics.mean.shape)}.'
      )
    return cls(model, params, action_statistics, record)


@pytrees.register('params', meaning=lambda x: (x.head.config, x.head.sizes))
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class TrainedHead:
  """A head that was learnt, its encoder named; a pytree like `WorldModel`.

  Attributes:
    head: what was learnt.
    params: its variables.
    encoder: where the encoder was found, for messages.
    encoder_fingerprint: what `encoder_fingerprint` says of it.
    record: how it was trained.
  """

  head: heads.Head
  params: Params
  encoder: str
  encoder_fingerprint: str
  record: dict[str, Any] = dataclasses.field(default_factory=dict)

  def __repr__(self) -> str:
    number = pytrees.count_parameters(self.params)
    return f'TrainedHead({self.name} of {self.encoder}; {number:,} parameters)'

  @property
  def name(self) -> str:
    """Of its kind."""
    found: str = self.head.config.name
    return found

  @property
  def digest(self) -> str:
    """SHA-256 of all that decides what the head says."""
    settings = [fields.to_dict(self.head.config), vars(self.head.sizes)]
    return _digest(settings, self.params)

  def save(self, path: str | os.PathLike[str]) -> None:
    """Writes a folder as that of `WorldModel.save`.

    Raises:
      OSError: the folder cannot be written.
    """
    config = {
      'head': fields.to_dict(self.head.config),
      'sizes': dataclasses.asdict(self.head.sizes),
      'encoder': self.encoder,
      'encoder_fingerprint': self.encoder_fingerprint,
      'record': self.record,
    }
    export_folder.write(path, config, self.params)

  @classmethod
  def load(
    cls,
    path: str | os.PathLike[str],
    *,
    model: WorldModel | None = None,
    where: str = 'the model',
  ) -> 'TrainedHead':
    """Loads the folder of a head.

    Args:
      path: the folder, or the working directory of its training.
      model: whose latents it is to read; any if left out.
      where: that was found, for the message.

    Raises:
      FileNotFoundError: nothing to load there.
      ValueError: a file that is cut off, a model in place of a head, or a head
        of another encoder than the model's, or of actions in other units.
    """
    folder = find(path)
    parts = 'head', 'sizes', 'encoder', 'encoder_fingerprint'
    config = export_folder.read_config(folder / export_folder.CONFIG, parts)
    sizes: dict[str, Any] = {
      name: tuple(value) if isinstance(value, list) else value
      for name, value in config['sizes'].items()
    }
    with export_folder.told(folder / export_folder.CONFIG):
      head = heads.from_config(config['head'], heads.Sizes(**sizes))
      shapes = inference_shapes(head)
    known = config['encoder_fingerprint']
    if model is not None and known != encoder_fingerprint(model):
      raise ValueError(
        f'{path}: the head {head.config.name!r} reads the latents of the '
        f'encoder of {config["encoder"]} ({known[:12]}), and {where} has '
        f'another ({encoder_fingerprint(model)[:12]}); train a head on that, '
        f'with --config.frozen_encoder={where}.'
      )
    if model is not None:
      _check_units(path, head, model, where)
    params = export_folder.read_weights(
      folder / export_folder.WEIGHTS, shapes, f'the head {head.config.name!r}'
    )
    return cls(head, params, config['encoder'], known, config.get('record', {}))


def _check_units(
  path: str | os.PathLike[str],
  head: heads.Head,
  model: world_model.WorldModel,
  where: str,
) -> None:
  """Refuses a head whose actions are normalised by other statistics."""
  sizes, ours = head.sizes, model.units
  roles = head.roles
  acts = roles.policy or roles.proposal or roles.reward
  if acts is None or not sizes.action_std or ours is None:
    return
  mean, std = (ours.to_dict()[name] for name in ('mean', 'std'))
  if (sizes.action_mean, sizes.action_std) != (tuple(mean), tuple(std)):
    raise ValueError(
      f'{path}: the head {head.config.name!r} knows actions in units of mean '
      f'{[*sizes.action_mean]} and deviation {[*sizes.action_std]}, and '
      f'{where} in units of {mean} and {std}; train a head on that, with '
      f'--config.frozen_encoder={where}.'
    )


def encoder_fingerprint(model: world_model.WorldModel) -> str:
  """SHA-256 of all that decides a model's latents: settings and weights."""
  settings = fields.to_dict(model.model.config)
  shaping = {k: settings.get(k) for k in targets.ENCODING}
  return _digest(shaping, targets.encoding_part(model.params))


def encoder_of(path: str | os.PathLike[str]) -> str | None:
  """Where the encoder of a head is; None of what is a model.

  Args:
    path: what `TrainedHead.load` or `WorldModel.from_checkpoint` takes.

  Raises:
    FileNotFoundError: nothing to load there.
    ValueError: a config that is cut off or of another layout.
  """
  path = find(path) / export_folder.CONFIG
  config = files.read_json(path)
  if not isinstance(config, dict) or 'head' not in config:
    return None
  parts = 'head', 'sizes', 'encoder', 'encoder_fingerprint'
  found: str = export_folder.read_config(path, parts)['encoder']
  return found


def head_sizes(
  model: world_model.WorldModel,
  action_low: np.ndarray | float,
  action_high: np.ndarray | float,
) -> heads.Sizes:
  """What a head must know of the model whose latents it reads.

  Args:
    model: without actions the bounds mean nothing.
    action_low: lower bounds of a raw action, a number or `[raw]`.
    action_high: upper bounds.

  Raises:
    ValueError: bounds of another number of actions.
  """
  pixels = model.observation_spec.get('pixels')
  sizes = heads.Sizes(
    latent_dim=model.model.latent_dim,
    image_size=0 if pixels is None else int(pixels.shape[0]),
  )
  if model.model.acting is None:
    return sizes
  bounds = model.action_bounds(action_low, action_high)
  known = (
    {'mean': [], 'std': []} if model.units is None else model.units.to_dict()
  )
  return dataclasses.replace(
    sizes,
    action_dim=model.action_dim,
    action_block=model.action_block,
    action_low=tuple(np.asarray(bounds.low).ravel().tolist()),
    action_high=tuple(np.asarray(bounds.high).ravel().tolist()),
    action_mean=tuple(known['mean']),
    action_std=tuple(known['std']),
  )


def _digest(settings: Any, variables: Variables) -> str:
  flat = flax.traverse_util.flatten_dict(variables, sep='/')
  return files.digest(
    json.dumps(settings, sort_keys=True),
    *(part for name in sorted(flat) for part in (name, flat[name])),
  )


def read_config(path: str | os.PathLike[str]) -> dict[str, Any]:
  """The nested settings of an exported model, as `fields.to_dict` has them.

  Args:
    path: what `WorldModel.from_checkpoint` takes.

  Raises:
    FileNotFoundError: nothing to load there.
    ValueError: a config that is cut off or of another layout.
  """
  config = export_folder.read_config(find(path) / export_folder.CONFIG)['model']
  with export_folder.told(path):
    return fields.to_dict(models.from_config(config).config)


def read_encoder(path: str | os.PathLike[str]) -> dict[str, Any]:
  """The settings of an exported model's encoder, to be frozen in another.

  Args, result and errors are those of `read_config`; besides:

  Raises:
    ValueError: a model whose config has no encoder.
  """
  config = read_config(path)
  if 'encoder' not in config:
    raise ValueError(f'{path}: the model {config["name"]!r} has no encoder.')
  found: dict[str, Any] = config['encoder']
  return found


def find(path: str | os.PathLike[str]) -> pathlib.Path:
  """The first folder among the places `path` may mean that holds a config.

  Raises:
    FileNotFoundError: none does.
  """
  path = files.expand(path)
  candidates = [path, path / 'export']
  if len(path.parts) == 1:
    candidates.append(SHIPPED / path)
  config = export_folder.CONFIG
  for folder in candidates:
    if (folder / config).is_file():
      return folder
  shipped = sorted(p.parent.name for p in SHIPPED.glob(f'*/{config}'))
  raise FileNotFoundError(
    f'checkpoint {str(path)!r}: no {config} there or in its export/ folder; '
    'pass the working directory of a training run that has ended, an exported '
    f'folder, or one of those that ship: {", ".join(shipped) or "none"}.'
    + files.nearest(path.name, shipped)
  )


def inference_shapes(learner: models.Learns | heads.Head) -> Variables:
  """Shapes of what an export of a model or head holds; computes nothing."""
  init = lambda rng_key: learner.for_inference(learner.init(rng_key))
  shapes: Variables = jax.eval_shape(init, jax.random.key(0))
  return shapes
