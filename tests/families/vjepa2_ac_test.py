import dataclasses
import json

import golden_files
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jepa_wm.families import vjepa2_ac
from scipy.spatial.transform import Rotation

from jepa_wm import families, planning, units, world_model
from jepa_wm.interop import vjepa2_ac as layout
from jepa_wm.training import frozen_encoders
from jepa_wm.types import Root


def tiny(**fields):
  encoder = families.LeWM(
    image_size=32,
    encoder='conv',
    encoder_channels=(24,),
    encoder_strides=(8,),
    encoder_blocks=(0,),
    encoder_features=8,
    projector_dim=8,
    predictor_dim=8,
    latent_dim=4,
  )
  sizes = {
    'image_size': 32,
    'encoder': encoder,
    'history': 4,
    'predictor_dim': 32,
    'predictor_depth': 2,
    'predictor_heads': 2,
    'predictor_mlp_dim': 128,
  }
  return families.VJEPA2AC(**{**sizes, **fields})


@pytest.fixture(scope='module')
def golden():
  data, meta = golden_files.load('vjepa2_ac_tiny')
  config = meta['config']
  tensors = golden_files.state_dict(data)
  height, width = config['grid_hw']
  assert height == width
  encoder = dataclasses.replace(
    tiny().encoder,
    image_size=8 * height,
    encoder_channels=(config['embed_dim'],),
  )
  family = tiny(
    encoder=encoder,
    image_size=encoder.image_size,
    history=config['frames'],
    action_dim=config['action_dim'],
    state_dim=config['state_dim'],
    predictor_dim=config['width'],
    predictor_depth=config['layers'],
    predictor_heads=config['heads'],
    predictor_mlp_dim=len(tensors['predictor_blocks.0.mlp.fc1.weight']),
    rollout_steps=config['auto_steps'],
  )
  predictor = layout.to_variables(tensors)['params']
  z = data['z'].reshape(*data['states'].shape[:2], -1)
  latents = jnp.concatenate([z, data['states']], axis=-1)
  return family, data, {'params': {'predictor': predictor}}, latents


def test_equals_the_published_outputs(golden):
  family, data, variables, latents = golden
  with jax.default_matmul_precision('highest'):
    forced = jax.jit(family.predict)(
      variables, latents[:, :-1], data['actions'][:, :-1]
    )
  expected = data['out/teacher_forcing']
  tokens = forced[..., : -family.state_dim].reshape(expected.shape)
  golden_files.close(tokens, expected, 1e-5)


def test_equals_the_published_losses_and_gradients(golden):
  family, data, variables, latents = golden

  def total(variables):
    terms = family.prediction_losses(
      variables, latents, data['actions'][:, :-1]
    )
    return terms['teacher_forcing'] + terms['rollout'], terms

  with jax.default_matmul_precision('highest'):
    grad_fn = jax.jit(jax.value_and_grad(total, has_aux=True))
    (loss, terms), gradient = grad_fn(variables)
  golden_files.close(loss, data['loss/total'], 5e-6)
  for name in ('teacher_forcing', 'rollout'):
    golden_files.close(terms[name], data[f'loss/{name}'], 1e-5)
  gradient = layout.to_tensors({'params': gradient['params']['predictor']})
  names = [k for k in data if k.startswith('grad/')]
  assert names
  for name in names:
    tensor = gradient[name.removeprefix('grad/')]
    golden_files.close(tensor, data[name], 1e-4, name)


def start(family):
  """Variables of all sizes, drawn by NumPy: compiling `init` takes longer."""
  draw = np.random.default_rng(0)

  def fill(path, leaf):
    if path[-1].key == 'var':
      return jnp.ones(leaf.shape)
    return jnp.asarray(draw.normal(0, 0.1, leaf.shape), leaf.dtype)

  shapes = jax.eval_shape(family.init, jax.random.key(0))
  return jax.tree_util.tree_map_with_path(fill, shapes)


