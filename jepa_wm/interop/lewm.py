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

from jepa_wm import fields
from jepa_wm.interop import config_sections, layouts, state_dicts
from jepa_wm.models import jepa, lewm
from jepa_wm.networks import action_encoders, causal, projectors, sizes, vit
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


def matches_tensors(tensors: Mapping[str, np.ndarray]) -> bool:
  """False: a state dict without a config does not say how it is to be read."""
  del tensors
  return False


def layout_of(tensors: Mapping[str, np.ndarray]) -> str:
  """The name of the layout, one of `LAYOUTS`, that a state dict is in."""
  old = any(name.startswith('encoder.encoder.') for name in tensors)
  return 'transformers_4' if old else 'transformers_5'


def load(
  published: state_dicts.Published,
) -> tuple[jepa.Jepa, Params, dict[str, Any]]:
  """A published LeWM as our model and its variables.

  Args:
    published: in either layout; without an `encoder`, there is one alone.

  Returns:
    The model, its variables (float32) and what a record should say.

  Raises:
    ValueError: a config of a block that the model has not, or weights that
      do not fit it (the message names the first tensor that differs).
  """
  config, tensors, action_block, encoder, where = published
  if encoder is not None:
    raise ValueError(
      f"encoder={encoder!r} was asked for, but a 'lewm' has one encoder alone; "
      'leave it out.'
    )
  names = {f'{part}.net.1.running_var' for part in _PROJECTORS}
  if len(names & tensors.keys()) == 1:
    raise ValueError(
      f'{where}: only one of projector and pred_proj has batch norm; the '
      'model has it in both or in none.'
    )
  model = _settings(
    config or {},
    action_block=(
      lewm.LeWM.action_block if action_block is None else action_block
    ),
    projector_norm='batch' if names <= tensors.keys() else 'none',
  ).build()
  name = layout_of(tensors)
  shapes = jax.eval_shape(model.init, jax.random.key(0))
  LAYOUTS[name].check(tensors, shapes, where=where)
  variables = from_source(tensors)
  return model, variables, {'source': NAME, 'key_layout': name}


def from_source(tensors: Mapping[str, np.ndarray]) -> Params:
  """A state dict, in either layout, as variables of the model, float32.

  Raises:
    ValueError: a tensor that the layout does not have.
  """
  variables = LAYOUTS[layout_of(tensors)].to_variables(tensors)
  # A copy: the tensors may be views of a file.
  return jax.tree.map(lambda x: jnp.array(x, jnp.float32), variables)


def to_source(
  variables: Params, *, layout: str = 'transformers_5'
) -> dict[str, np.ndarray]:
  """Variables of the model as the state dict of the published module.

  Args:
    variables: of a LeWM with a ViT encoder.
    layout: one of `LAYOUTS`, by the transformers that is to load it.

  Raises:
    ValueError: no such layout, or variables that the published module has no
      place for.
  """
  fields.check_choice('layout', layout, LAYOUTS)
  return LAYOUTS[layout].to_tensors(variables)


