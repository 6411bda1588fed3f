"""DINOv2's published tensors as ours, and back."""

import json
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from jepa_wm import fields, files
from jepa_wm.interop import layouts, state_dicts
from jepa_wm.networks import dinov2
from jepa_wm.types import Params

LAYOUTS = ('transformers', 'transformers_4', 'facebook')
"""By whose code a state dict is named.

  'transformers': `Dinov2Model` of transformers 5.23;
  'transformers_4': that of 4.x, which the files on the Hub have;
  'facebook': the `.pth` files of facebookresearch/dinov2.
"""

_CONFIG, _WEIGHTS = 'config.json', 'model.safetensors'
_SUFFIXES = ('.safetensors', '.pth', '.pt', '.bin')
_MASK_TOKENS = ('mask_token', 'embeddings.mask_token')
_CLS_TOKENS = ('cls_token', 'embeddings.cls_token')


class Dinov2Weights(NamedTuple):
  """What a file of DINOv2 holds.

  Attributes:
    size: one of `networks.dinov2.SIZES`.
    variables: of `networks.dinov2.Dinov2`, float32.
  """

  size: str
  variables: Params


def is_dinov2(path: str | os.PathLike[str]) -> bool:
  """Whether `path` holds DINOv2's weights by its names.

  A file of weights with a class token and the scales of its layers does, and a
  folder of the Hub whose `config.json` says so.

  Raises:
    ValueError: a file of weights that cannot be read.
  """
  path = files.expand(path)
  if path.is_file():
    return path.suffix in _SUFFIXES and _is_named_so(state_dicts.read(path))
  try:
    config = files.read_json(path / _CONFIG)
  except (OSError, ValueError):
    return False
  return isinstance(config, dict) and config.get('model_type') == 'dinov2'


def _is_named_so(tensors: Mapping[str, np.ndarray]) -> bool:
  """Whether a state dict names what DINOv2 has and other ViTs have not."""
  last = {name.rpartition('.')[2] for name in tensors}
  return 'cls_token' in last and bool(last & {'gamma', 'lambda1'})


def read_dinov2(path: str | os.PathLike[str]) -> Dinov2Weights:
  """Reads DINOv2's published weights; nothing in them is executed.

  Args:
    path: a folder of the Hub with `model.safetensors`, or a file of weights in
      one of `LAYOUTS`.

  Raises:
    FileNotFoundError: no weights there.
    ValueError: no DINOv2, or none of the sizes in `networks.dinov2.SIZES`.
  """
  path = files.expand(path)
  weights = path / _WEIGHTS if path.is_dir() else path
  tensors, _ = state_dicts.unwrapped(state_dicts.read(weights))
  where = str(weights)
  layout = layout_of(tensors, where=where)
  cls_token = _CLS_TOKENS[layout != 'facebook']
  width = tensors[cls_token].shape[-1]
  block = 'blocks.' if layout == 'facebook' else 'encoder.layer.'
  depth = len(
    {
      name.removeprefix(block).split('.')[0]
      for name in tensors
      if name.startswith(block)
    }
  )
  for name, preset in dinov2.SIZES.items():
    if (preset['width'], preset['depth']) == (width, depth):
      sizes: Any = preset
      module = dinov2.Dinov2(**sizes)
      side = dinov2.POSITIONS_GRID * dinov2.PATCH_SIZE
      expected = jax.eval_shape(
        module.init, jax.random.key(0), np.zeros((1, side, side, 3), np.float32)
      )
      _layout(layout).check(tensors, expected, where=where)
      return Dinov2Weights(name, to_variables(tensors, where=where))
  raise ValueError(
    f'{where}: a DINOv2 of width {width} and {depth} blocks; known are '
    f'{", ".join(dinov2.SIZES)}.'
  )


def write_dinov2(
  path: str | os.PathLike[str],
  variables: Params,
  *,
  layout: str = 'transformers',
) -> None:
  """Writes a DINOv2 for users of PyTorch.

  `Dinov2Model.from_pretrained` reads the folder in the layout of its version.

  Args:
    path: folder for `model.safetensors` and `config.json`, made if need be.
    variables: of a `networks.dinov2.Dinov2`.
    layout: one of `LAYOUTS`.

  Raises:
    ValueError: no such layout, or variables of another network.
  """
  tensors = to_tensors(variables, layout=layout)
  path = files.expand(path)
  path.mkdir(parents=True, exist_ok=True)
  state_dicts.write_safetensors(path / _WEIGHTS, tensors)
  (path / _CONFIG).write_text(json.dumps(_config(variables), indent=2) + '\n')


