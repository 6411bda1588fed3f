import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jepa_wm.families import learner as learner_lib

from jepa_wm import families, planning, units, world_model
from jepa_wm.training import frozen_encoders, optimizers
from jepa_wm.training import state as state_lib
from jepa_wm.training import step as step_lib


def encoder_family(**fields):
  sizes = {
    'image_size': 16,
    'encoder': 'conv',
    'encoder_channels': (6,),
    'encoder_strides': (4,),
    'encoder_blocks': (0,),
    'encoder_features': 8,
    'projector_dim': 8,
    'predictor_dim': 8,
    'predictor_depth': 1,
    'predictor_heads': 1,
    'predictor_mlp_dim': 8,
    'latent_dim': 4,
    'history': 1,
    'num_projections': 8,
  }
  return families.LeWM(**{**sizes, **fields})


def tiny(**fields):
  sizes = {
    'image_size': 16,
    'encoder': encoder_family(),
    'history': 2,
    'pool': 2,
    'token_norm': 'frame',
    'condition_features': 3,
    'predictor_width': 12,
    'predictor_depth': 1,
    'predictor_heads': 2,
    'predictor_head_dim': 6,
    'predictor_mlp_dim': 8,
    'dropout': 0.0,
  }
  return families.DinoWM(**{**sizes, **fields})


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


def world(family, variables):
  statistics = units.ActionStatistics(
    np.zeros(2, np.float32), np.ones(2, np.float32)
  )
  return world_model.WorldModel(family, variables, statistics)


def start(family):
  """Variables of all sizes, drawn by NumPy: compiling `init` takes longer."""
  draw = np.random.default_rng(0)

  def fill(path, leaf):
    if path[-1].key == 'var':
      return jnp.ones(leaf.shape)
    return jnp.asarray(draw.normal(0, 0.2, leaf.shape), leaf.dtype)

  shapes = jax.eval_shape(family.init, jax.random.key(0))
  return jax.tree_util.tree_map_with_path(fill, shapes)


@pytest.fixture(params=[0, 2], ids=['pixels', 'proprio'], scope='module')
def case(request):
  family = tiny(proprio_dim=request.param)
  return family, start(family), batch_of(jax.random.key(0))


@pytest.mark.parametrize('pixel_norm', ['imagenet', 'white_ground'])
def test_tokens_are_the_pooled_feature_map_of_the_frozen_encoder(
  pixel_norm, rng_key
):
  trained = encoder_family(pixel_norm=pixel_norm)
  variables = start(trained)
  pixels = batch_of(rng_key)['observation']['pixels']
  _, kept = jax.jit(
    lambda variables, x: trained.model().apply(
      variables, x, method=lambda model, x: model.encoder(x)
    )
  )(variables, trained.observation(pixels, None))
  maps = np.asarray(kept['feature_map'], np.float64)
  pooled = maps.reshape(2, 4, 2, 2, 2, 2, 6).mean((3, 5)).reshape(2, 4, 24)
  frozen = {'params': variables['params']['encoder']}
  for norm, expected in (
    ('none', pooled),
    (
      'frame',
      (pooled - pooled.mean(-1, keepdims=True))
      / np.sqrt(pooled.var(-1, keepdims=True) + 1e-5),
    ),
  ):
    family = tiny(token_norm=norm, encoder=trained)
    latents = jax.jit(family.encode)({'frozen': frozen}, pixels)
    np.testing.assert_allclose(latents, expected, atol=1e-4)


def test_tokens_are_standardised_over_the_dataset(rng_key):
  family = tiny(token_norm='dataset')
  pixels = batch_of(rng_key)['observation']['pixels']
  frozen = family.fit_tokens(family.init_encoder(rng_key), pixels)
  tokens = family.encode_tokens(frozen, pixels).reshape(8, 4, 6)
  np.testing.assert_allclose(tokens.mean(0), 0.0, atol=1e-5)
  np.testing.assert_allclose(jnp.mean(tokens**2), 1.0, rtol=1e-3)
  shapes = jax.eval_shape(family.init_frozen, rng_key)
  assert jax.tree.map(jnp.shape, shapes) == jax.tree.map(jnp.shape, frozen)


def test_the_loss_is_the_mean_squared_error_to_detached_tokens(case, rng_key):
  family, variables, batch = case

  @jax.jit
  def loss_fn(variables):
    return family.loss(variables, None, batch, rng_key)

  loss, (metrics, batch_stats, latents) = loss_fn(variables)
  assert batch_stats == {}
  proprio = batch['observation']['proprio'] if family.proprio_dim else None
  np.testing.assert_allclose(
    latents,
    jax.jit(family.encode)(variables, batch['observation']['pixels'], proprio),
    atol=1e-5,
  )
  errors, predict = [], jax.jit(family.predict)
  for first in range(2):
    window = slice(first, first + 2)
    predicted = predict(
      variables, latents[:, window], batch['action'][:, window]
    )
    errors.append((predicted - latents[:, first + 1 : first + 3]) ** 2)
  np.testing.assert_allclose(loss, np.mean(errors), rtol=1e-5)
  np.testing.assert_array_equal(metrics['loss'], loss)
  gradient = jax.jit(jax.grad(lambda v: loss_fn(v)[0]))(variables)
  assert all(not x.any() for x in jax.tree.leaves(gradient['frozen']))
  assert jax.tree.leaves(gradient['params']['predictor']['output'])[0].any()
  if family.proprio_dim:
    assert gradient['params']['proprio_encoder']['out']['kernel'].any()


