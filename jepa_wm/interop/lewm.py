"""LeWorldModel's released weights: `weights.pt` and `config.json`.

The Hub's folders (quentinll/lewm-pusht and its siblings) hold a state dict and
the Hydra tree that builds the module in stable-worldmodel. Two key layouts of
its ViT are in use, because transformers 5 renamed it: the released files have
the older one (le-wm issue 95), a file saved today the newer one. The release
holds neither the action statistics, which its evaluation fits on the dataset,
nor how many environment steps an action block spans, which is 5 in its recipe.

Source: LeWorldModel, arXiv 2603.19312; stable-worldmodel 0.1.1.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm.families import lewm
from jepa_wm.interop import layouts
from jepa_wm.networks import encoders
from jepa_wm.types import Params

NAME = 'LeWM of stable-worldmodel'
"""What messages call this source."""

_TARGETS = (
  *('stable_worldmodel.wm.lewm.LeWM', 'stable_worldmodel.wm.lewm.lewm.LeWM'),
  'jepa.JEPA',
)
_PROJECTORS = ('projector', 'pred_proj')
_MODULES = ('encoder', 'predictor', 'action_encoder', *_PROJECTORS)
# What the published classes take where a config says nothing.
_MLP_SCALE, _SMOOTHED_DIM, _HEAD_DIM = 4, 10, 64


def _attention_and_mlp(
  theirs: str, attention: Mapping[str, str], mlp: tuple[str, str]
) -> list[layouts.Entry]:
  """A block of the ViT; only these names differ between its layouts."""
  ours = 'encoder/block_{}'
  entries = []
  for part, name in attention.items():
    entries += layouts.linear(f'{theirs}.{name}', f'{ours}/attention/{part}')
  for part, name in zip(('hidden', 'out'), mlp):
    entries += layouts.linear(f'{theirs}.{name}', f'{ours}/mlp/{part}')
  entries += layouts.norm(
    f'{theirs}.layernorm_before', f'{ours}/attention_norm'
  )
  entries += layouts.norm(f'{theirs}.layernorm_after', f'{ours}/mlp_norm')
  return entries


def _projector(theirs: str, ours: str) -> list[layouts.Entry]:
  return [
    *layouts.linear(f'{theirs}.net.0', f'{ours}/hidden'),
    *layouts.batch_norm(f'{theirs}.net.1', f'{ours}/norm'),
    *layouts.linear(f'{theirs}.net.3', f'{ours}/out'),
  ]


def _layout(vit_block: list[layouts.Entry]) -> layouts.Layout:
  embeddings, block = 'encoder.embeddings', 'predictor.transformer.layers.{}'
  ours = 'predictor/block_{}'
  return layouts.Layout(
    [
      *layouts.table(
        f'{embeddings}.cls_token', 'encoder/cls_token', num_leading=2
      ),
      *layouts.table(f'{embeddings}.position_embeddings', 'encoder/positions'),
      *layouts.patches(
        f'{embeddings}.patch_embeddings.projection',
        'encoder/patches/projection',
      ),
      *vit_block,
      *layouts.norm('encoder.layernorm', 'encoder/norm'),
      *_projector('projector', 'projector'),
      *layouts.pointwise(
        'action_encoder.patch_embed', 'action_encoder/smoothing'
      ),
      *layouts.linear('action_encoder.embed.0', 'action_encoder/hidden'),
      *layouts.linear('action_encoder.embed.2', 'action_encoder/out'),
      *layouts.table('predictor.pos_embedding', 'predictor/positions'),
      *layouts.linear(f'{block}.adaLN_modulation.1', f'{ours}/modulation'),
      *layouts.norm(f'{block}.attn.norm', f'{ours}/attention_norm'),
      *layouts.stacked_linear(
        f'{block}.attn.to_qkv',
        [f'{ours}/attention/{part}' for part in ('query', 'key', 'value')],
      ),
      *layouts.linear(f'{block}.attn.to_out.0', f'{ours}/attention/out'),
      *layouts.norm(f'{block}.mlp.net.0', f'{ours}/mlp_norm'),
      *layouts.linear(f'{block}.mlp.net.1', f'{ours}/mlp/hidden'),
      *layouts.linear(f'{block}.mlp.net.4', f'{ours}/mlp/out'),
      *layouts.norm('predictor.transformer.norm', 'predictor/norm'),
      *_projector('pred_proj', 'prediction_projector'),
    ],
    # Of masked image modelling; LeWM's encoder never masks.
    ignored=['encoder.embeddings.mask_token'],
  )


LAYOUTS = {
  'transformers_4': _layout(
    _attention_and_mlp(
      'encoder.encoder.layer.{}',
      {
        **{
          part: f'attention.attention.{part}'
          for part in ('query', 'key', 'value')
        },
        'out': 'attention.output.dense',
      },
      ('intermediate.dense', 'output.dense'),
    )
  ),
  'transformers_5': _layout(
    _attention_and_mlp(
      'encoder.layers.{}',
      {
        part: f'attention.{part[0]}_proj'
        for part in ('query', 'key', 'value', 'out')
      },
      ('mlp.fc1', 'mlp.fc2'),
    )
  ),
}
"""Key layouts by the version of transformers that names the ViT so."""


def matches(config: Mapping[str, Any]) -> bool:
  """Whether a `config.json` describes this source.

  One without classes (le-wm's README reads such) is known by its modules.
  """
  if '_target_' in config:
    return config['_target_'] in _TARGETS
  return all(isinstance(config.get(name), dict) for name in _MODULES)


def layout_of(tensors: Mapping[str, np.ndarray]) -> str:
  """The name of the layout, one of `LAYOUTS`, that a state dict is in."""
  old = any(name.startswith('encoder.encoder.') for name in tensors)
  return 'transformers_4' if old else 'transformers_5'


def load(
  config: Mapping[str, Any],
  tensors: Mapping[str, np.ndarray],
  *,
  action_block: int | None = None,
  where: str = 'tensors',
) -> tuple[lewm.LeWM, Params, dict[str, Any]]:
  """A published LeWM as our family and its variables.

  Args:
    config: its `config.json`.
    tensors: its state dict, in either layout.
    action_block: environment steps of one action block, which the release
      does not say; 5 if left out, as in its recipe.
    where: the tensors are from, for messages.

  Returns:
    The family, its variables (float32) and what a record should say.

  Raises:
    ValueError: a config of a block that the family has not, or weights that
      do not fit it (the message names the first tensor that differs).
  """
  names = {f'{part}.net.1.running_var' for part in _PROJECTORS}
  if len(names & tensors.keys()) == 1:
    raise ValueError(
      f'{where}: only one of projector and pred_proj has batch norm; the '
      'family has it in both or in none.'
    )
  family = _family(
    config,
    action_block=(
      lewm.LeWM.action_block if action_block is None else action_block
    ),
    projector_norm='batch' if names <= tensors.keys() else 'none',
  )
  name = layout_of(tensors)
  shapes = jax.eval_shape(family.init, jax.random.key(0))
  LAYOUTS[name].check(tensors, shapes, where=where)
  variables = from_source(tensors)
  return family, variables, {'source': NAME, 'key_layout': name}


def from_source(tensors: Mapping[str, np.ndarray]) -> Params:
  """A state dict, in either layout, as variables of the family, float32.

  Raises:
    ValueError: a tensor that the layout does not have.
  """
  variables = LAYOUTS[layout_of(tensors)].to_variables(tensors)
  # A copy: the tensors may be views of a file.
  return jax.tree.map(lambda x: jnp.array(x, jnp.float32), variables)


def to_source(
  variables: Params, *, layout: str = 'transformers_5'
) -> dict[str, np.ndarray]:
  """Variables of the family as the state dict of the published module.

  Args:
    variables: of a LeWM with a ViT encoder.
    layout: one of `LAYOUTS`, by the transformers that is to load it.

  Raises:
    ValueError: no such layout, or variables that the published module has no
      place for.
  """
  if layout not in LAYOUTS:
    raise ValueError(f'layout must be one of {(*LAYOUTS,)}, got {layout!r}.')
  return LAYOUTS[layout].to_tensors(variables)


def to_config(family: lewm.LeWM) -> dict[str, Any]:
  """The `config.json` from which stable-worldmodel builds the module.

  Raises:
    ValueError: the family is not built as published.
  """
  if family.encoder not in encoders.VIT_PRESETS:
    raise ValueError(
      f'The published LeWM has a ViT encoder, one of '
      f'{(*encoders.VIT_PRESETS,)}, this one has encoder={family.encoder!r}.'
    )
  published = {
    'pixel_norm': 'imagenet',
    'projector': 'mlp',
    'prediction': 'latent',
  }
  for name, value in published.items():
    if getattr(family, name) != value:
      raise ValueError(
        f'The published LeWM has {name}={value!r}, this one has '
        f'{name}={getattr(family, name)!r}.'
      )
  if family.predictor_dim != family.latent_dim:
    raise ValueError(
      'The published LeWM has a predictor as wide as its latents, this one has '
      f'predictor_dim={family.predictor_dim} and '
      f'latent_dim={family.latent_dim}.'
    )
  width, module = family.latent_dim, 'stable_worldmodel.wm.lewm.module'
  norm = {'_target_': 'torch.nn.BatchNorm1d', '_partial_': True}

  def projector(input_dim):
    return {
      '_target_': f'{module}.MLP',
      'input_dim': input_dim,
      'output_dim': width,
      'hidden_dim': family.projector_dim,
      'norm_fn': norm if family.projector_norm == 'batch' else None,
    }

  return {
    '_target_': _TARGETS[0],
    'encoder': {
      '_target_': 'stable_pretraining.backbone.utils.vit_hf',
      'size': family.encoder.removeprefix('vit_'),
      'patch_size': family.patch_size,
      'image_size': family.image_size,
      'pretrained': False,
      'use_mask_token': False,
    },
    'predictor': {
      '_target_': f'{module}.Predictor',
      'num_frames': family.history,
      'input_dim': width,
      'hidden_dim': width,
      'output_dim': width,
      'depth': family.predictor_depth,
      'heads': family.predictor_heads,
      'mlp_dim': family.predictor_mlp_dim,
      'dim_head': family.predictor_head_dim,
      'dropout': family.dropout,
      'emb_dropout': 0.0,
    },
    'action_encoder': {
      '_target_': f'{module}.Embedder',
      'input_dim': family.action_block * family.action_dim,
      'smoothed_dim': family.smoothed_dim,
      'emb_dim': width,
      'mlp_scale': _MLP_SCALE,
    },
    'projector': projector(encoders.VIT_PRESETS[family.encoder]['width']),
    'pred_proj': projector(width),
  }


def _family(
  config: Mapping[str, Any], *, action_block: int, projector_norm: str
) -> lewm.LeWM:
  """The family that a `config.json` describes."""
  sections = {name: _Section(config, name) for name in _MODULES}
  encoder, predictor, actions, projector, pred_proj = sections.values()
  encoder.only(
    *('size', 'patch_size', 'image_size', 'pretrained', 'use_mask_token')
  )
  predictor.only(
    *('num_frames', 'input_dim', 'hidden_dim', 'output_dim', 'depth', 'heads'),
    *('mlp_dim', 'dim_head', 'dropout', 'emb_dropout'),
  )
  actions.only('input_dim', 'emb_dim', 'smoothed_dim', 'mlp_scale')
  for section in (projector, pred_proj):
    section.only('input_dim', 'output_dim', 'hidden_dim', 'norm_fn')

  preset = f'vit_{encoder.get("size", "tiny")}'
  if preset not in encoders.VIT_PRESETS:
    raise ValueError(
      f"config.json: the encoder's size is {encoder.get('size')!r}, the family "
      f'has {", ".join(x.removeprefix("vit_") for x in encoders.VIT_PRESETS)}.'
    )
  width = predictor.get('hidden_dim')
  for section, key in (
    (predictor, 'input_dim'),
    (predictor, 'output_dim'),
    (actions, 'emb_dim'),
    (projector, 'output_dim'),
    (pred_proj, 'input_dim'),
    (pred_proj, 'output_dim'),
  ):
    section.expect(key, width, "the predictor's hidden_dim")
  pred_proj.expect('hidden_dim', projector.get('hidden_dim'), "the projector's")
  actions.expect('mlp_scale', _MLP_SCALE, 'the only one the family has')
  input_dim = actions.get('input_dim')
  if action_block < 1 or input_dim % action_block:
    raise ValueError(
      f"config.json: the action_encoder's input_dim={input_dim} is not a "
      f'multiple of action_block={action_block}; pass the action_block '
      '(frameskip) that the model was trained with.'
    )
  return lewm.LeWM(
    image_size=encoder.get('image_size', 224),
    patch_size=encoder.get('patch_size', 16),
    encoder=preset,
    action_dim=input_dim // action_block,
    action_block=action_block,
    history=predictor.get('num_frames'),
    latent_dim=width,
    projector_dim=projector.get('hidden_dim'),
    projector_norm=projector_norm,
    smoothed_dim=actions.get('smoothed_dim', _SMOOTHED_DIM),
    predictor_dim=width,
    predictor_depth=predictor.get('depth'),
    predictor_heads=predictor.get('heads'),
    predictor_head_dim=predictor.get('dim_head', _HEAD_DIM),
    predictor_mlp_dim=predictor.get('mlp_dim'),
    dropout=float(predictor.get('dropout', 0.0)),
  )


class _Section:
  """One module of a `config.json`."""

  def __init__(self, config: Mapping[str, Any], name: str):
    if not isinstance(config.get(name), dict):
      raise ValueError(
        f'config.json: no {name!r}, the family has all of '
        f'{", ".join(_MODULES)}.'
      )
    self._fields, self._name = config[name], name

  def get(self, key: str, default: Any = None) -> Any:
    """The value of `key`, which must be there if it has no default."""
    value = self._fields.get(key, default)
    if value is None:
      raise ValueError(f'config.json: {self._name!r} has no {key!r}.')
    return value

  def only(self, *known: str) -> None:
    """Refuses what the family cannot be told."""
    if unknown := sorted(self._fields.keys() - {*known, '_target_'}):
      raise ValueError(
        f'config.json: {self._name!r} sets {unknown[0]!r}, which the family '
        f'has no field for; it knows {", ".join(known)}.'
      )

  def expect(self, key: str, value: Any, why: str) -> None:
    """Refuses another value than `value`, if there is any."""
    if self._fields.get(key, value) != value:
      raise ValueError(
        f'config.json: {self._name!r} has {key}={self._fields[key]!r}, the '
        f'family needs {value!r} there, {why}.'
      )
