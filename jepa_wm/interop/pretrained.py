"""Folders of published weights: found, recognised, read and written."""

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from jepa_wm import files
from jepa_wm.interop import (
  ijepa,
  lewm,
  masked_layouts,
  state_dicts,
  vjepa,
  vjepa2_ac,
)
from jepa_wm.models import lewm as models_lewm
from jepa_wm.models import masked
from jepa_wm.types import Params

SOURCES = (lewm, vjepa2_ac, vjepa, ijepa)
"""Modules of this room, one per published system.

Each has a `NAME`, says by `matches` which `config.json` is its own and by
`matches_tensors` which tensors tell so by themselves, and `load`s them.
"""

_CONFIG = 'config.json'
_WEIGHTS = ('model.safetensors', 'weights.pt')
_SUFFIXES = ('.safetensors', '.pt', '.pth', '.ckpt', '.tar')


class Pretrained(NamedTuple):
  """What a folder of published weights holds.

  Attributes:
    model: the published system as it was configured, a `models.Learns`.
    variables: of the model, as an export holds them, float32.
    record: where they are from.
  """

  model: Any
  variables: Params
  record: dict[str, Any]


def read(
  path: str | os.PathLike[str],
  *,
  action_block: int | None = None,
  encoder: str | None = None,
) -> Pretrained:
  """Reads published weights; nothing in them is executed.

  Args:
    path: a folder with `config.json` and `model.safetensors`, `weights.pt` or
      one other file of weights; or such a file, its config beside it.
    action_block: environment steps of one action block, where the source does
      not say; if left out, what its recipe has.
    encoder: which of the two of a V-JEPA or an I-JEPA encodes, one of
      `models.masked.ENCODERS`; if left out, 'target_encoder'.

  Raises:
    FileNotFoundError: no weights or no config there.
    ValueError: a source that is not known, weights that do not fit their
      config, a file with more than tensors in it, an encoder that is not
      there.
  """
  weights = _find_weights(files.expand(path))
  where, config_path = str(weights), weights.with_name(_CONFIG)
  config, source = None, None
  tensors, notes = state_dicts.unwrapped(state_dicts.read(weights))
  if not config_path.is_file():
    source = next((x for x in SOURCES if x.matches_tensors(tensors)), None)
  if source is None:
    config = _read_config(config_path)
    source = next((x for x in SOURCES if x.matches(config)), None)
  if source is None:
    known = ', '.join(source.NAME for source in SOURCES)
    raise ValueError(
      f'{config_path}: not the config of a source that is known here '
      f'(_target_={(config or {}).get("_target_")!r}); known are: {known}.'
    )
  model, variables, record = source.load(
    state_dicts.Published(config, tensors, action_block, encoder, where)
  )
  return Pretrained(model, variables, {**record, **notes, 'weights': where})


def write_lewm(
  path: str | os.PathLike[str],
  config: models_lewm.LeWM,
  variables: Params,
  *,
  layout: str = 'transformers_5',
) -> None:
  """Writes a LeWM as stable-worldmodel has it, for users of PyTorch.

  `hydra.utils.instantiate` of the config builds the module, which takes
  `safetensors.torch.load_file` of the weights as its state dict.

  Args:
    path: folder for `model.safetensors` and `config.json`, made if need be.
    config: of a LeWM as published: ViT encoder, predictor as wide as latents.
    variables: of the model.
    layout: one of `lewm.LAYOUTS`, by the transformers that is to load it.

  Raises:
    ValueError: a config or variables that the published module has no place
      for, or no such layout.
  """
  published = lewm.to_config(config)
  tensors = lewm.to_source(variables, layout=layout)
  _write(path, tensors, published)


def write_masked(
  path: str | os.PathLike[str],
  model: masked.Masked,
  variables: Params,
  *,
  layout: str = 'transformers',
) -> None:
  """Writes a V-JEPA or an I-JEPA as published, for users of PyTorch.

  `transformers`' `VJEPA2Model.from_pretrained(path)` (`IJepaModel`) reads the
  layout 'transformers', which holds one encoder. 'facebook' holds all networks,
  each under its name and a dot, and has no config.

  Args:
    path: folder for `model.safetensors` and `config.json`, made if need be.
    model: 'vjepa' or 'ijepa'.
    variables: of the model, with both encoders.
    layout: one of `masked_layouts.LAYOUTS`.

  Raises:
    ValueError: another model, one or variables that the published module has no
      place for, or no such layout.
  """
  writers = {'vjepa': vjepa, 'ijepa': ijepa}
  name = model.config.name
  if name not in writers:
    raise ValueError(f'write_masked writes {", ".join(writers)}, got {name!r}.')
  tensors = masked_layouts.to_source(model, variables, layout=layout)
  config = None
  if layout != 'facebook':
    config = writers[name].to_config(model.config)
  _write(path, tensors, config)


def _write(
  path: str | os.PathLike[str],
  tensors: Mapping[str, np.ndarray],
  config: Mapping[str, Any] | None,
) -> None:
  """Writes a folder of weights and, where there is one, their config."""
  path = files.expand(path)
  path.mkdir(parents=True, exist_ok=True)
  state_dicts.write_safetensors(path / _WEIGHTS[0], tensors)
  if config is not None:
    (path / _CONFIG).write_text(json.dumps(config, indent=2) + '\n')


def _find_weights(path: pathlib.Path) -> pathlib.Path:
  """The file of weights that `path` means."""
  if path.is_file():
    return path
  if not path.is_dir():
    raise FileNotFoundError(
      f'{path}: no such folder; nothing is downloaded here, get {_WEIGHTS[1]} '
      f'(or {_WEIGHTS[0]}) and {_CONFIG} yourself, for example by `hf '
      'download quentinll/lewm-pusht --local-dir DIR`, and pass DIR.'
    )
  for name in _WEIGHTS:
    if (path / name).is_file():
      return path / name
  others = sorted(
    x for x in files.visible(path.iterdir()) if x.suffix in _SUFFIXES
  )
  if len(others) == 1:
    return others[0]
  if others:
    raise ValueError(
      f'{path}: {len(others)} files of weights, such as {others[0].name} and '
      f'{others[1].name}; pass the path of one of them.'
    )
  raise FileNotFoundError(
    f'{path}: no weights there, expected {" or ".join(_WEIGHTS)}.'
  )


def _read_config(path: pathlib.Path) -> Mapping[str, Any]:
  if not path.is_file():
    raise FileNotFoundError(
      f'{path}: missing beside the weights; it says what they are of.'
    )
  config = files.read_json(path)
  if not isinstance(config, dict):
    raise ValueError(
      f'{path}: expected an object, got {type(config).__name__}.'
    )
  if 'format_version' in config:
    raise ValueError(
      f'{path}: an export of jepa_wm itself; WorldModel.from_checkpoint reads '
      'it.'
    )
  # stable-worldmodel 0.1.1's own training script saves everything around it.
  model = config.get('model')
  if '_target_' not in config and isinstance(model, dict):
    return model
  return config
