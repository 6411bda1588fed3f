"""I-JEPA: the released `.pth.tar` files, and `IJepaModel` of the Hub.

The released files come without a config: sizes are read off the tensors, and
the heads are those of the releases, 16 at every size above ViT-B. What is on
the Hub is one encoder without a predictor. Its config may say another
`layer_norm_eps`: the released code has 1e-6 in any case, and so have we.

Source: I-JEPA (arXiv 2301.08243), its released code; transformers 5.23.0.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from jepa_wm.interop import state_dicts, vjepa
from jepa_wm.models import ijepa, masked
from jepa_wm.types import Variables

NAME = 'I-JEPA'
"""What messages call this source."""

_HEADS = {192: 3, 384: 6, 768: 12}
_MOST_HEADS = 16


def matches(config: Mapping[str, Any]) -> bool:
  """Whether a `config.json` describes this source."""
  return config.get('model_type') == 'ijepa'


def matches_tensors(tensors: Mapping[str, np.ndarray]) -> bool:
  """Whether a state dict without a config is of this source."""
  return any(
    np.ndim(tensors.get(f'{part}.patch_embed.proj.weight', 0)) == 4
    and f'{part}.pos_embed' in tensors
    for part in ('encoder', 'target_encoder')
  )


def load(
  published: state_dicts.Published,
) -> tuple[masked.Masked, Variables, dict[str, Any]]:
  """A published I-JEPA as our model and its variables.

  Returns:
    See `vjepa.load`; a predictor that was not published is random.
  """
  if published.config is None:
    settings = settings_of(published.tensors, where=published.where)
  else:
    settings = _settings_of_config(published.config)
  return vjepa.load_model(NAME, settings, published)


def settings_of(
  tensors: Mapping[str, np.ndarray], *, where: str = 'tensors'
) -> ijepa.IJEPA:
  """The settings of a released file, off the shapes of its tensors.

  Raises:
    ValueError: tensors that tell no sizes.
  """
  try:
    part = vjepa.encoder_of(tensors)
    width, _, patch_size, _ = tensors[f'{part}.patch_embed.proj.weight'].shape
    heads = _HEADS.get(width, _MOST_HEADS)
    num_tokens = tensors[f'{part}.pos_embed'].shape[1]
    return _settings(
      image_size=patch_size * math.isqrt(num_tokens),
      patch_size=patch_size,
      width=width,
      depth=vjepa.depth_of(tensors, f'{part}.blocks.'),
      num_heads=heads,
      mlp_dim=len(tensors[f'{part}.blocks.0.mlp.fc1.weight']),
      predictor={'num_heads': heads, **vjepa.predictor_sizes(tensors)},
    )
  except KeyError as error:
    raise ValueError(
      f'{where}: no tensor {error}, which an I-JEPA has; take the released '
      'file as it is.'
    ) from error


def to_config(settings: ijepa.IJEPA) -> dict[str, Any]:
  """The `config.json` from which transformers builds `IJepaModel`."""
  encoder = settings.encoder
  return {
    'architectures': ['IJepaModel'],
    'model_type': 'ijepa',
    'image_size': encoder.image_size,
    'patch_size': encoder.patch_size,
    'hidden_size': encoder.width,
    'num_hidden_layers': encoder.depth,
    'num_attention_heads': encoder.num_heads,
    'intermediate_size': encoder.mlp_dim,
    'layer_norm_eps': 1e-6,
  }


def _settings_of_config(config: Mapping[str, Any]) -> ijepa.IJEPA:
  """The settings that an `IJepaConfig` describes."""
  vjepa.expect(config, hidden_act='gelu', qkv_bias=True, num_channels=3)
  # Where a config says nothing, what IJepaConfig takes.
  heads = config.get('num_attention_heads', 12)
  return _settings(
    image_size=config.get('image_size', 224),
    patch_size=config.get('patch_size', 16),
    width=config.get('hidden_size', 768),
    depth=config.get('num_hidden_layers', 12),
    num_heads=heads,
    mlp_dim=config.get('intermediate_size', 3072),
    predictor={'num_heads': heads},
  )


def _settings(predictor: Mapping[str, Any], **encoder: Any) -> ijepa.IJEPA:
  """The published settings but for sizes."""
  published = ijepa.IJEPA()
  return ijepa.IJEPA(
    encoder=dataclasses.replace(published.encoder, **encoder),
    predictor=dataclasses.replace(published.predictor, **predictor),
  )