def to_config(config: lewm.LeWM) -> dict[str, Any]:
  """The `config.json` from which stable-worldmodel builds the module.

  Raises:
    ValueError: the model is not built as published.
  """
  parts: dict[str, tuple[Any, Any]] = {
    'encoder': (config.encoder, vit.ViTConfig),
    'projector': (config.projector, projectors.MLPConfig),
    'actions': (config.actions, action_encoders.BottleneckConfig),
    'predictor': (config.predictor, causal.CausalConfig),
  }
  for part, (ours, kind) in parts.items():
    if not isinstance(ours, kind):
      raise ValueError(
        f'The published LeWM has {part}.name={kind.name!r}, this one has '
        f'{part}.name={ours.name!r}.'
      )
  encoder: Any = config.encoder
  projection: Any = config.projector
  actions: Any = config.actions
  predictor: Any = config.predictor
  for name, ours, published in (
    ('encoder.pixel_norm', encoder.pixel_norm, 'imagenet'),
    ('predicts', config.predicts, 'latent'),
    ('predictor.width', predictor.width, config.latent_dim),
    ('actions.features', actions.features, config.latent_dim),
  ):
    if ours != published:
      raise ValueError(
        f'The published LeWM has {name}={published!r} beside latent_dim='
        f'{config.latent_dim}, this one has {name}={ours!r}.'
      )
  width, module = config.latent_dim, 'stable_worldmodel.wm.lewm.module'
  norm = {'_target_': 'torch.nn.BatchNorm1d', '_partial_': True}

  def projector(input_dim):
    return {
      '_target_': f'{module}.MLP',
      'input_dim': input_dim,
      'output_dim': width,
      'hidden_dim': projection.hidden_dim,
      'norm_fn': norm if projection.norm == 'batch' else None,
    }

  return {
    '_target_': _TARGETS[0],
    'encoder': {
      '_target_': 'stable_pretraining.backbone.utils.vit_hf',
      'size': encoder.size,
      'patch_size': encoder.patch_size,
      'image_size': encoder.image_size,
      'pretrained': False,
      'use_mask_token': False,
    },
    'predictor': {
      '_target_': f'{module}.Predictor',
      'num_frames': predictor.history,
      'input_dim': width,
      'hidden_dim': width,
      'output_dim': width,
      'depth': predictor.depth,
      'heads': predictor.num_heads,
      'mlp_dim': predictor.mlp_dim,
      'dim_head': predictor.head_dim,
      'dropout': predictor.dropout,
      'emb_dropout': 0.0,
    },
    'action_encoder': {
      '_target_': f'{module}.Embedder',
      'input_dim': config.action_block * config.action_dim,
      'smoothed_dim': actions.smoothed_dim,
      'emb_dim': width,
      'mlp_scale': _MLP_SCALE,
    },
    'projector': projector(sizes.VIT[encoder.size]['width']),
    'pred_proj': projector(width),
  }


def _settings(
  config: Mapping[str, Any], *, action_block: int, projector_norm: str
) -> lewm.LeWM:
  """The settings of the model that a `config.json` describes."""
  sections = {
    name: config_sections.Section(config, name, _MODULES) for name in _MODULES
  }
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

  size = encoder.get('size', 'tiny')
  if size not in sizes.VIT:
    raise ValueError(
      f"config.json: the encoder's size is {size!r}, the model has "
      f'{", ".join(sizes.VIT)}.'
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
  actions.expect('mlp_scale', _MLP_SCALE, 'the only one the model has')
  input_dim = actions.get('input_dim')
  if action_block < 1 or input_dim % action_block:
    raise ValueError(
      f"config.json: the action_encoder's input_dim={input_dim} is not a "
      f'multiple of action_block={action_block}; pass the action_block '
      '(frameskip) that the model was trained with.'
    )
  return lewm.LeWM(
    action_dim=input_dim // action_block,
    action_block=action_block,
    latent_dim=width,
    encoder=vit.ViTConfig(
      size=size,
      patch_size=encoder.get('patch_size', 16),
      image_size=encoder.get('image_size', 224),
    ),
    projector=projectors.MLPConfig(
      hidden_dim=projector.get('hidden_dim'), norm=projector_norm
    ),
    actions=action_encoders.BottleneckConfig(
      features=width, smoothed_dim=actions.get('smoothed_dim', _SMOOTHED_DIM)
    ),
    predictor=causal.CausalConfig(
      history=predictor.get('num_frames'),
      width=width,
      depth=predictor.get('depth'),
      num_heads=predictor.get('heads'),
      head_dim=predictor.get('dim_head', _HEAD_DIM),
      mlp_dim=predictor.get('mlp_dim'),
      dropout=float(predictor.get('dropout', 0.0)),
    ),
  )