def random_state(rng_key, family, num_frames=1):
  keys = jax.random.split(rng_key, 4)
  variables = start(family)
  pixels = jax.random.randint(keys[1], (2, num_frames, 32, 32, 3), 0, 256)
  proprio = None
  if family.state_dim:
    proprio = jax.random.uniform(keys[2], (2, num_frames, 7))
  encode = jax.jit(family.encode)
  latents = encode(variables, pixels.astype(jnp.uint8), proprio)
  size = family.action_block * family.action_dim
  actions = 0.1 * jax.random.normal(keys[3], (2, 6, size))
  return variables, latents, actions


@pytest.mark.parametrize(
  'fields', [{}, {'state_dim': 0, 'action_dim': 2, 'action_block': 5}]
)
def test_steps_equal_predictions_of_the_window(rng_key, fields):
  # Longer than the window, so that it slides.
  family = tiny(history=2, predictor_depth=1, **fields)
  variables, latents, actions = random_state(rng_key, family, 2)
  state = family.initial_state(variables, latents, actions[:, :1])
  window, blocks = latents, actions[:, :1]
  for t in range(1, 3):
    state = jax.jit(family.step)(variables, state, actions[:, t])
    blocks = jnp.concatenate([blocks, actions[:, t : t + 1]], axis=1)[:, -2:]
    after = jax.jit(family.predict)(
      variables, window, blocks[:, -window.shape[1] :]
    )
    window = jnp.concatenate([window, after[:, -1:]], axis=1)[:, -2:]
    np.testing.assert_allclose(state.latents, window, atol=1e-5)


def test_a_pose_is_integrated_as_scipy_does(rng_key):
  keys = jax.random.split(rng_key)
  state = jax.random.uniform(keys[0], (50, 7), minval=-1.4, maxval=1.4)
  action = jax.random.uniform(keys[1], (50, 7), minval=-0.1, maxval=0.1)
  after = np.asarray(vjepa2_ac.integrate_pose(state, action))
  first, then = (
    Rotation.from_euler('xyz', np.asarray(x[:, 3:6])) for x in (state, action)
  )
  np.testing.assert_allclose(
    after[:, 3:6], (then * first).as_euler('xyz'), atol=1e-5
  )
  np.testing.assert_allclose(after[:, :3], state[:, :3] + action[:, :3])
  np.testing.assert_allclose(
    after[:, 6], np.clip(state[:, 6] + action[:, 6], 0, 1)
  )


def test_a_state_moves_on_in_a_rollout(rng_key):
  family = tiny()
  variables, latents, actions = random_state(rng_key, family)
  state = family.initial_state(variables, latents, actions[:, :0])
  state = jax.jit(family.step)(variables, state, actions[:, 0])
  np.testing.assert_allclose(
    state.latents[:, 1, -7:],
    vjepa2_ac.integrate_pose(latents[:, 0, -7:], actions[:, 0]),
    atol=1e-6,
  )


def test_the_energy_is_the_mean_distance_of_tokens(rng_key):
  family = tiny()
  _, latents, _ = random_state(rng_key, family)
  goal = latents[..., :-7] + 0.5
  np.testing.assert_allclose(family.cost(latents, goal), 0.5, rtol=1e-5)


def test_the_loss_trains_the_predictor_alone(rng_key):
  family = tiny(state_dim=0, action_dim=2, action_block=5, predictor_depth=1)
  variables = start(family)
  batch = {
    'observation': {
      'pixels': jax.random.randint(rng_key, (2, 4, 32, 32, 3), 0, 256).astype(
        jnp.uint8
      )
    },
    'action': jax.random.normal(rng_key, (2, 3, 10)),
  }

  def loss(variables):
    return family.loss(variables, None, batch, rng_key)[0]

  gradient = jax.jit(jax.grad(loss))(variables)
  assert all(not x.any() for x in jax.tree.leaves(gradient['frozen']))
  assert all(
    x.any() for x in jax.tree.leaves(gradient['params']['predictor']['output'])
  )
  with pytest.raises(ValueError, match='T at least 3'):
    family.loss(
      variables,
      None,
      jax.tree.map(lambda x: x[:, : 2 - (x.ndim == 3)], batch),
      rng_key,
    )


