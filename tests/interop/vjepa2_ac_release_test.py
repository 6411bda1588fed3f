"""The released V-JEPA 2-AC: one file, two encoders, a predictor."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm import exports, interop, units
from jepa_wm.interop import state_dicts
from jepa_wm.interop import vjepa2_ac as layout
from jepa_wm.models import vjepa2_ac
from jepa_wm.networks import conv, robot, tokens, video_vit
from jepa_wm.recipes import frozen_encoders

# What a released file does not tell are the published 256 pixels and windows.
VIDEO = video_vit.VideoViTConfig(width=64, depth=1, num_heads=1, mlp_dim=96)
MODEL = vjepa2_ac.VJEPA2AC(
  encoder=tokens.TokensConfig(encoder=VIDEO, norm='token', proprio_dim=7),
  predictor=robot.BlockCausalConfig(
    width=128, depth=2, num_heads=2, mlp_dim=160
  ),
).build()


def draw(shapes, seed=0):
  rng = np.random.default_rng(seed)
  return jax.tree.map(
    lambda x: rng.normal(0, 0.1, x.shape).astype(np.float32), shapes
  )


def another(variables):
  """The same but for the encoder."""
  encoder = draw(variables['params']['encoder'], seed=1)
  return {**variables, 'params': {**variables['params'], 'encoder': encoder}}


@pytest.fixture(scope='module')
def variables():
  return {**draw(exports.inference_shapes(MODEL)), 'batch_stats': {}}


@pytest.fixture(scope='module')
def content(variables):
  """The released file's dicts; its encoders differ here."""
  other = another(variables)
  parts = {'encoder': {}, 'target_encoder': {}, 'predictor': {}}
  for part, held in (('target_encoder', variables), ('encoder', other)):
    for name, x in layout.to_source(MODEL, held, part=part).items():
      network, _, name = name.partition('.')
      parts[network][f'module.backbone.{name}'] = x
  # A table lingers in some files, of no use to rotary positions.
  parts['encoder']['module.backbone.pos_embed'] = np.zeros((1, 5, 64), 'f4')
  state = {'state': {0: {'step': 3.0, 'exp_avg': np.zeros(3, 'f4')}}}
  rest = {'opt': state, 'scaler': None, 'epoch': 315, 'loss': 0.5, 'lr': 0.0}
  return {**parts, **rest}


@pytest.fixture(scope='module')
def path(content, write_torch, tmp_path_factory):
  folder = tmp_path_factory.mktemp('release')
  return write_torch(folder / 'vjepa2-ac-vitg.pt', content)


def test_the_released_file_is_a_model(path, variables):
  # No warning: its actions are in their own units.
  model = exports.WorldModel.from_pretrained(path)
  assert model.model == MODEL
  assert model.record['parts'] == ['target_encoder', 'predictor']
  jax.tree.map(np.testing.assert_array_equal, model.params, variables)
  action = jnp.arange(7.0).reshape(1, 7)
  np.testing.assert_array_equal(model.normalize_actions(action), action[0])
  with pytest.raises(ValueError, match='leave action_statistics out'):
    exports.WorldModel.from_pretrained(path, action_statistics=model.units)


def test_the_other_encoder_can_be_asked_for(path, variables):
  model = exports.WorldModel.from_pretrained(path, encoder='encoder')
  other = another(variables)
  jax.tree.map(np.testing.assert_array_equal, model.params, other)
  with pytest.raises(ValueError, match=r"no 'ema', expected one of target_enc"):
    exports.WorldModel.from_pretrained(path, encoder='ema')


def test_its_encoder_sees_each_frame_as_a_clip(path, variables):
  model = exports.WorldModel.from_pretrained(path)
  rng = np.random.default_rng(2)
  pixels = rng.integers(0, 256, (1, 256, 256, 3), np.uint8)
  latents = jax.jit(model.encode)(model.params, {'pixels': jnp.asarray(pixels)})
  clip = units.normalize_pixels(jnp.asarray(pixels[:, None]))
  frames, _ = jax.jit(VIDEO.build(jnp.float32).apply)(
    {'params': variables['params']['encoder']['encoder']},
    jnp.repeat(clip, 2, axis=1),
  )
  frames = np.asarray(frames, np.float64)
  expected = (frames - frames.mean(-1, keepdims=True)) / np.sqrt(
    frames.var(-1, keepdims=True) + 1e-5
  )
  np.testing.assert_allclose(
    latents.reshape(1, 256, 64), expected, rtol=0, atol=1e-5
  )


def test_it_can_be_written_back(variables, tmp_path):
  path = tmp_path / 'ac.safetensors'
  state_dicts.write_safetensors(path, layout.to_source(MODEL, variables))
  found = interop.read(path)
  assert found.model == MODEL
  # One encoder was written, so that one is taken.
  assert found.record['parts'] == ['encoder', 'predictor']
  jax.tree.map(np.testing.assert_array_equal, found.variables, variables)


@pytest.mark.slow
def test_its_encoder_can_be_frozen_elsewhere(path, variables):
  frozen = frozen_encoders.adopt(MODEL, path)
  jax.tree.map(
    np.testing.assert_array_equal,
    frozen['params']['encoder'],
    variables['params']['encoder'],
  )


def test_misfits_are_named(content, write_torch, tmp_path):
  path = tmp_path / 'x.pt'

  def changed(part, **tensors):
    renamed = {f'module.backbone.{k}': x for k, x in tensors.items()}
    write_torch(path, {**content, part: {**content[part], **renamed}})

  for part, tensors, message in (
    (
      'target_encoder',
      {'blocks.0.mlp.fc2.weight': np.zeros((64, 7), 'f4')},
      r"encoder.blocks.0.mlp.fc2.weight' is \[64, 7\], expected \[64, 96\]",
    ),
    (
      'predictor',
      {
        'predictor_blocks.1.norm1.bias': np.zeros(9, 'f4'),
        'predictor_proj.bias': np.zeros(3, 'f4'),
      },
      r"1.norm1.bias' is \[9\], expected \[128\] .* and 1 other differ",
    ),
    (
      'predictor',
      {'predictor_embed.weight': np.zeros((128, 32), 'f4')},
      r'is \[128, 32\], expected \[128, 64\] by the width of .target_enc',
    ),
  ):
    changed(part, **tensors)
    with pytest.raises(ValueError, match=message):
      interop.read(path)
  write_torch(path, {'predictor': content['predictor']})
  with pytest.raises(ValueError, match=r'holds no encoder.*read_vjepa2_ac'):
    interop.read(path)
  del (held := dict(content['predictor']))['module.backbone.state_encoder.bias']
  write_torch(path, {**content, 'predictor': held})
  with pytest.raises(ValueError, match=r"state_encoder.bias' is missing, exp"):
    interop.read(path)
  del held['module.backbone.state_encoder.weight']
  write_torch(path, {**content, 'predictor': held})
  with pytest.raises(ValueError, match=r"no tensor 'predictor.state_encoder"):
    interop.read(path)


def test_a_lewm_is_not_written_so():
  encoder = tokens.TokensConfig(encoder=conv.ConvConfig(), proprio_dim=7)
  model = vjepa2_ac.VJEPA2AC(encoder=encoder).build()
  with pytest.raises(ValueError, match='has a V-JEPA for a frozen encoder'):
    layout.to_source(model, {})
