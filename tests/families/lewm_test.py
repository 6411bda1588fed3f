import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jepa_wm import families
from jepa_wm.families import LeWM
from jepa_wm.objectives import vcreg

SMALL = LeWM(
  image_size=8,
  action_dim=2,
  action_block=3,
  history=2,
  latent_dim=4,
  encoder='conv',
  encoder_features=6,
  encoder_channels=(3,),
  encoder_strides=(4,),
  encoder_blocks=(0,),
  projector_dim=5,
  predictor_dim=4,
  predictor_depth=1,
  predictor_heads=1,
  predictor_head_dim=4,
  predictor_mlp_dim=8,
  dropout=0.0,
  num_projections=8,
)
# Without batch norm and dropout training and eval are one function.
PLAIN = dataclasses.replace(
  SMALL,
  projector_norm='none',
  rollout_steps=2,
  rollout_decay=0.5,
  temporal_similarity_weight=0.3,
  straightening_weight=0.2,
)


@pytest.fixture(scope='module')
def batch():
  draw = np.random.default_rng(1)
  return {
    'observation': {'pixels': draw.integers(0, 256, (8, 5, 8, 8, 3), np.uint8)},
    'action': draw.normal(size=(8, 4, 6)).astype(np.float32),
  }


def start(family):
  """Variables as after some training: nothing is zero, actions matter."""
  draw = np.random.default_rng(0)

  def fill(path, leaf):
    if path[-1].key == 'var':
      return jnp.ones(leaf.shape)
    scale = 0.3 if len(leaf.shape) == 1 else leaf.shape[-2] ** -0.5
    return jnp.asarray(draw.normal(0, scale, leaf.shape), leaf.dtype)

  # Drawn by NumPy: compiling an init per family would cost seconds.
  shapes = jax.eval_shape(family.init, jax.random.key(0))
  return jax.tree_util.tree_map_with_path(fill, shapes)


@pytest.fixture(scope='module')
def plain_run(batch):
  variables = start(PLAIN)
  run = jax.jit(PLAIN.loss)
  return variables, run(variables, None, batch, jax.random.key(5))


def test_published_model_has_the_published_size():
  variables = jax.eval_shape(LeWM().init, jax.random.key(0))
  sizes = {
    name: sum(x.size for x in jax.tree.leaves(module))
    for name, module in variables['params'].items()
  }
  assert sizes == {
    'encoder': 5_501_376,
    'projector': 792_768,
    'action_encoder': 156_206,
    'predictor': 10_791_360,
    'prediction_projector': 792_768,
  }
  assert sum(sizes.values()) == 18_034_478


def test_loss_is_its_formula(batch, plain_run):
  variables, (loss, (metrics, batch_stats, latents)) = plain_run
  assert batch_stats == {}
  z = np.asarray(
    jax.jit(PLAIN.encode)(variables, batch['observation']['pixels'])
  )
  np.testing.assert_allclose(latents, z, atol=1e-5)
  actions = batch['action']
  predict = jax.jit(PLAIN.predict)
  errors = {1: [], 2: []}
  for w in range(3):
    window = z[:, w : w + 2]
    for step in (1, 2):
      if w + step + 1 < 5:
        first = w + step - 1
        window = predict(variables, window, actions[:, first : first + 2])
        errors[step].append(window - z[:, w + step : w + step + 2])
  means = [np.square(np.stack(errors[step])).mean() for step in (1, 2)]
  velocity = np.diff(z, axis=1)
  speed = np.linalg.norm(velocity, axis=-1)
  cosine = (velocity[:, 1:] * velocity[:, :-1]).sum(-1)
  cosine /= speed[:, 1:] * speed[:, :-1]
  expected = {
    'prediction_loss': (means[0] + 0.5 * means[1]) / 1.5,
    'prediction_loss_step_1': means[0],
    'prediction_loss_step_2': means[1],
    'temporal_similarity': np.square(velocity).mean(),
    'straightening': -cosine.mean(),
  }
  for name, value in expected.items():
    np.testing.assert_allclose(metrics[name], value, rtol=1e-4, err_msg=name)
  assert metrics['sigreg'] > 0.1
  total = (
    metrics['prediction_loss']
    + 0.09 * metrics['sigreg']
    + 0.3 * metrics['temporal_similarity']
    + 0.2 * metrics['straightening']
  )
  np.testing.assert_allclose(loss, total, rtol=1e-5)
  np.testing.assert_allclose(metrics['loss'], loss)


@pytest.mark.slow
def test_gradient_reaches_only_a_shared_target(batch, rng_key):
  slopes = {}
  for target in ('shared', 'frozen'):
    family = dataclasses.replace(
      PLAIN, target=target, sigreg_weight=0.0, rollout_steps=1
    )
    variables = start(family)
    targets = family.init_target(variables)
    grad_fn = jax.jit(jax.grad(family.loss, argnums=(0, 1), has_aux=True))
    grads, _ = grad_fn(variables, targets, batch, rng_key)
    slopes[target] = grads[0]['params']['encoder']['out']['kernel']
    assert all((x == 0).all() for x in jax.tree.leaves(grads[1]))
  # The same value of the loss, so all that differs is the target's gradient.
  difference = np.abs(slopes['shared'] - slopes['frozen']).max()
  assert difference > 0.01 * np.abs(slopes['shared']).max()


