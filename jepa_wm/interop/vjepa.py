"""V-JEPA 1 and 2: the released `.pt` files, and `VJEPA2Model` of the Hub.

The `.pt` files come without a config: sizes are read off the tensors. What no
tensor shows is taken from the releases: 16 frames, 64 channels a head (16 heads
at width 1280, 12 in V-JEPA 2's predictor), 256 pixels for V-JEPA 2. Its weights
fit any image size: `dataclasses.replace` of the encoder's settings.

Source: V-JEPA (arXiv 2404.08471), V-JEPA 2 (arXiv 2506.09985), their released
code; transformers 5.23.0.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from jepa_wm.interop import masked_layouts, state_dicts
from jepa_wm.models import masked, targets, vjepa
from jepa_wm.networks import masked_predictor, positions, video_vit
from jepa_wm.types import Variables

NAME = 'V-JEPA 1 and 2'
"""What messages call this source."""

_HEADS = {1280: 16}
_CHANNELS_PER_HEAD = 64
# More mask tokens than V-JEPA 1 has kinds of mask; V-JEPA 2 has 10.
_MOST_OF_FIRST = 2


def matches(config: Mapping[str, Any]) -> bool:
  """Whether a `config.json` describes this source."""
  return config.get('model_type') == 'vjepa2'


def matches_tensors(tensors: Mapping[str, np.ndarray]) -> bool:
  """Whether a state dict without a config is of this source."""
  return any(
    np.ndim(tensors.get(f'{part}.patch_embed.proj.weight', 0)) == 5
    for part in ('encoder', 'target_encoder')
  )


def load(
  published: state_dicts.Published,
) -> tuple[masked.Masked, Variables, dict[str, Any]]:
  """A published V-JEPA as our model and its variables.

  Returns:
    The model, its variables (float32) with both encoders, and what a record
    should say.

  Raises:
    ValueError: a config of a model that ours is not, or weights that do not
      fit it.
  """
  if published.config is None:
    settings = settings_of(published.tensors, where=published.where)
  else:
    settings = _settings_of_config(published.config)
  return load_model(NAME, settings, published)


def settings_of(
  tensors: Mapping[str, np.ndarray], *, where: str = 'tensors'
) -> vjepa.VJEPA:
  """The settings of a released `.pt` file, off the shapes of its tensors.

  Raises:
    ValueError: tensors that tell no sizes.
  """
  try:
    return _settings_of_tensors(tensors)
  except KeyError as error:
    raise ValueError(
      f'{where}: no tensor {error}, which a V-JEPA has; take the released '
      'file as it is.'
    ) from error


def load_model(
  source: str, settings: Any, published: state_dicts.Published
) -> tuple[masked.Masked, Variables, dict[str, Any]]:
  """The model of `settings`, its variables, and what a record should say.

  Args:
    source: what messages call where the tensors are from.
    settings: of a V-JEPA or an I-JEPA, of the sizes that the tensors have.
    published: in any layout.

  Raises:
    ValueError: tensors that do not fit, or no such encoder.
  """
  _, tensors, _, encoder, where = published
  if encoder is not None:
    settings = dataclasses.replace(settings, inference_encoder=encoder)
  model: masked.Masked = settings.build()
  variables, parts = masked_layouts.load(model, tensors, where=where)
  layout = masked_layouts.layout_of(tensors)
  record = {'source': source, 'key_layout': layout, 'parts': list(parts)}
  return model, variables, record


def to_config(settings: vjepa.VJEPA) -> dict[str, Any]:
  """The `config.json` from which transformers builds `VJEPA2Model`.

  Raises:
    ValueError: the model is not built as `VJEPA2Model` is.
  """
  encoder, predictor = settings.encoder, settings.predictor
  for name, value, needed in (
    ('encoder.positions', encoder.positions, positions.Rotary()),
    ('num_levels', settings.num_levels, 1),
  ):
    if value != needed:
      raise ValueError(
        f'VJEPA2Model has {name}={needed!r} alone, this model {value!r}.'
      )
  return {
    'architectures': ['VJEPA2Model'],
    'model_type': 'vjepa2',
    'crop_size': encoder.image_size,
    'patch_size': encoder.patch_size,
    'tubelet_size': encoder.tubelet_size,
    'frames_per_clip': encoder.num_frames,
    'hidden_size': encoder.width,
    'num_hidden_layers': encoder.depth,
    'num_attention_heads': encoder.num_heads,
    'mlp_ratio': encoder.mlp_dim / encoder.width,
    'pred_hidden_size': predictor.width,
    'pred_num_hidden_layers': predictor.depth,
    'pred_num_attention_heads': predictor.num_heads,
    'pred_mlp_ratio': predictor.mlp_dim / predictor.width,
    'pred_num_mask_tokens': predictor.num_mask_tokens,
    'layer_norm_eps': 1e-6,
  }


def expect(config: Mapping[str, Any], **needed: Any) -> None:
  """Refuses a `config.json` that says otherwise; it may say nothing."""
  for name, value in needed.items():
    if config.get(name, value) != value:
      raise ValueError(
        f'config.json: {name} is {config[name]!r}, the model has {value!r} '
        'alone.'
      )


def depth_of(tensors: Mapping[str, np.ndarray], prefix: str) -> int:
  """How many blocks there are under a name such as 'encoder.blocks.'."""
  indices = {
    int(name.removeprefix(prefix).split('.')[0])
    for name in tensors
    if name.startswith(prefix)
  }
  if not indices:
    raise KeyError(f'{prefix}0')
  return max(indices) + 1


def encoder_of(tensors: Mapping[str, np.ndarray]) -> str:
  """The name of an encoder that is there."""
  names = ('target_encoder', 'encoder')
  for name in names:
    if f'{name}.patch_embed.proj.weight' in tensors:
      return name
  raise KeyError('encoder.patch_embed.proj.weight')


def predictor_sizes(tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
  """Settings of the predictor, none if there is no predictor."""
  weight = tensors.get('predictor.predictor_embed.weight')
  if weight is None:
    return {}
  mlp = tensors['predictor.predictor_blocks.0.mlp.fc1.weight']
  return {
    'width': len(weight),
    'depth': depth_of(tensors, 'predictor.predictor_blocks.'),
    'mlp_dim': len(mlp),
  }


def _settings_of_tensors(tensors: Mapping[str, np.ndarray]) -> vjepa.VJEPA:
  part = encoder_of(tensors)
  weight = tensors[f'{part}.patch_embed.proj.weight']
  width, _, tubelet_size, patch_size, _ = weight.shape
  mask_tokens = [x for x in tensors if x.startswith('predictor.mask_tokens.')]
  table = tensors.get(f'{part}.pos_embed')
  heads = _HEADS.get(width, width // _CHANNELS_PER_HEAD)
  encoder: dict[str, Any] = {
    'patch_size': patch_size,
    'tubelet_size': tubelet_size,
    'width': width,
    'depth': depth_of(tensors, f'{part}.blocks.'),
    'num_heads': heads,
    'mlp_dim': len(tensors[f'{part}.blocks.0.mlp.fc1.weight']),
  }
  predictor = predictor_sizes(tensors)
  if mask_tokens:
    predictor['num_mask_tokens'] = len(mask_tokens)
  others: dict[str, Any] = {}
  if table is not None and len(mask_tokens) <= _MOST_OF_FIRST:
    time = video_vit.VideoViTConfig.num_frames // tubelet_size
    encoder |= {
      'positions': positions.SinCos(),
      'init_style': 'plain',
      'image_size': patch_size * math.isqrt(table.shape[1] // time),
    }
    predictor |= {
      'num_heads': heads,
      'num_mask_tokens': len(mask_tokens) or _MOST_OF_FIRST,
      'mask_token': 'per_kind',
    }
    others['target'] = targets.EMA(
      momentum=0.998, momentum_end=1.0, momentum_steps=112_500
    )
  return vjepa.VJEPA(
    encoder=video_vit.VideoViTConfig(**encoder),
    predictor=masked_predictor.MaskedPredictorConfig(**predictor),
    **others,
  )


def _settings_of_config(config: Mapping[str, Any]) -> vjepa.VJEPA:
  """The settings that a `VJEPA2Config` describes."""

  def get(name: str, default: Any) -> Any:
    return config.get(name, default)

  expect(config, hidden_act='gelu', qkv_bias=True, in_chans=3)
  # Where a config says nothing, what VJEPA2Config takes.
  width, predictor_width = (
    get('hidden_size', 1024),
    get('pred_hidden_size', 384),
  )
  return vjepa.VJEPA(
    encoder=video_vit.VideoViTConfig(
      image_size=get('crop_size', 256),
      patch_size=get('patch_size', 16),
      tubelet_size=get('tubelet_size', 2),
      num_frames=get('frames_per_clip', 64),
      width=width,
      depth=get('num_hidden_layers', 24),
      num_heads=get('num_attention_heads', 16),
      mlp_dim=int(width * get('mlp_ratio', 4.0)),
    ),
    predictor=masked_predictor.MaskedPredictorConfig(
      width=predictor_width,
      depth=get('pred_num_hidden_layers', 12),
      num_heads=get('pred_num_attention_heads', 12),
      mlp_dim=int(predictor_width * get('pred_mlp_ratio', 4.0)),
      num_mask_tokens=get('pred_num_mask_tokens', 10),
    ),
  )
