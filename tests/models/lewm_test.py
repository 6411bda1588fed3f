import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jepa_wm import fields, models
from jepa_wm.models import lewm
from jepa_wm.objectives import vcreg

SMALL = tiny.build()
# Without batch norm and dropout training and eval are one function.
PLAIN_TERMS = {
  'prediction': {'steps': 2, 'decay': 0.5},
  'sigreg': {'num_projections': 8},
  'temporal_similarity': {'weight': 0.3},
  'straightening': {'weight': 0.2},
}
NO_NORM = {'norm': 'none'}
PLAIN = tiny.build(projector=NO_NORM, terms=PLAIN_TERMS)


@pytest.fixture(scope='module')
def batch():
  return tiny.batch()


@pytest.fixture(scope='module')
def plain_run(batch):
  variables = tiny.start(PLAIN)
  return variables, jax.jit(PLAIN.losses)(variables, batch, jax.random.key(5))


def test_published_model_has_the_published_size():
  model = lewm.LeWM().build()
  variables = jax.eval_shape(model.init, jax.random.key(0))
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
  assert model.num_frames == 4 and model.stride == 5


def test_loss_is_its_formula(batch, plain_run):
  variables, losses = plain_run
  metrics = losses.metrics
  assert losses.batch_stats == {}
  z = np.asarray(jax.jit(PLAIN.encode)(variables, batch['observation']))
  np.testing.assert_allclose(losses.latents, z, atol=1e-5)
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
  assert losses.weights == {
    'prediction_loss': 1.0,
    'sigreg': 0.09,
    'temporal_similarity': 0.3,
    'straightening': 0.2,
  }
  assert losses.values.keys() == losses.weights.keys()
  total = sum(losses.weights[k] * x for k, x in losses.values.items())
  np.testing.assert_allclose(losses.loss, total, rtol=1e-5)
  np.testing.assert_allclose(metrics['loss'], losses.loss)


@pytest.mark.slow
def test_gradient_reaches_only_a_shared_target(batch, rng_key):
  slopes = {}
  terms = {'prediction': {}}
  for target in ({'name': 'shared'}, {'name': 'ema'}):
    model = tiny.build(projector=NO_NORM, terms=terms, target=target)
    variables = tiny.start(tiny.build(projector=NO_NORM, terms=terms))
    variables = model.target.split(variables)
    grad_fn = jax.jit(
      jax.grad(lambda *args, model=model: model.losses(*args).loss)
    )
    grads = grad_fn(variables, batch, rng_key)
    slopes[target['name']] = grads['params']['encoder']['out']['kernel']
    target_grads = jax.tree.leaves(grads.get('target', {}))
    assert all((x == 0).all() for x in target_grads)
  # The same value of the loss, so all that differs is the target's gradient.
  difference = np.abs(slopes['shared'] - slopes['ema']).max()
  assert difference > 0.01 * np.abs(slopes['shared']).max()


@pytest.mark.slow
def test_a_share_of_the_prediction_loss_reaches_the_encoder(batch, rng_key):
  values, slopes = {}, {}
  for share in (1.0, 0.25, 0.0):
    prediction = {'steps': 2, 'decay': 0.5, 'gradient': share}
    model = tiny.build(projector=NO_NORM, terms={'prediction': prediction})
    losses, slopes[share] = tiny.gradient(
      model, tiny.start(model), batch, rng_key
    )
    values[share] = losses.loss
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
  plain = tiny.build(projector=NO_NORM, predictor={'history': 3})
  model = dataclasses.replace(plain.config, predicts='change').build()
  variables = tiny.start(model)
  rng = np.random.default_rng(2)
  latents = rng.normal(size=(2, 3, 4)).astype(np.float32)
  actions = rng.normal(size=(2, 3, 6)).astype(np.float32)
  change = jax.jit(plain.predict)(variables, latents, actions)
  moved = jax.jit(model.predict)(variables, latents, actions)
  np.testing.assert_allclose(moved, latents + change, rtol=1e-5, atol=1e-5)
  # As a planner steps.
  state = jax.jit(model.start)(variables, latents, actions[:, :2])
  state = jax.jit(model.advance)(variables, state, actions[:, 2])
  np.testing.assert_allclose(model.read(state), moved[:, -1], rtol=1e-4)


def test_white_ground_is_half_a_deviation_from_the_border():
  white = {'pixels': np.full((2, 8, 8, 3), 255, np.uint8)}
  for name, value in (('white_ground', 0.5), ('imagenet', 2.429)):
    encoder = dataclasses.replace(SMALL.config.encoder, pixel_norm=name)
    np.testing.assert_allclose(encoder.inputs(white)[..., 1], value, atol=1e-3)


@pytest.mark.slow
def test_low_precision_runs_and_is_near(batch, plain_run):
  variables, full = plain_run
  model = tiny.build(
    projector=NO_NORM,
    terms=PLAIN_TERMS,
    dtype='bfloat16',
    predictor={'dropout': 0.1},
  )
  stored = jax.eval_shape(model.init, jax.random.key(0))
  assert {x.dtype for x in jax.tree.leaves(stored)} == {jnp.dtype('float32')}
  losses = jax.jit(model.losses)(variables, batch, jax.random.key(5))
  assert np.isfinite(losses.loss)
  assert losses.latents.dtype == jnp.float32
  apart = np.abs(losses.latents - full.latents).max()
  assert 0 < apart < 0.05 * np.abs(full.latents).max()


