import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from jepa_wm import exports, fields, models, planning, units
from jepa_wm.models import dino_wm
from jepa_wm.networks import tokens
from jepa_wm.recipes import frozen_encoders
from jepa_wm.training import optimizers
from jepa_wm.training import state as state_lib
from jepa_wm.training import step as step_lib

CONV = {
  'name': 'conv',
  'image_size': 16,
  'channels': (6,),
  'strides': (4,),
  'blocks': (0,),
  'features': 8,
}
PREDICTOR = {
  'history': 2,
  'condition_features': 3,
  'width': 12,
  'depth': 1,
  'num_heads': 2,
  'head_dim': 6,
  'mlp_dim': 8,
  'dropout': 0.0,
}


def build(norm='frame', proprio_dim=0, pool=2, encoder=CONV, **changes):
  return models.from_config(
    {
      'name': 'dino_wm',
      'encoder': {
        'encoder': encoder,
        'pool': pool,
        'norm': norm,
        'proprio_dim': proprio_dim,
      },
      **({'proprio': {'features': 3}} if proprio_dim else {}),
      'predictor': PREDICTOR,
      **changes,
    }
  )


def batch_of(rng_key, num_frames=4, size=2):
  keys = jax.random.split(rng_key, 3)
  shape = (size, num_frames, 16, 16, 3)
  return {
    'observation': {
      'pixels': jax.random.randint(keys[0], shape, 0, 256).astype(jnp.uint8),
      'proprio': 5 * jax.random.normal(keys[2], (size, num_frames, 2)),
    },
    'action': jax.random.normal(keys[1], (size, num_frames - 1, 10)),
  }


def seen(model, batch):
  return {name: batch['observation'][name] for name in model.observation_spec}


def world(model, variables):
  statistics = units.ActionStatistics(
    np.zeros(2, np.float32), np.ones(2, np.float32)
  )
  return exports.WorldModel(model, variables, statistics)


@pytest.fixture(params=[0, 2], ids=['pixels', 'proprio'], scope='module')
def case(request):
  model = build(proprio_dim=request.param)
  return model, tiny.start(model), batch_of(jax.random.key(0))


@pytest.mark.slow
@pytest.mark.parametrize('pixel_norm', ['imagenet', 'white_ground'])
def test_tokens_are_the_pooled_feature_map_of_the_frozen_encoder(
  pixel_norm, rng_key
):
  encoder = {**CONV, 'pixel_norm': pixel_norm}
  observation = seen(build(), batch_of(rng_key))
  for norm in ('none', 'frame'):
    model = build(norm, encoder=encoder)
    variables = tiny.start(model)
    inner = model.config.encoder.encoder
    _, kept = jax.jit(inner.build(jnp.float32).apply)(
      {'params': variables['frozen']['params']['encoder']['encoder']},
      inner.inputs(observation),
    )
    maps = np.asarray(kept['feature_map'], np.float64)
    expected = maps.reshape(2, 4, 2, 2, 2, 2, 6).mean((3, 5)).reshape(2, 4, 24)
    if norm == 'frame':
      expected -= expected.mean(-1, keepdims=True)
      expected /= np.sqrt(np.square(expected).mean(-1, keepdims=True) + 1e-5)
    latents = jax.jit(model.encode)(variables, observation)
    np.testing.assert_allclose(latents, expected, atol=1e-4)
    tokens = model.encode(variables, observation, tokens=True)
    np.testing.assert_allclose(tokens.reshape(2, 4, 24), latents, atol=1e-5)


def test_tokens_are_standardised_over_the_dataset(rng_key):
  model = build('dataset')
  observation = seen(model, batch_of(rng_key))
  variables = tiny.start(model)
  frozen = model.fitted(variables['frozen'], observation)
  tokens = model.encode({**variables, 'frozen': frozen}, observation)
  tokens = tokens.reshape(8, 4, 6)
  np.testing.assert_allclose(tokens.mean(0), 0.0, atol=1e-5)
  np.testing.assert_allclose(jnp.mean(tokens**2), 1.0, rtol=1e-3)
  shapes = jax.tree.map(jnp.shape, variables['frozen'])
  assert shapes == jax.tree.map(jnp.shape, frozen)
  # Only that norm asks for them.
  other = build('frame')
  held = tiny.start(other)['frozen']
  assert other.fitted(held, observation) is held