def layout_of(
  tensors: Mapping[str, np.ndarray], *, where: str = 'tensors'
) -> str:
  """The name of the layout, one of `LAYOUTS`, that a state dict is in.

  Raises:
    ValueError: it is in none of them.
  """
  for name in LAYOUTS:
    known = all(_layout(name).knows(x) for x in tensors)
    if known and _CLS_TOKENS[name != 'facebook'] in tensors:
      return name
  raise ValueError(
    f'{where}: not the tensors of a DINOv2 without registers (first: '
    f'{sorted(tensors)[0] if tensors else "none"!r}); pass those of its '
    'backbone in a layout of transformers or of facebookresearch/dinov2.'
  )


def to_variables(
  tensors: Mapping[str, np.ndarray], *, where: str = 'tensors'
) -> Params:
  """Published tensors as variables of `networks.dinov2.Dinov2`.

  Args:
    tensors: a state dict in one of `LAYOUTS`.
    where: they are from, for the message.

  Raises:
    ValueError: they are in none of the layouts.
  """
  layout = _layout(layout_of(tensors, where=where))
  params = layout.to_variables(tensors)['params']
  return {'params': jax.tree.map(lambda x: np.asarray(x, np.float32), params)}


def to_tensors(
  variables: Params, *, layout: str = 'transformers'
) -> dict[str, np.ndarray]:
  """Inverts `to_variables`; the mask token, which is not used, is zero.

  Args:
    variables: of a `networks.dinov2.Dinov2`.
    layout: one of `LAYOUTS`.

  Raises:
    ValueError: no such layout, or variables of another network.
  """
  params = jax.tree.map(np.asarray, variables['params'])
  tensors = _layout(layout).to_tensors({'params': params})
  mask_token = _MASK_TOKENS[layout != 'facebook']
  return {**tensors, mask_token: np.zeros((1, len(params['cls_token'])), 'f4')}


def _config(variables: Params) -> dict[str, Any]:
  """What `Dinov2Config` wants to know."""
  params = variables['params']
  width = len(params['cls_token'])
  grid = round((len(params['positions']) - 1) ** 0.5)
  side = round((len(params['patches']['projection']['kernel']) / 3) ** 0.5)
  return {
    'architectures': ['Dinov2Model'],
    'model_type': 'dinov2',
    'hidden_size': width,
    'num_hidden_layers': sum(name.startswith('block_') for name in params),
    # Heads of every published size have 64 channels.
    'num_attention_heads': max(width // 64, 1),
    'mlp_ratio': len(params['block_0']['mlp']['out']['kernel']) // width,
    'image_size': grid * side,
    'patch_size': side,
    'hidden_act': 'gelu',
    'layer_norm_eps': 1e-6,
    'qkv_bias': True,
    'use_swiglu_ffn': False,
  }


def _layout(name: str) -> layouts.Layout:
  fields.check_choice('layout', name, LAYOUTS)
  ours = 'block_{}'
  parts = ('query', 'key', 'value')
  attention = f'{ours}/attention'
  if name == 'facebook':
    block = 'blocks.{}'
    entries = [
      *layouts.table('cls_token', 'cls_token', num_leading=2),
      *layouts.table('pos_embed', 'positions'),
      *layouts.patches('patch_embed.proj', 'patches/projection'),
      *layouts.norm('norm', 'norm'),
      *layouts.stacked_linear(
        f'{block}.attn.qkv', [f'{attention}/{x}' for x in parts], bias=True
      ),
      *layouts.linear(f'{block}.attn.proj', f'{attention}/out'),
    ]
    scales: tuple[str, ...] = (f'{block}.ls1.gamma', f'{block}.ls2.gamma')
  else:
    block = 'encoder.layer.{}'
    theirs = [f'attention.{x}_proj' for x in ('q', 'k', 'v', 'o')]
    if name == 'transformers_4':
      theirs = [f'attention.attention.{x}' for x in parts]
      theirs.append('attention.output.dense')
    entries = [
      *layouts.table('embeddings.cls_token', 'cls_token', num_leading=2),
      *layouts.table('embeddings.position_embeddings', 'positions'),
      *layouts.patches(
        'embeddings.patch_embeddings.projection', 'patches/projection'
      ),
      *layouts.norm('layernorm', 'norm'),
    ]
    for source, part in zip(theirs, (*parts, 'out')):
      entries += layouts.linear(f'{block}.{source}', f'{attention}/{part}')
    scales = tuple(f'{block}.layer_scale{i}.lambda1' for i in (1, 2))
  for index, half in enumerate(('attention', 'mlp')):
    entries += layouts.norm(f'{block}.norm{index + 1}', f'{ours}/{half}_norm')
    entries += layouts.table(
      scales[index], f'{ours}/{half}_scale', num_leading=0
    )
  entries += layouts.linear(f'{block}.mlp.fc1', f'{ours}/mlp/hidden')
  entries += layouts.linear(f'{block}.mlp.fc2', f'{ours}/mlp/out')
  return layouts.Layout(entries, ignored=_MASK_TOKENS)
