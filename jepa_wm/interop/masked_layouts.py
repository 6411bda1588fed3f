"""I-JEPA's and V-JEPA's tensors by their published names, read and written.

Three key layouts are in use:

  'facebook': the released `.pt` files; queries, keys and values in one matrix,
    the online encoder and its moving average side by side;
  'transformers': what transformers 5 saves; one encoder, a matrix each;
  'transformers_4': what transformers 4 saved, for I-JEPA alone.

Fixed tables of positions are stored by some and computed by us: a table that is
not the one the model computes is refused.

Source: facebookresearch/vjepa2 (c2963a4), jepa (51c59d5), ijepa (52c1ae9);
transformers 5.23.0.
"""

import functools
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm import fields
from jepa_wm.interop import layouts
from jepa_wm.models import masked
from jepa_wm.networks import video_vit
from jepa_wm.types import Variables

LAYOUTS = ('facebook', 'transformers', 'transformers_4')

_MASK_TOKENS = {
  'facebook': 'predictor.mask_tokens',
  'transformers': 'predictor.embeddings.mask_tokens',
}
# Bfloat16 keeps numbers up to 1 to this.
_TABLE_TOLERANCE = 5e-3


def layout_of(tensors: Mapping[str, np.ndarray]) -> str:
  """The name of the layout, one of `LAYOUTS`, that a state dict is in."""
  if any(name.startswith('encoder.layer.') for name in tensors):
    vit = any('.attention.attention.' in name for name in tensors)
    return 'transformers_4' if vit else 'transformers'
  if 'embeddings.patch_embeddings.projection.weight' in tensors:
    return 'transformers'
  return 'facebook'


def load(
  model: masked.Masked,
  tensors: Mapping[str, np.ndarray],
  *,
  where: str = 'tensors',
) -> tuple[Variables, tuple[str, ...]]:
  """A published state dict as variables of `model`, float32.

  One encoder stands for both if only one was published. A predictor that was
  not published starts at random, as does one in training.

  Args:
    model: of the sizes that the tensors have.
    tensors: in any layout.
    where: they are from, for messages.

  Returns:
    What `model.for_inference` gives, and the parts that the tensors hold.

  Raises:
    ValueError: tensors that do not fit the model (the message names the first
      that differs), or another table of positions.
  """
  name = layout_of(tensors)
  tables = _tables(model.encoder, name, model.predictor.width)
  tensors = _set_tables_aside(tables, model.encoder, tensors, name, where)
  tensors = _combined(tensors, name)
  ours = jax.eval_shape(
    lambda rng_key: model.for_inference(model.init(rng_key)), jax.random.key(0)
  )
  parts = _parts(tensors, name)
  layout = _layout(name, parts, model.encoder.tubelet_size, model.config.name)
  layout.check(
    tensors,
    {'params': {part: ours['params'][part] for part in parts}},
    where=where,
  )
  # A copy: the tensors may be views of a file.
  params = jax.tree.map(
    lambda x: jnp.array(x, jnp.float32), layout.to_variables(tensors)['params']
  )
  for part, other in (masked.ENCODERS, masked.ENCODERS[::-1]):
    if part not in params:
      params[part] = jax.tree.map(jnp.copy, params[other])
  if 'predictor' not in params:
    fresh = jax.jit(model.init)(jax.random.key(0))
    params['predictor'] = fresh['params']['predictor']
  return {'params': params, 'batch_stats': {}}, parts


def load_encoder(
  encoder: video_vit.VideoViTConfig,
  tensors: Mapping[str, np.ndarray],
  *,
  part: str,
  where: str = 'tensors',
) -> Variables:
  """One encoder out of a state dict in layout 'facebook', float32.

  Args:
    encoder: settings, of the sizes that the tensors have.
    tensors: may be of more networks.
    part: one of `masked.ENCODERS`.
    where: they are from, for messages.

  Returns:
    The encoder's variables, `{'params': ...}`.

  Raises:
    ValueError: tensors that do not fit the model (the message names the first
      that differs), or another table of positions.
  """
  held = {k: x for k, x in tensors.items() if k.startswith(f'{part}.')}
  tables = _tables(encoder, 'facebook')
  held = _set_tables_aside(tables, encoder, held, 'facebook', where)
  layout = _layout('facebook', (part,), encoder.tubelet_size, 'vjepa')
  size = encoder.image_size
  pixels = jnp.zeros((1, encoder.num_frames, size, size, 3))
  expected = jax.eval_shape(
    encoder.build(jnp.float32).init, jax.random.key(0), pixels
  )['params']
  layout.check(held, {'params': {part: expected}}, where=where)
  params = layout.to_variables(held)['params'][part]
  # A copy: the tensors may be views of a file.
  return {'params': jax.tree.map(lambda x: jnp.array(x, jnp.float32), params)}


