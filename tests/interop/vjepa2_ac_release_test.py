"""The released V-JEPA 2-AC: one file, two encoders, a predictor."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm import families, interop, units, world_model
from jepa_wm.interop import state_dicts
from jepa_wm.interop import vjepa2_ac as layout
from jepa_wm.training import frozen_encoders

# What a released file does not tell are the published 256 pixels and windows.
ENCODER = families.VJEPA(
  encoder_dim=64, encoder_depth=1, encoder_heads=1, encoder_mlp_dim=96
)
FAMILY = families.VJEPA2AC(
  encoder=ENCODER,
  predictor_dim=128,
  predictor_depth=2,
  predictor_heads=2,
  predictor_mlp_dim=160,
)


def draw(shapes, seed=0):
  rng = np.random.default_rng(seed)
  return jax.tree.map(
    lambda x: rng.normal(0, 0.1, x.shape).astype(np.float32), shapes
  )


@pytest.fixture(scope='module')
def variables():
  return draw(jax.eval_shape(FAMILY.init, jax.random.key(0)))


@pytest.fixture(scope='module')
def content(variables):
  """The released file's dicts; its encoders differ here."""
  other = {**variables, 'frozen': draw(variables['frozen'], seed=1)}
  parts = {'encoder': {}, 'target_encoder': {}, 'predictor': {}}
  for part, held in (('target_encoder', variables), ('encoder', other)):
    for name, x in layout.to_source(FAMILY, held, part=part).items():
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
  model = world_model.WorldModel.from_pretrained(path)
  assert model.family == FAMILY
  assert model.record['parts'] == ['target_encoder', 'predictor']
  jax.tree.map(np.testing.assert_array_equal, model.params, variables)
  action = jnp.arange(7.0).reshape(1, 7)
  np.testing.assert_array_equal(model.normalize_actions(action), action[0])
  with pytest.raises(ValueError, match='leave action_statistics out'):
    world_model.WorldModel.from_pretrained(
      path, action_statistics=model.action_statistics
    )


def test_the_other_encoder_can_be_asked_for(path, variables):
  model = world_model.WorldModel.from_pretrained(path, encoder='encoder')
  other = draw(variables['frozen'], seed=1)
  jax.tree.map(np.testing.assert_array_equal, model.params['frozen'], other)
  with pytest.raises(ValueError, match=r"no 'ema', expected one of target_enc"):
    world_model.WorldModel.from_pretrained(path, encoder='ema')


def test_its_encoder_sees_each_frame_as_a_clip(path, variables):
  model = world_model.WorldModel.from_pretrained(path)
  rng = np.random.default_rng(2)
  pixels = rng.integers(0, 256, (1, 256, 256, 3), np.uint8)
  latents = jax.jit(model.encode)(model.params, jnp.asarray(pixels))
  clip = units.normalize_pixels(jnp.asarray(pixels[:, None]))
  tokens, _ = jax.jit(ENCODER.encoder().apply)(
    variables['frozen'], jnp.repeat(clip, 2, axis=1)
  )
  tokens = np.asarray(tokens, np.float64)
  expected = (tokens - tokens.mean(-1, keepdims=True)) / np.sqrt(
    tokens.var(-1, keepdims=True) + 1e-5
  )
  np.testing.assert_allclose(
    latents.reshape(1, 256, 64), expected, rtol=0, atol=1e-5
  )


def test_it_can_be_written_back(variables, tmp_path):
  path = tmp_path / 'ac.safetensors'
  state_dicts.write_safetensors(path, layout.to_source(FAMILY, variables))
  found = interop.read(path)
  assert found.family == FAMILY
  # One encoder was written, so that one is taken.
  assert found.record['parts'] == ['encoder', 'predictor']
  jax.tree.map(np.testing.assert_array_equal, found.variables, variables)


def test_its_encoder_can_be_frozen_elsewhere(path, variables):
  encoder, frozen = frozen_encoders.read(path, dtype='bfloat16')
  assert encoder.dtype == 'bfloat16' and encoder.encoder_dim == 64
  jax.tree.map(np.testing.assert_array_equal, frozen, variables['frozen'])


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
  encoder = families.LeWM(
    image_size=64,
    encoder='conv',
    encoder_channels=(8,),
    encoder_strides=(16,),
    encoder_blocks=(0,),
  )
  family = families.VJEPA2AC(image_size=64, encoder=encoder)
  with pytest.raises(ValueError, match='has a V-JEPA for a frozen encoder'):
    layout.to_source(family, {})