def test_a_planner_works_with_it(rng_key):
  family = tiny(state_dim=0, action_dim=2, action_block=5, predictor_depth=1)
  variables, latents, _ = random_state(rng_key, family, 2)
  statistics = units.ActionStatistics(
    np.zeros(2, np.float32), np.ones(2, np.float32)
  )
  model = world_model.WorldModel(family, variables, statistics)
  root = Root(model.latent_state(variables, latents[:, :1]), latents[:, 1])
  plan = planning.cem_plan(
    variables,
    rng_key,
    root,
    model.dynamics,
    model.cost,
    horizon=2,
    action_dim=10,
    num_samples=8,
    num_elites=2,
    num_iterations=2,
  )
  assert plan.actions.shape == (2, 2, 10)
  assert np.isfinite(plan.cost).all()


def test_a_v_jepa_of_ours_is_frozen(rng_key, tmp_path):
  trained = families.VJEPA(
    image_size=32,
    patch_size=4,
    num_frames=4,
    encoder_dim=24,
    encoder_depth=1,
    encoder_heads=2,
    encoder_mlp_dim=16,
    predictor_dim=12,
    predictor_depth=1,
    predictor_heads=1,
    predictor_mlp_dim=8,
  )
  draw = np.random.default_rng(0)
  variables = jax.tree.map(
    lambda x: draw.normal(0, 0.3, x.shape).astype(np.float32),
    families.inference_shapes(trained),
  )
  world_model.WorldModel(trained, variables, None).save(tmp_path / 'vjepa')
  encoder, frozen = frozen_encoders.read(tmp_path / 'vjepa')
  assert encoder == trained
  family = tiny(encoder=encoder, predictor_depth=1)
  assert family.encoder_grid == (8, 8, 24)
  frozen_encoders.check(family, frozen, where='here')
  # The moving average, which is what it encodes with.
  started = jax.tree.map(
    lambda x: draw.normal(0, 0.3, x.shape).astype(np.float32),
    jax.eval_shape(family.init, rng_key),
  )
  started['frozen'] = frozen
  pixels = draw.integers(0, 256, (1, 3, 32, 32, 3), np.uint8)
  states = draw.uniform(size=(1, 3, 7)).astype(np.float32)
  latents = jax.jit(family.encode)(started, pixels, states)
  # Each frame alone, twice in a clip.
  clips = np.repeat(pixels[0, :, None], 2, axis=1)
  tokens = np.array(jax.jit(trained.tokens)(variables, clips))
  tokens = tokens - tokens.mean(-1, keepdims=True)
  tokens /= np.sqrt(np.square(tokens).mean(-1, keepdims=True) + 1e-5)
  np.testing.assert_allclose(
    latents[0, :, :-7], tokens.reshape(3, -1), rtol=0, atol=2e-5
  )
  np.testing.assert_array_equal(latents[..., -7:], states)
  batch = {
    'observation': {'pixels': pixels, 'proprio': states},
    'action': 0.1 * states[:, 1:],
  }
  loss, (metrics, _, _) = jax.jit(family.loss)(started, None, batch, rng_key)
  assert np.isfinite(loss) and metrics['rollout'] > 0


def test_bad_fields_are_named():
  with pytest.raises(ValueError, match='state_dim must be 0, or 7'):
    tiny(state_dim=7, action_dim=2)
  with pytest.raises(ValueError, match='rollout_steps=5 must be at most'):
    tiny(rollout_steps=5)
  with pytest.raises(ValueError, match='predictor_heads=3'):
    tiny(predictor_heads=3)


def test_latents_without_their_states_are_refused(rng_key):
  family = tiny()
  variables, latents, actions = random_state(rng_key, family)
  with pytest.raises(ValueError, match='384 numbers of tokens and 7'):
    family.predict(variables, latents[..., :-7], actions[:, :1])


def test_the_config_comes_back(rng_key):
  family = tiny()
  config = json.loads(json.dumps(families.to_config(family)))
  assert config['encoder']['name'] == 'lewm'
  assert families.from_config(config) == family