def test_steps_equal_predictions_of_the_window(case):
  family, variables, batch = case
  proprio = batch['observation']['proprio'] if family.proprio_dim else None
  encode, step, predict = map(
    jax.jit, (family.encode, family.step, family.predict)
  )
  window = encode(variables, batch['observation']['pixels'], proprio)[:, :1]
  actions = batch['action']
  state = family.initial_state(variables, window, actions[:, :0])
  for t in range(3):
    state = step(variables, state, actions[:, t])
    first = max(0, t - 1)
    after = predict(variables, window, actions[:, first : t + 1])
    window = jnp.concatenate([window, after[:, -1:]], axis=1)[:, -2:]
    np.testing.assert_allclose(state.latents, window, atol=1e-5)


def test_a_planner_works_with_it(case):
  family, variables, batch = case
  model = world(family, variables)
  seen = {}
  if family.proprio_dim:
    seen = {
      'proprio': batch['observation']['proprio'][:, 0],
      'goal_proprio': batch['observation']['proprio'][:, 1],
    }

  @jax.jit
  def plan(variables, pixels, goal_pixels, seen):
    return planning.random_shooting_plan(
      variables,
      jax.random.key(0),
      model.root(variables, pixels, goal_pixels, **seen),
      model.dynamics,
      model.cost,
      horizon=3,
      action_dim=10,
      num_samples=4,
    )

  pixels = batch['observation']['pixels']
  found = plan(variables, pixels[:, 0], pixels[:, 1], seen)
  assert np.isfinite(found.cost).all()


def test_the_cost_weighs_tokens_and_state():
  family = tiny(proprio_dim=2, proprio_weight=0.5)
  tokens = jnp.zeros((4, 9)).at[:, :6].set(2.0).at[:, 6:].set(1.0)
  cost = family.cost(family.join(tokens)[None], jnp.zeros((1, 36)))
  np.testing.assert_allclose(cost, [4.0 + 0.5])


def test_an_update_leaves_the_frozen_encoder(rng_key):
  family = tiny()
  optimizer = optimizers.AdamW(num_steps=2, learning_rate=0.1).transformation()
  learner = learner_lib.Learner(family)
  state = state_lib.create(learner, optimizer, rng_key)
  before = jax.device_get(state.variables)
  mesh = jax.make_mesh((1,), ('data',))
  update = step_lib.make_train_step(
    learner,
    optimizer,
    mesh,
    action_statistics=world(family, None).action_statistics,
  )
  batch = batch_of(rng_key)
  for _ in range(2):
    state, metrics = update(state, batch)
  assert bool(metrics['finite'])
  after = jax.device_get(state.variables)
  jax.tree.map(np.testing.assert_array_equal, before['frozen'], after['frozen'])
  kernel = ('predictor', 'output', 'kernel')
  first, last = before['params'], after['params']
  for name in kernel:
    first, last = first[name], last[name]
  assert not np.array_equal(first, last)


def test_an_export_holds_the_frozen_encoder(tmp_path):
  family = tiny(token_norm='dataset')
  variables = start(family)
  world(family, variables).save(tmp_path / 'model')
  model = world_model.WorldModel.from_checkpoint(tmp_path / 'model')
  assert model.family == family
  # What is empty leaves nothing in a file.
  del variables['batch_stats']
  jax.tree.map(np.testing.assert_array_equal, model.params, variables)
  with pytest.raises(ValueError, match="'dino_wm'; the latents of 'lewm' are"):
    frozen_encoders.adopt(encoder_family(), tmp_path / 'model')


def test_the_encoder_of_a_checkpoint_is_frozen(tmp_path):
  trained = encoder_family()
  variables = start(trained)
  world(trained, variables).save(tmp_path / 'lewm')
  encoder, frozen = frozen_encoders.read(tmp_path / 'lewm')
  assert encoder == trained
  frozen_encoders.check(tiny(), frozen, where='here')
  wider = tiny(
    encoder=encoder_family(encoder_channels=(7,), encoder_features=9)
  )
  with pytest.raises(
    ValueError,
    match=r"'params/out/bias' is \[8\], .* has \[9\], and 3 others differ",
  ):
    frozen_encoders.check(wider, frozen, where='here')
  assert frozen_encoders.fingerprint(frozen) != frozen_encoders.fingerprint(
    jax.tree.map(lambda x: x + 1, frozen)
  )


def test_a_model_without_an_encoder_cannot_be_frozen(tmp_path):
  family = tiny()
  world(family, start(family)).save(tmp_path / 'model')
  with pytest.raises(ValueError, match="'dino_wm', which has no encoder"):
    frozen_encoders.read(tmp_path / 'model')


def test_dinov2_gives_a_grid_of_patches():
  family = families.DinoWM()
  assert family.grid == (14, 14)
  assert family.encoder_grid == (14, 14, 384)
  shapes = jax.eval_shape(family.init, jax.random.key(0))
  positions = shapes['params']['predictor']['positions']
  # Published: as wide as the token and the action's embedding together.
  assert positions.shape == (3, 196, 394)
  config = json.loads(json.dumps(families.to_config(family)))
  assert families.from_config(config) == family


def test_bad_fields_are_named(rng_key):
  for fields, message in (
    ({'pool': 3}, 'pool must divide .* 4 x 4 tokens, got 3'),
    ({'image_size': 32}, 'image_size must be that of .* 16, got 32'),
    ({'proprio_dim': -1}, 'proprio_dim must be an integer of at least 0'),
    ({'encoder': 'dino'}, "encoder must be one of .*'dino'"),
    ({'token_norm': 'batch'}, "token_norm must be one of .*'batch'"),
  ):
    with pytest.raises(ValueError, match=message):
      tiny(**fields)
  family = tiny(proprio_dim=2)
  with pytest.raises(ValueError, match=r'proprio must be \[2, 4, 2\]'):
    family.encode(
      {'frozen': family.init_frozen(rng_key)},
      batch_of(rng_key)['observation']['pixels'],
    )