@pytest.mark.slow
def test_a_share_of_the_prediction_loss_reaches_the_encoder(batch, rng_key):
  plain = dataclasses.replace(
    PLAIN,
    sigreg_weight=0.0,
    temporal_similarity_weight=0.0,
    straightening_weight=0.0,
  )
  variables = start(plain)
  values, slopes = {}, {}
  for share in (1.0, 0.25, 0.0):
    family = dataclasses.replace(plain, prediction_gradient=share)
    (values[share], _), grads = jax.jit(
      jax.value_and_grad(family.loss, has_aux=True)
    )(variables, None, batch, rng_key)
    slopes[share] = grads['params']
  np.testing.assert_allclose(list(values.values()), values[1.0], rtol=1e-5)
  kernels = {
    k: np.asarray(v['encoder']['out']['kernel']) for k, v in slopes.items()
  }
  np.testing.assert_allclose(kernels[0.25], 0.25 * kernels[1.0], atol=1e-6)
  assert np.abs(kernels[1.0]).max() > 1e-3
  assert (kernels[0.0] == 0.0).all()
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
    slopes[0.0]['predictor'],
    slopes[1.0]['predictor'],
  )


def test_a_change_is_added_to_the_latent():
  family = dataclasses.replace(PLAIN, history=3, prediction='change')
  variables = start(family)
  rng = np.random.default_rng(2)
  latents = rng.normal(size=(2, 3, 4)).astype(np.float32)
  actions = rng.normal(size=(2, 3, 6)).astype(np.float32)
  plain = dataclasses.replace(family, prediction='latent')
  change = plain.predict(variables, latents, actions)
  moved = family.predict(variables, latents, actions)
  np.testing.assert_allclose(moved, latents + change, rtol=1e-5, atol=1e-5)
  # As a planner steps.
  state = family.initial_state(variables, latents, actions[:, :2])
  state = family.step(variables, state, jnp.asarray(actions[:, 2]))
  np.testing.assert_allclose(state.latents[:, -1], moved[:, -1], rtol=1e-4)


def test_white_ground_is_half_a_deviation_from_the_border():
  white = np.full((2, 8, 8, 3), 255, np.uint8)
  for name, value in (('white_ground', 0.5), ('imagenet', 2.429)):
    family = dataclasses.replace(SMALL, pixel_norm=name)
    frames = family.observation(white, None)
    np.testing.assert_allclose(frames[..., 1], value, atol=1e-3)


def test_targets_move_as_their_kind_says():
  variables = start(SMALL)
  online = jax.tree.map(lambda x: x + 1, variables)
  for kind, share in (('ema', 0.25), ('frozen', 0.0)):
    family = dataclasses.replace(SMALL, target=kind, target_momentum=0.75)
    target = family.init_target(variables)
    updated = family.update_target(target, online, 0)
    jax.tree.map(
      lambda new, old, share=share: np.testing.assert_allclose(
        new - old, np.full(old.shape, share), atol=1e-5
      ),
      updated,
      target,
    )
  assert SMALL.init_target(variables) is None
  assert SMALL.update_target(None, online, 0) is None


@pytest.mark.slow
def test_low_precision_runs_and_is_near(batch, plain_run):
  variables, (_, (_, _, full)) = plain_run
  family = dataclasses.replace(PLAIN, dtype='bfloat16', dropout=0.1)
  stored = jax.eval_shape(family.init, jax.random.key(0))
  assert {x.dtype for x in jax.tree.leaves(stored)} == {jnp.dtype('float32')}
  loss, (_, _, latents) = jax.jit(family.loss)(
    variables, None, batch, jax.random.key(5)
  )
  assert np.isfinite(loss)
  assert latents.dtype == jnp.float32
  assert 0 < np.abs(latents - full).max() < 0.05 * np.abs(full).max()


@pytest.mark.slow
@pytest.mark.parametrize(
  'regularizer, terms',
  [
    ('sigreg', {'sigreg'}),
    ('vcreg', set(vcreg.Terms._fields)),
    ('barlow_twins', {'barlow_twins'}),
    ('info_nce', {'info_nce'}),
  ],
)
def test_eight_devices_learn_what_one_does(batch, rng_key, regularizer, terms):
  mesh = jax.make_mesh((8,), ('data',), axis_types=(AxisType.Auto,))
  family = dataclasses.replace(SMALL, regularizer=regularizer)
  variables = start(family)

  def loss(params, batch_stats, *args):
    variables = {'params': params, 'batch_stats': batch_stats}
    return family.loss(variables, None, *args)

  run = jax.jit(jax.value_and_grad(loss, has_aux=True))
  weights = variables['params'], variables['batch_stats']
  one = run(*weights, batch, rng_key)
  eight = run(
    *jax.device_put(weights, NamedSharding(mesh, PartitionSpec())),
    jax.device_put(batch, NamedSharding(mesh, PartitionSpec('data'))),
    rng_key,
  )
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5),
    one,
    eight,
  )
  (_, (metrics, _, _)), grads = one
  always = {'loss', 'prediction_loss', 'temporal_similarity', 'straightening'}
  assert metrics.keys() == always | terms
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(one))
  assert np.abs(grads['encoder']['out']['kernel']).max() > 1e-4