@pytest.mark.slow
def test_the_loss_is_the_mean_squared_error_to_detached_tokens(case, rng_key):
  model, variables, batch = case

  @jax.jit
  def losses_fn(variables):
    return model.losses(variables, batch, rng_key)

  losses = losses_fn(variables)
  latents = losses.latents
  assert losses.batch_stats == {}
  encoded = jax.jit(model.encode)(variables, seen(model, batch))
  np.testing.assert_allclose(latents, encoded, atol=1e-5)
  errors, predict = [], jax.jit(model.predict)
  for first in range(2):
    window = slice(first, first + 2)
    predicted = predict(
      variables, latents[:, window], batch['action'][:, window]
    )
    errors.append((predicted - latents[:, first + 1 : first + 3]) ** 2)
  np.testing.assert_allclose(losses.loss, np.mean(errors), rtol=1e-5)
  np.testing.assert_array_equal(losses.metrics['loss'], losses.loss)
  gradient = jax.jit(jax.grad(lambda v: losses_fn(v).loss))(variables)
  assert all(not x.any() for x in jax.tree.leaves(gradient['frozen']))
  assert jax.tree.leaves(gradient['params']['predictor'])[0].any()
  if 'proprio' in model.observation_spec:
    kernel = gradient['params']['embedding']['proprio']['out']['kernel']
    assert kernel.any()


def test_cached_features_train_as_frames_do(case, rng_key):
  model, variables, batch = case
  features = model.features(variables, seen(model, batch))
  given = {'latents': features, 'action': batch['action']}
  grad_fn = jax.jit(
    jax.value_and_grad(
      lambda params, batch: (
        model.losses({**variables, 'params': params}, batch, rng_key).loss
      )
    )
  )
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
    grad_fn(variables['params'], batch),
    grad_fn(variables['params'], given),
  )


def test_steps_equal_predictions_of_the_window(case):
  model, variables, batch = case
  encode, advance, predict = map(
    jax.jit, (model.encode, model.advance, model.predict)
  )
  window = encode(variables, seen(model, batch))[:, :1]
  actions = batch['action']
  state = model.start(variables, window, actions[:, :0])
  for t in range(3):
    state = advance(variables, state, actions[:, t])
    first = max(0, t - 1)
    after = predict(variables, window, actions[:, first : t + 1])
    window = jnp.concatenate([window, after[:, -1:]], axis=1)[:, -2:]
    np.testing.assert_allclose(model.read(state), window[:, -1], atol=1e-5)


@pytest.mark.slow
def test_a_planner_works_with_it(case):
  model, variables, batch = case
  acting = world(model, variables)
  now, goal = (
    {name: x[:, t] for name, x in seen(model, batch).items()} for t in (0, 1)
  )

  @jax.jit
  def plan(variables, now, goal):
    return planning.random_shooting_plan(
      variables,
      jax.random.key(0),
      acting.root(variables, now, goal),
      acting.dynamics,
      acting.cost,
      horizon=3,
      action_dim=10,
      num_samples=4,
    )

  assert np.isfinite(plan(variables, now, goal).cost).all()


def test_the_cost_weighs_tokens_and_state():
  model = build(proprio_dim=2, proprio={'features': 3, 'weight': 0.5})
  tokens = jnp.zeros((4, 9)).at[:, :6].set(2.0).at[:, 6:].set(1.0)
  cost = model.distance(tokens.reshape(1, 36), jnp.zeros((1, 36)))
  np.testing.assert_allclose(cost, [4.0 + 0.5])


def test_an_update_leaves_the_frozen_encoder(rng_key):
  model = build()
  optimizer = optimizers.AdamW(num_steps=2, learning_rate=0.1).transformation()
  state = state_lib.create(model, optimizer, rng_key)
  before = jax.device_get(state.variables)
  update = step_lib.make_train_step(
    model,
    optimizer,
    jax.make_mesh((1,), ('data',)),
    action_statistics=world(model, None).units,
  )
  batch = batch_of(rng_key)
  for _ in range(2):
    state, metrics = update(state, batch)
  assert bool(metrics['finite'])
  after = jax.device_get(state.variables)
  jax.tree.map(np.testing.assert_array_equal, before['frozen'], after['frozen'])
  kernels = [
    x['params']['predictor']['core']['output']['kernel']
    for x in (before, after)
  ]
  assert not np.array_equal(*kernels)


