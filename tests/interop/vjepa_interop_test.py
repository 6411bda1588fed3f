"""V-JEPA's and I-JEPA's published names, read and written."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm import exports, interop, models
from jepa_wm.interop import ijepa, masked_layouts, state_dicts, vjepa
from jepa_wm.interop.state_dicts import Published
from jepa_wm.networks import sincos

ENCODER = {'width': 64, 'depth': 2, 'num_heads': 1, 'mlp_dim': 256}
PREDICTOR = {'width': 24, 'depth': 1, 'mlp_dim': 96}
SECOND = models.from_config(
  {
    'name': 'vjepa',
    'encoder': ENCODER,
    'predictor': {**PREDICTOR, 'num_heads': 2, 'num_mask_tokens': 3},
  }
)
FIRST = models.from_config(
  {
    'name': 'vjepa',
    'encoder': {
      **ENCODER,
      'image_size': 224,
      'positions': {'name': 'sincos'},
      'init_style': 'plain',
    },
    'predictor': {
      **PREDICTOR,
      'num_heads': 1,
      'num_mask_tokens': 2,
      'mask_token': 'per_kind',
    },
    'target': {
      'momentum': 0.998,
      'momentum_end': 1.0,
      'momentum_steps': 112_500,
    },
  }
)
IMAGES = models.from_config(
  {
    'name': 'ijepa',
    'encoder': {**ENCODER, 'width': 192, 'num_heads': 3, 'image_size': 112},
    'predictor': {**PREDICTOR, 'num_heads': 3},
  }
)
MODELS = {'vjepa2': SECOND, 'vjepa1': FIRST, 'ijepa': IMAGES}


def change(model, **settings):
  """The model of other settings; those of predictor by a dict."""
  if 'predictor' in settings:
    settings['predictor'] = dataclasses.replace(
      model.predictor, **settings['predictor']
    )
  return dataclasses.replace(model.config, **settings).build()


def draw(model):
  rng = np.random.default_rng(0)
  return jax.tree.map(
    lambda x: jnp.asarray(rng.normal(size=x.shape), jnp.float32),
    exports.inference_shapes(model),
  )


def equal(a, b):
  a, b = (dict(jax.tree_util.tree_leaves_with_path(x)) for x in (a, b))
  return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize('name', ['vjepa1', 'ijepa'])
def test_a_released_file_tells_what_it_is(name, tmp_path):
  model, variables = MODELS[name], draw(MODELS[name])
  interop.write_masked(tmp_path, model, variables, layout='facebook')
  assert not (tmp_path / 'config.json').exists()
  found = exports.WorldModel.from_pretrained(tmp_path)
  assert found.model == model
  assert equal(found.params['params'], variables['params'])
  parts = {'target_encoder', 'encoder', 'predictor'}
  assert set(found.record['parts']) == parts
  # Of two encoders, the one that is asked for encodes.
  found = exports.WorldModel.from_pretrained(tmp_path, encoder='encoder')
  assert found.model.inference_encoder == 'encoder'
  with pytest.raises(ValueError, match=r"inference_encoder must .* got 'ema'"):
    interop.read(tmp_path, encoder='ema')


def test_a_released_v_jepa_2_has_the_heads_of_the_release():
  # Width 64 over one head; the predictor's twelve share 24 channels too few
  # for a turn, so its sizes are the published ones here.
  model = change(
    SECOND, predictor={'width': 384, 'mlp_dim': 1536, 'num_heads': 12}
  )
  tensors = masked_layouts.to_source(model, draw(model))
  # A table may linger; a model with rotary positions has no use for it.
  tensors['encoder.pos_embed'] = np.zeros((1, 7, 64), np.float32)
  found, variables, _ = vjepa.load(Published(None, tensors))
  assert found == model
  assert equal(variables['params'], draw(model)['params'])


@pytest.mark.parametrize(
  'name', ['vjepa2', pytest.param('ijepa', marks=pytest.mark.slow)]
)
def test_the_hub_s_layout_keeps_one_encoder(name, tmp_path):
  model, variables = MODELS[name], draw(MODELS[name])
  interop.write_masked(tmp_path, model, variables)
  found = exports.WorldModel.from_pretrained(tmp_path)
  target = variables['params']['target_encoder']
  assert equal(found.params['params']['target_encoder'], target)
  assert equal(found.params['params']['encoder'], target)
  if name == 'vjepa2':
    assert found.model == model
    predictor = variables['params']['predictor']
    assert equal(found.params['params']['predictor'], predictor)
  else:
    assert found.record['parts'] == ['encoder']
    assert found.model.latent_dim == 192
  online = change(model, inference_encoder='encoder')
  interop.write_masked(tmp_path, online, variables)
  found = exports.WorldModel.from_pretrained(tmp_path)
  assert equal(
    found.params['params']['target_encoder'], variables['params']['encoder']
  )


@pytest.mark.slow
def test_both_namings_of_transformers_are_one_model():
  variables = draw(IMAGES)
  new, old = (
    masked_layouts.to_source(IMAGES, variables, layout=layout)
    for layout in ('transformers', 'transformers_4')
  )
  assert 'layers.1.attention.q_proj.weight' in new
  assert 'encoder.layer.1.attention.attention.query.weight' in old
  config = ijepa.to_config(IMAGES.config)
  first, second = (ijepa.load(Published(config, x))[1] for x in (new, old))
  assert equal(first['params'], second['params'])


def test_queries_keys_and_values_lie_in_this_order():
  variables = draw(SECOND)
  tensors = masked_layouts.to_source(SECOND, variables)
  attention = variables['params']['encoder']['block_1']['attention']
  for i, part in enumerate(('query', 'key', 'value')):
    rows = slice(64 * i, 64 * (i + 1))
    np.testing.assert_array_equal(
      tensors['encoder.blocks.1.attn.qkv.weight'][rows],
      attention[part]['kernel'].T,
    )
    np.testing.assert_array_equal(
      tensors['encoder.blocks.1.attn.qkv.bias'][rows], attention[part]['bias']
    )


def test_wrappers_of_training_are_taken_off():
  # Of torch_files' tests: here only what is done with the containers.
  inner = {'module.backbone.norm.weight': np.ones(3)}
  found = state_dicts._parts_in_one(
    {
      'encoder': inner,
      'target_encoder': inner,
      'opt': {'state': {}},
      'epoch': 3,
    }
  )
  assert set(found) == {'encoder.norm.weight', 'target_encoder.norm.weight'}
  plain = {'encoder.norm.weight': np.ones(3)}
  assert state_dicts._parts_in_one(plain) is plain


def test_other_positions_are_refused():
  tensors = masked_layouts.to_source(IMAGES, draw(IMAGES))
  rows_first = sincos.table(IMAGES.grid, IMAGES.latent_dim)[None]
  for name in ('encoder.pos_embed', 'target_encoder.pos_embed'):
    tensors[name] = rows_first
  with pytest.raises(ValueError, match=r'encoder.pos_embed.*not the fixed'):
    ijepa.load(Published(None, tensors))


def test_bfloat16_positions_are_taken():
  tensors = masked_layouts.to_source(IMAGES, draw(IMAGES))
  for name in list(tensors):
    if name.endswith('pos_embed'):
      tensors[name] = np.asarray(jnp.asarray(tensors[name], jnp.bfloat16))
  assert ijepa.load(Published(None, tensors))[0] == IMAGES


def test_the_first_tensor_that_differs_is_named():
  config = {**vjepa.to_config(SECOND.config), 'hidden_size': 128}
  tensors = masked_layouts.to_source(
    SECOND, draw(SECOND), layout='transformers'
  )
  with pytest.raises(
    ValueError,
    match=r"here: the tensor 'encoder.embeddings.*' is \[64\], expected "
    r'\[128\] .* and \d+ others differ',
  ):
    vjepa.load(Published(config, tensors, where='here'))
  del tensors['predictor.layer.0.mlp.fc2.bias']
  with pytest.raises(
    ValueError, match=r"fc2.bias' is missing, expected \[24\]"
  ):
    vjepa.load(Published(vjepa.to_config(SECOND.config), tensors))


def test_doors(tmp_path):
  variables = draw(FIRST)
  with pytest.raises(ValueError, match=r"'sincos'.*take 'facebook'"):
    interop.write_masked(tmp_path, FIRST, variables)
  with pytest.raises(ValueError, match='layout must be one of'):
    interop.write_masked(tmp_path, SECOND, draw(SECOND), layout='timm')
  with pytest.raises(ValueError, match="vjepa, ijepa, got 'lewm'"):
    interop.write_masked(tmp_path, models.from_config({'name': 'lewm'}), {})
  config = {**vjepa.to_config(SECOND.config), 'hidden_act': 'relu'}
  (tmp_path / 'config.json').write_text(json.dumps(config))
  state_dicts.write_safetensors(
    tmp_path / 'model.safetensors', {'x': np.zeros(1)}
  )
  with pytest.raises(ValueError, match="hidden_act is 'relu'"):
    exports.WorldModel.from_pretrained(tmp_path)