def test_config_goes_through_json():
  family = dataclasses.replace(SMALL, encoder_channels=(7,), dropout=0.25)
  config = json.loads(json.dumps(families.to_config(family)))
  assert config['name'] == 'lewm'
  assert families.from_config(config) == family
  assert families.from_config({'name': 'lewm'}) == LeWM()
  hash(family)


@pytest.mark.parametrize(
  'config, message',
  [
    ({'name': 'lewn'}, r"name must be one of .*'lewm'.*mean 'lewm'"),
    ({'dropout': 0.1}, r'name must be one of .*None'),
    ({'name': 'lewm', 'drop_out': 0}, "no field 'drop_out'. .*'dropout'"),
    ({'name': 'lewm', 'zzz': 0}, "no field 'zzz'. It has regularizer,"),
    ({'name': 'lewm', 'history': 0}, 'history must be a positive integer'),
    ({'name': 'lewm', 'history': 2.0}, 'history must be a positive integer'),
    ({'name': 'lewm', 'dropout': '0'}, 'dropout must be a finite nu'),
    ({'name': 'lewm', 'dropout': 1.0}, 'dropout must be below 1'),
    ({'name': 'lewm', 'sigreg_weight': -1}, 'sigreg_weight must be a fin'),
    ({'name': 'lewm', 'target_momentum': 2}, 'target_momentum must be at most'),
    ({'name': 'lewm', 'prediction_gradient': 2}, 'prediction_gradient must be'),
    (
      {
        'name': 'lewm',
        'regularizer': 'barlow_twins',
        'prediction_gradient': 0.0,
      },
      "'barlow_twins' works on predictions alone",
    ),
    ({'name': 'lewm', 'prediction': 'delta'}, "prediction must be .*'change'"),
    ({'name': 'lewm', 'pixel_norm': 'white'}, "pixel_norm must be .*'white_g"),
    ({'name': 'lewm', 'num_knots': 16}, 'num_knots must be odd'),
    ({'name': 'lewm', 'regularizer': 'vicreg'}, "regularizer must be .*'vicr"),
    ({'name': 'lewm', 'regulariser': 'none'}, "Did you mean 'regularizer'"),
    ({'name': 'lewm', 'prediction_distance': 'l2'}, "distance must be .*'l2'"),
    ({'name': 'lewm', 'encoder': 'vit'}, "encoder must be one of .*'vit'"),
    ({'name': 'lewm', 'dtype': 'float16'}, "dtype must be one of .*'float16'"),
    ({'name': 'lewm', 'patch_size': 15}, 'image_size=224 must be a multiple'),
    ({'name': 'lewm', 'encoder_blocks': [0]}, 'must have one entry per stage'),
    ({'name': 'lewm', 'encoder_strides': [0, 1, 1]}, 'strides must be posit'),
    ({'name': 'lewm', 'encoder_blocks': 2}, 'encoder_blocks must list integ'),
  ],
)
def test_bad_fields(config, message):
  with pytest.raises(ValueError, match=message):
    families.from_config(config)


def test_bad_batches(batch, rng_key):
  variables = jax.eval_shape(SMALL.init, rng_key)
  pixels, actions = batch['observation']['pixels'], batch['action']
  for frames, moves, message in (
    (pixels.astype(np.float32), actions, 'pixels must be uint8'),
    (pixels[..., :4, :], actions, r'pixels must be .*8, 8, 3.*image_size=8'),
    (pixels[:, :2], actions, r'T at least 3 \(history=2 plus rollout_st'),
    (pixels, actions[..., :5], r'actions must be \[8, 4, 6\]'),
    (pixels, actions[:, :3], r'actions must be \[8, 4, 6\]'),
  ):
    bad = {'observation': {'pixels': frames}, 'action': moves}
    with pytest.raises(ValueError, match=message):
      SMALL.loss(variables, None, bad, rng_key)
  with pytest.raises(ValueError, match=r'pixels must be \[..., 8, 8, 3\]'):
    SMALL.encode(variables, pixels[..., 0])
  latents = np.zeros((1, 3, 4))
  with pytest.raises(ValueError, match=r'actions must be \[..., L, 6\]'):
    SMALL.predict(variables, latents, np.zeros((1, 3, 10)))
  with pytest.raises(ValueError, match=r'latents must be \[..., L, 4\]'):
    SMALL.predict(variables, latents[..., :2], np.zeros((1, 3, 6)))
