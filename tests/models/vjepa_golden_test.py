"""V-JEPA 2's encoder, predictor and loss against the published code."""

import golden_files
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm.interop import masked_layouts
from jepa_wm.models import masked_tokens, vjepa
from jepa_wm.networks import masked_predictor, positions, video_vit
from jepa_wm.objectives import hidden_tokens, mask_buckets, mask_settings
from jepa_wm.objectives import terms as terms_lib


def close(actual, expected, tolerance=1e-5):
  """Within `tolerance`, of the largest number where that is above one."""
  actual, expected = np.asarray(actual), np.asarray(expected)
  assert actual.shape == expected.shape
  scale = max(1.0, np.abs(expected).max())
  np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * scale)


@pytest.fixture(scope='module', autouse=True)
def highest_precision():
  with jax.default_matmul_precision('highest'):
    yield


@pytest.fixture(scope='module')
def golden():
  data, meta = golden_files.load('vjepa2_tiny')
  return data, meta['config'] | {'mlp_ratio': meta['numerics']['mlp_ratio']}


def make_model(config, **encoder):
  ratio = config['mlp_ratio']
  return vjepa.VJEPA(
    encoder=video_vit.VideoViTConfig(
      image_size=config['image_size'],
      patch_size=config['patch_size'],
      tubelet_size=config['tubelet_size'],
      num_frames=config['frames'],
      width=config['embed_dim'],
      depth=config['layers'],
      num_heads=config['heads'],
      mlp_dim=ratio * config['embed_dim'],
      **encoder,
    ),
    predictor=masked_predictor.MaskedPredictorConfig(
      width=config['pred_dim'],
      depth=config['pred_layers'],
      num_heads=config['pred_heads'],
      mlp_dim=ratio * config['pred_dim'],
      num_mask_tokens=config['num_mask_tokens'],
    ),
    # Of no account here, and possible on the smallest grids.
    masks=mask_settings.VideoMasks(blocks=(1,), percent=(50,)),
  ).build()


@pytest.fixture(scope='module')
def model(golden):
  return make_model(golden[1])


@pytest.fixture(scope='module')
def variables(golden, model):
  tensors = golden_files.state_dict(golden[0])
  return masked_layouts.load(model, tensors)[0]


@pytest.fixture(scope='module')
def video(golden):
  return jnp.asarray(np.moveaxis(golden[0]['video'], 1, -1))


def encode(model, variables, video, ids=None):
  return model.encoder.build(jnp.float32).apply(
    {'params': variables['params']['encoder']}, video, ids
  )[0]


def test_the_encoder_sees_all_tokens(golden, model, variables, video):
  close(encode(model, variables, video), golden[0]['encoder/full'])


@pytest.mark.slow
def test_the_encoder_sees_a_context_alone(golden, model, variables, video):
  tokens = encode(model, variables, video, golden[0]['context_ids'])
  close(tokens, golden[0]['encoder/masked'])


def test_the_other_rope_style_is_told_apart(golden, variables, video):
  model = make_model(golden[1], positions=positions.Rotary(style='interleaved'))
  tokens = encode(model, variables, video)
  expected = golden[0]['encoder/full']
  assert np.abs(tokens - expected).max() > 2e-3 * np.abs(expected).max()


@pytest.mark.parametrize(
  ('mask_index', 'turns', 'ids', 'name'),
  [
    (0, 0, 'target_ids', 'predictor/mask_index0'),
    (1, 0, 'target_ids', 'predictor/mask_index1'),
    # Modulo the number of mask tokens.
    (1, 1, 'target_ids', 'predictor/mask_index1'),
    (1, 0, 'target_ids_shuffled', 'predictor/shuffled_target_ids_mask_index1'),
  ],
)
def test_the_predictor(golden, model, variables, mask_index, turns, ids, name):
  data, config = golden
  mask_index += turns * config['num_mask_tokens']
  predict = jax.jit(model.predict, static_argnames='mask_index')
  predicted = predict(
    variables,
    data['encoder/masked'],
    data['context_ids'],
    data[ids],
    mask_index=mask_index,
  )
  close(predicted, data[name])


def test_targets_are_normalised_without_affine(golden):
  normalized = masked_tokens.normalize(
    jnp.asarray(golden[0]['target/full_raw'])
  )
  close(normalized, golden[0]['target/full_normalised'])


@pytest.mark.slow
def test_loss_and_gradients(golden, model, variables, video):
  data = golden[0]

  def loss_fn(params):
    context = encode(model, {'params': params}, video, data['context_ids'])
    predicted = model.predict(
      {'params': params},
      context,
      data['context_ids'],
      data['target_ids'],
      mask_index=1,
    )
    wanted = mask_buckets.take(
      jnp.asarray(data['target/full_normalised']), data['target_ids']
    )
    ones = jnp.ones(context.shape[:-1])
    hidden = hidden_tokens.Hidden(
      predicted, wanted, None, context, context, None, ones
    )
    outcome = terms_lib.Outcome(context, [(predicted, wanted)], extra=[hidden])
    priced = terms_lib.price(model.terms, outcome, jax.random.key(0))
    return terms_lib.total(priced)

  loss, gradient = jax.value_and_grad(loss_fn)(variables['params'])
  close(loss, data['loss/l1_mask_index1'])
  tensors = masked_layouts.to_source(
    model, {'params': jax.device_get(gradient)}
  )
  names = [k for k in data if k.startswith('grad/')]
  assert names
  for name in names:
    # Relative: a sum of signs, some of which rounding turns over.
    expected = data[name]
    scale = np.abs(expected).max()
    np.testing.assert_allclose(
      tensors[name.removeprefix('grad/')], expected, rtol=0, atol=1e-3 * scale
    )