@pytest.mark.slow
@pytest.mark.parametrize(
  'regularizer, names',
  [
    ({'sigreg': {'num_projections': 8}}, {'sigreg'}),
    ({'vcreg': {}}, set(vcreg.Terms._fields)),
    ({'barlow_twins': {}}, {'barlow_twins'}),
    ({'info_nce': {}}, {'info_nce'}),
  ],
)
def test_eight_devices_learn_what_one_does(batch, rng_key, regularizer, names):
  mesh = jax.make_mesh((8,), ('data',), axis_types=(AxisType.Auto,))
  always = {'temporal_similarity': {}, 'straightening': {}}
  model = tiny.build(terms={'prediction': {}, **regularizer, **always})
  variables = tiny.start(model)

  def loss(params, batch_stats, *args):
    variables = {'params': params, 'batch_stats': batch_stats}
    losses = model.losses(variables, *args)
    return losses.loss, losses

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
  (_, losses), grads = one
  assert losses.metrics.keys() == {'loss', 'prediction_loss', *always} | names
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(one))
  assert np.abs(grads['encoder']['out']['kernel']).max() > 1e-4


def test_config_goes_through_json():
  config = tiny.config(predictor={'dropout': 0.25})
  plain = json.loads(json.dumps(fields.to_dict(config)))
  assert plain['name'] == 'lewm'
  assert fields.from_dict(models.MODELS, plain) == config
  assert models.from_config({'name': 'lewm'}).config == lewm.LeWM()
  assert config.build() == config.build() and hash(config.build())


@pytest.mark.parametrize(
  'config, message',
  [
    ({'name': 'lewn'}, r"name must be one of .*lewm.*mean 'lewm'"),
    ({'predicts': 'change'}, r'name must be one of .*None'),
    ({'name': 'lewm', 'latentdim': 0}, "no field 'latentdim'. .*'latent_dim'"),
    ({'name': 'lewm', 'zzz': 0}, "no field 'zzz'. It has action_dim,"),
    ({'name': 'lewm', 'latent_dim': 0}, 'latent_dim must be a positive int'),
    ({'name': 'lewm', 'latent_dim': 2.0}, 'latent_dim must be a positive int'),
    ({'name': 'lewm', 'predicts': 'delta'}, 'predicts must be .*change'),
    ({'name': 'lewm', 'dtype': 'float16'}, "dtype must be one of .*'float16'"),
    ({'name': 'lewm', 'encoder': {'name': 'vlt'}}, "encoder.name .*mean 'vit'"),
    (
      {'name': 'lewm', 'encoder': {'channels': (1,)}},
      "encoder has no field 'channels'. It has size,",
    ),
    (
      {'name': 'lewm', 'terms': {'sigreg': {}}},
      "first must be one of .*'prediction'",
    ),
    (
      {
        'name': 'lewm',
        'terms': {'prediction': {'gradient': 0.0}, 'barlow_twins': {}},
      },
      'barlow_twins works on predictions alone',
    ),
    (
      {'name': 'lewm', 'target': {'name': 'frozen'}},
      'terms: sigreg would do nothing, since target is',
    ),
    (
      {'name': 'lewm', 'target': {'name': 'average'}},
      r'target.name must be one of ema, frozen, shared',
    ),
  ],
)
def test_bad_settings(config, message):
  with pytest.raises(ValueError, match=message):
    models.from_config(config)


def test_bad_batches(batch, rng_key):
  variables = jax.eval_shape(SMALL.init, rng_key)
  pixels, actions = batch['observation']['pixels'], batch['action']
  for frames, moves, message in (
    (pixels.astype(np.float32), actions, 'pixels: expected uint8'),
    (pixels[..., :4, :], actions, r'pixels must be \[B, T, 8, 8, 3\]'),
    (pixels[:, :2], actions, r'T at least 3 \(predictor.history=2 and the'),
    (pixels, actions[..., :5], r'action must be \[8, 4, 6\]'),
    (pixels, actions[:, :3], r'action must be \[8, 4, 6\]'),
  ):
    bad = {'observation': {'pixels': frames}, 'action': moves}
    with pytest.raises(ValueError, match=message):
      SMALL.losses(variables, bad, rng_key)
  with pytest.raises(ValueError, match=r'pixels: expected \[..., 8, 8, 3\]'):
    SMALL.encode(variables, {'pixels': pixels[..., 0]})
  with pytest.raises(
    ValueError, match=r"'pixels' is missing, there is .*'pix'"
  ):
    SMALL.encode(variables, {'pix': pixels})
  with pytest.raises(ValueError, match="'lewm' has one latent a frame"):
    SMALL.encode(variables, {'pixels': pixels}, tokens=True)
  given = {'latents': np.zeros((8, 5, 4)), 'action': actions}
  with pytest.raises(
    ValueError, match=r"latents, which train no enc.*'frozen'"
  ):
    SMALL.losses(variables, given, rng_key)
  latents = np.zeros((1, 3, 4))
  with pytest.raises(ValueError, match=r'actions must be \[..., L, 6\]'):
    SMALL.predict(variables, latents, np.zeros((1, 3, 10)))
  with pytest.raises(ValueError, match=r'latents must be \[..., L, 4\]'):
    SMALL.predict(variables, latents[..., :2], np.zeros((1, 3, 6)))