def encoder_to_source(
  encoder: video_vit.VideoViTConfig, variables: Variables, *, part: str
) -> dict[str, np.ndarray]:
  """Inverts `load_encoder`; tables of positions are not among the tensors.

  Raises:
    ValueError: variables of another network.
  """
  layout = _layout('facebook', (part,), encoder.tubelet_size, 'vjepa')
  return layout.to_tensors({'params': {part: variables['params']}})


def to_source(
  model: masked.Masked, variables: Variables, *, layout: str = 'facebook'
) -> dict[str, np.ndarray]:
  """Variables of a model as a state dict in a published layout.

  Args:
    model: what they are of.
    variables: as `model.init` or `model.for_inference` gives them.
    layout: one of `LAYOUTS`. Those of transformers hold one encoder, that which
      `inference_encoder` names.

  Raises:
    ValueError: no such layout, or variables that it has no place for.
  """
  fields.check_choice('layout', layout, LAYOUTS)
  if 'target' in variables:
    variables = model.for_inference(variables)
  name, encoder = model.config.name, model.encoder
  params = dict(variables['params'])
  if missing := {*masked.ENCODERS, 'predictor'} - params.keys():
    raise ValueError(
      f'The variables hold {sorted(params)} and no {min(missing)!r}; give '
      'those of model.init or model.for_inference.'
    )
  if layout != 'facebook':
    params['encoder'] = params[model.inference_encoder]
    del params['target_encoder']
    if name == 'ijepa':
      # Published without.
      del params['predictor']
    elif encoder.positions.name == 'sincos' or layout == 'transformers_4':
      raise ValueError(
        'transformers has no V-JEPA with encoder.positions='
        f"{encoder.positions.name!r} in layout {layout!r}; take 'facebook'."
      )
  tensors = _layout(
    layout, tuple(params), encoder.tubelet_size, name
  ).to_tensors({'params': params})
  held = _tables(encoder, layout, model.predictor.width)
  tables = {
    name: table[None].copy()
    for name, table in held.items()
    if name in ('embeddings.position_embeddings',)
    or name.split('.')[0] in params
  }
  return {**_split(tensors, model.config.name, layout), **tables}


def _parts(tensors: Mapping[str, np.ndarray], layout: str) -> tuple[str, ...]:
  """Which networks the tensors are of."""
  if layout != 'facebook':
    with_predictor = any(name.startswith('predictor.') for name in tensors)
    return ('encoder', 'predictor') if with_predictor else ('encoder',)
  first = {name.split('.')[0] for name in tensors}
  return tuple(x for x in (*masked.ENCODERS, 'predictor') if x in first)


def _block(theirs: str, ours: str, layout: str) -> list[layouts.Entry]:
  """A block; only these names differ between the layouts."""
  qkv = [f'{ours}/attention/{x}' for x in ('query', 'key', 'value')]
  norms, mlp = ('norm1', 'norm2'), ('mlp.fc1', 'mlp.fc2')
  if layout == 'facebook':
    entries = layouts.stacked_linear(f'{theirs}.attn.qkv', qkv, bias=True)
    out = 'attn.proj'
  elif layout == 'vjepa':
    entries = _each(theirs, qkv, 'attention.{}', ('query', 'key', 'value'))
    out = 'attention.proj'
  elif layout == 'ijepa':
    entries = _each(theirs, qkv, 'attention.{}', ('q_proj', 'k_proj', 'v_proj'))
    out, norms = 'attention.o_proj', ('layernorm_before', 'layernorm_after')
  else:
    entries = _each(
      theirs, qkv, 'attention.attention.{}', ('query', 'key', 'value')
    )
    out, norms = (
      'attention.output.dense',
      ('layernorm_before', 'layernorm_after'),
    )
    mlp = ('intermediate.dense', 'output.dense')
  return [
    *entries,
    *layouts.linear(f'{theirs}.{out}', f'{ours}/attention/out'),
    *layouts.linear(f'{theirs}.{mlp[0]}', f'{ours}/mlp/hidden'),
    *layouts.linear(f'{theirs}.{mlp[1]}', f'{ours}/mlp/out'),
    *layouts.norm(f'{theirs}.{norms[0]}', f'{ours}/attention_norm'),
    *layouts.norm(f'{theirs}.{norms[1]}', f'{ours}/mlp_norm'),
  ]


def _each(
  theirs: str, ours: Sequence[str], template: str, names: Sequence[str]
) -> list[layouts.Entry]:
  return [
    entry
    for name, path in zip(names, ours)
    for entry in layouts.linear(f'{theirs}.{template.format(name)}', path)
  ]