@pytest.mark.slow
def test_an_export_holds_the_frozen_encoder(tmp_path):
  model = build('dataset')
  variables = model.for_inference(tiny.start(model))
  world(model, variables).save(tmp_path / 'model')
  loaded = exports.WorldModel.from_checkpoint(tmp_path / 'model')
  assert loaded.model == model
  jax.tree.map(np.testing.assert_array_equal, loaded.params, variables)
  lewm = tiny.build(terms={'prediction': {}}, target={'name': 'frozen'})
  with pytest.raises(ValueError, match="'dino_wm'; the latents of 'lewm' are"):
    frozen_encoders.adopt(lewm, tmp_path / 'model')
  # What it froze can be frozen again.
  again = frozen_encoders.adopt(build('none'), tmp_path / 'model')
  jax.tree.map(
    np.testing.assert_array_equal,
    again['params']['encoder']['encoder'],
    variables['params']['encoder']['encoder'],
  )


def test_the_encoder_of_a_checkpoint_is_frozen(tmp_path):
  trained = tiny.build(encoder=CONV)
  variables = tiny.start(trained)
  world(trained, variables).save(tmp_path / 'lewm')
  frozen = frozen_encoders.adopt(build(), tmp_path / 'lewm')
  jax.tree.map(
    np.testing.assert_array_equal,
    frozen['params']['encoder']['encoder'],
    variables['params']['encoder'],
  )
  with pytest.raises(ValueError, match=r'has channels=\(6,\), and .*=\(7,\)'):
    frozen_encoders.adopt(
      build(encoder={**CONV, 'channels': (7,)}), tmp_path / 'lewm'
    )
  assert frozen_encoders.fingerprint(frozen) != frozen_encoders.fingerprint(
    jax.tree.map(lambda x: x + 1, frozen)
  )


def test_dinov2_gives_a_grid_of_patches():
  config = dino_wm.DinoWM()
  assert config.encoder.grid == (14, 14)
  assert config.encoder.token_features == 384
  shapes = jax.eval_shape(config.build().init, jax.random.key(0))
  positions = shapes['params']['predictor']['core']['positions']
  # Published: as wide as the token and the action's embedding together.
  assert positions.shape == (3, 196, 394)
  plain = json.loads(json.dumps(fields.to_dict(config)))
  assert models.from_config(plain).config == config


def test_bad_fields_are_named(rng_key):
  for changes, message in (
    ({'pool': 3}, 'pool must divide .* 4 x 4 tokens, got 3'),
    ({'proprio_dim': -1}, 'proprio_dim must be an integer of at least 0'),
    ({'encoder': {'name': 'dino'}}, "encoder.name must be one of .*'dino'"),
    ({'norm': 'batch'}, "norm must be one of .*'batch'"),
    ({'proprio': {'features': 3}}, 'would do nothing: set encoder.proprio_dim'),
  ):
    with pytest.raises(ValueError, match=message):
      build(**changes)
  model = build(proprio_dim=2)
  pixels = batch_of(rng_key)['observation']['pixels']
  with pytest.raises(
    ValueError, match=r'proprio is missing: .* sees 2 numbers'
  ):
    model.encode(tiny.start(model), {'pixels': pixels})


def test_the_class_token_is_a_latent_of_its_own(rng_key):
  observation = seen(build(), batch_of(rng_key))
  model = models.from_config(
    {
      'name': 'dino_wm',
      'encoder': {'encoder': CONV, 'kept': 'class', 'norm': 'none'},
      'predictor': PREDICTOR,
    }
  )
  variables = tiny.start(model)
  inner = model.config.encoder.encoder
  features, _ = inner.build(jnp.float32).apply(
    {'params': variables['frozen']['params']['encoder']['encoder']},
    inner.inputs(observation),
  )
  latents = model.encode(variables, observation)
  np.testing.assert_allclose(latents, features, atol=1e-5)
  assert model.encode(variables, observation, tokens=True).shape[-2:] == (1, 8)
  with pytest.raises(ValueError, match=r'pool must divide .* 1 x 1'):
    tokens.TokensConfig(encoder=inner, kept='class', pool=2)