@functools.cache
def _layout(
  name: str, parts: tuple[str, ...], tubelet_size: int, system: str
) -> layouts.Layout:
  """The table of a layout, of these networks."""
  entries: list[layouts.Entry] = []

  def embed(theirs, part):
    ours = f'{part}/patches/projection'
    if system == 'ijepa':
      return layouts.patches(theirs, ours)
    return layouts.tubelets(theirs, ours, tubelet_size=tubelet_size)

  if name == 'facebook':
    for part in parts:
      if part == 'predictor':
        entries += layouts.linear('predictor.predictor_embed', f'{part}/input')
        entries += layouts.linear('predictor.predictor_proj', f'{part}/output')
        entries += layouts.norm('predictor.predictor_norm', f'{part}/norm')
        entries += _block(
          'predictor.predictor_blocks.{}', f'{part}/block_{{}}', name
        )
      else:
        entries += embed(f'{part}.patch_embed.proj', part)
        entries += layouts.norm(f'{part}.norm', f'{part}/norm')
        entries += _block(f'{part}.blocks.{{}}', f'{part}/block_{{}}', name)
  elif system == 'ijepa':
    entries += embed('embeddings.patch_embeddings.projection', 'encoder')
    entries += layouts.norm('layernorm', 'encoder/norm')
    block = 'layers.{}' if name == 'transformers' else 'encoder.layer.{}'
    style = 'ijepa' if name == 'transformers' else name
    entries += _block(block, 'encoder/block_{}', style)
  else:
    for part in parts:
      if part == 'predictor':
        entries += layouts.linear(
          'predictor.embeddings.predictor_embeddings', f'{part}/input'
        )
        entries += layouts.linear('predictor.proj', f'{part}/output')
      else:
        entries += embed('encoder.embeddings.patch_embeddings.proj', part)
      entries += layouts.norm(f'{part}.layernorm', f'{part}/norm')
      entries += _block(f'{part}.layer.{{}}', f'{part}/block_{{}}', 'vjepa')
  if 'predictor' in parts:
    entries += layouts.table(
      _MASK_TOKENS[name], 'predictor/mask_tokens', num_leading=0
    )
  return layouts.Layout(entries, ignored=['embeddings.mask_token'])


def _combined(
  tensors: Mapping[str, np.ndarray], layout: str
) -> dict[str, np.ndarray]:
  """All mask tokens in one tensor `[n, width]`, however they came."""
  left = dict(tensors)
  name = _MASK_TOKENS.get(layout, '')
  if layout == 'facebook':
    single = left.pop('predictor.mask_token', None)
    parts = [] if single is None else [single]
    while f'{name}.{len(parts)}' in left:
      parts.append(left.pop(f'{name}.{len(parts)}'))
    if parts:
      left[name] = np.stack(parts)
  if name in left:
    left[name] = left[name].reshape(-1, left[name].shape[-1])
  return left


def _split(
  tensors: dict[str, np.ndarray], system: str, layout: str
) -> dict[str, np.ndarray]:
  """Inverts `_combined`."""
  name = _MASK_TOKENS.get(layout, '')
  if name not in tensors:
    return tensors
  tokens = tensors.pop(name)
  if layout != 'facebook':
    return {**tensors, name: tokens[:, None, None]}
  if system == 'ijepa':
    return {**tensors, 'predictor.mask_token': tokens[None]}
  return {
    **tensors,
    **{f'{name}.{i}': token[None, None] for i, token in enumerate(tokens)},
  }


def _tables(
  encoder: video_vit.VideoViTConfig,
  layout: str,
  predictor_width: int | None = None,
) -> dict[str, np.ndarray]:
  """The tables of positions that the layout keeps, as the model has them."""
  grid = encoder.grid
  table = encoder.positions.table(grid, encoder.width, grid)
  if table is None:
    return {}
  if layout != 'facebook':
    return {'embeddings.position_embeddings': np.asarray(table)}
  tables = {f'{part}.pos_embed': np.asarray(table) for part in masked.ENCODERS}
  if predictor_width is not None:
    table = encoder.positions.table(grid, predictor_width, grid)
    tables['predictor.predictor_pos_embed'] = np.asarray(table)
  return tables


def _set_tables_aside(
  tables: Mapping[str, np.ndarray],
  encoder: video_vit.VideoViTConfig,
  tensors: Mapping[str, np.ndarray],
  layout: str,
  where: str,
) -> dict[str, np.ndarray]:
  """The tensors without tables, which are those that the model computes."""
  left = dict(tensors)
  for name in (*tables, *_tables_without_use(layout)):
    table = left.pop(name, None)
    if table is None or name not in tables:
      continue
    expected = tables[name][None]
    if table.shape != expected.shape:
      raise ValueError(
        f'{where}: the tensor {name!r} is {list(table.shape)}, expected '
        f'{list(expected.shape)} for image_size={encoder.image_size} and '
        f'num_frames={encoder.num_frames}.'
      )
    error = np.abs(np.asarray(table, np.float32) - expected).max()
    if not error <= _TABLE_TOLERANCE:
      raise ValueError(
        f'{where}: the positions in {name!r} are not the fixed sines and '
        f'cosines that the model computes (off by {error:.2g}); a model with '
        'learned positions cannot be read.'
      )
  return left


def _tables_without_use(layout: str) -> tuple[str, ...]:
  """Tables that lie in some files of a model with rotary positions."""
  if layout != 'facebook':
    return ()
  return (
    'encoder.pos_embed',
    'target_encoder.pos_embed',
    'predictor.predictor_pos_embed',
  )
