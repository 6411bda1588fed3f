import functools
import json

import golden_files
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jepa_wm import exports, fields, models, planning, units
from jepa_wm.interop import vjepa2_ac as layout
from jepa_wm.networks import poses
from jepa_wm.objectives import teacher_forcing, terms
from jepa_wm.recipes import frozen_encoders
from jepa_wm.types import Root

CONV = {
  'name': 'conv',
  'image_size': 32,
  'channels': (24,),
  'strides': (8,),
  'blocks': (0,),
  'features': 8,
}
STATELESS = {'action_dim': 2, 'action_block': 5}


def build(encoder=CONV, state_dim=7, steps=2, predictor=None, **changes):
  return models.from_config(
    {
      'name': 'vjepa2_ac',
      'encoder': {'encoder': encoder, 'proprio_dim': state_dim},
      'predictor': {
        'history': 4,
        'width': 32,
        'depth': 2,
        'num_heads': 2,
        'mlp_dim': 128,
        **(predictor or {}),
      },
      'terms': {'teacher_forcing': {'steps': steps}},
      **changes,
    }
  )


@pytest.fixture(scope='module')
def golden():
  data, meta = golden_files.load('vjepa2_ac_tiny')
  config = meta['config']
  tensors = golden_files.state_dict(data)
  height, width = config['grid_hw']
  assert height == width
  model = build(
    encoder={
      **CONV,
      'image_size': 8 * height,
      'channels': (config['embed_dim'],),
    },
    state_dim=config['state_dim'],
    steps=config['auto_steps'],
    action_dim=config['action_dim'],
    predictor={
      'history': config['frames'],
      'width': config['width'],
      'depth': config['layers'],
      'num_heads': config['heads'],
      'mlp_dim': len(tensors['predictor_blocks.0.mlp.fc1.weight']),
    },
  )
  predictor = layout.to_variables(tensors)['params']
  z = data['z'].reshape(*data['states'].shape[:2], -1)
  latents = jnp.concatenate([z, data['states']], axis=-1)
  variables = {'params': {'predictor': {'core': predictor}}}
  return model, data, variables, latents


def test_equals_the_published_outputs(golden):
  model, data, variables, latents = golden
  with jax.default_matmul_precision('highest'):
    forced = jax.jit(model.predict)(
      variables, latents[:, :-1], data['actions'][:, :-1]
    )
  expected = data['out/teacher_forcing']
  tokens = forced[..., : -model.state_dim].reshape(expected.shape)
  golden_files.close(tokens, expected, 1e-5)


def test_equals_the_published_losses_and_gradients(golden):
  model, data, variables, latents = golden
  batch = {'latents': latents, 'action': data['actions'][:, :-1]}

  def total(variables):
    losses = model.losses(variables, batch, jax.random.key(0))
    return losses.loss, losses.metrics

  with jax.default_matmul_precision('highest'):
    grad_fn = jax.jit(jax.value_and_grad(total, has_aux=True))
    (loss, found), gradient = grad_fn(variables)
  golden_files.close(loss, data['loss/total'], 5e-6)
  for name in ('teacher_forcing', 'rollout'):
    golden_files.close(found[name], data[f'loss/{name}'], 1e-5)
  gradient = layout.to_tensors(
    {'params': gradient['params']['predictor']['core']}
  )
  names = [k for k in data if k.startswith('grad/')]
  assert names
  for name in names:
    tensor = gradient[name.removeprefix('grad/')]
    golden_files.close(tensor, data[name], 1e-4, name)


def start(model):
  """Variables of all sizes, drawn by NumPy: compiling `init` takes longer."""
  draw = np.random.default_rng(0)
  shapes = jax.eval_shape(model.init, jax.random.key(0))
  return jax.tree.map(
    lambda x: jnp.asarray(draw.normal(0, 0.1, x.shape), x.dtype), shapes
  )


def random_state(rng_key, model, num_frames=1):
  keys = jax.random.split(rng_key, 4)
  variables = start(model)
  pixels = jax.random.randint(keys[1], (2, num_frames, 32, 32, 3), 0, 256)
  observation = {'pixels': pixels.astype(jnp.uint8)}
  if model.state_dim:
    proprio = jax.random.uniform(keys[2], (2, num_frames, 7))
    observation['proprio'] = proprio
  latents = jax.jit(model.encode)(variables, observation)
  size = model.action_spec.size
  actions = 0.1 * jax.random.normal(keys[3], (2, 6, size))
  return variables, latents, actions


@pytest.mark.parametrize(
  'changes',
  [
    pytest.param({}, marks=pytest.mark.slow),
    {'state_dim': 0, **STATELESS},
  ],
)
def test_steps_equal_predictions_of_the_window(rng_key, changes):
  # Longer than the window, so that it slides.
  model = build(predictor={'history': 2, 'depth': 1}, **changes)
  variables, latents, actions = random_state(rng_key, model, 2)
  state = model.start(variables, latents, actions[:, :1])
  window, blocks = latents, actions[:, :1]
  for t in range(1, 3):
    state = jax.jit(model.advance)(variables, state, actions[:, t])
    blocks = jnp.concatenate([blocks, actions[:, t : t + 1]], axis=1)[:, -2:]
    after = jax.jit(model.predict)(
      variables, window, blocks[:, -window.shape[1] :]
    )
    window = jnp.concatenate([window, after[:, -1:]], axis=1)[:, -2:]
    np.testing.assert_allclose(model.read(state), window[:, -1], atol=1e-5)


def test_a_pose_is_integrated_as_scipy_does(rng_key):
  keys = jax.random.split(rng_key)
  state = jax.random.uniform(keys[0], (50, 7), minval=-1.4, maxval=1.4)
  action = jax.random.uniform(keys[1], (50, 7), minval=-0.1, maxval=0.1)
  after = np.asarray(poses.integrate(state, action))
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
  model = build()
  variables, latents, actions = random_state(rng_key, model)
  state = model.start(variables, latents, actions[:, :0])
  state = jax.jit(model.advance)(variables, state, actions[:, 0])
  np.testing.assert_allclose(
    model.read(state)[:, -7:],
    poses.integrate(latents[:, 0, -7:], actions[:, 0]),
    atol=1e-6,
  )


def test_the_energy_is_the_mean_distance_of_tokens(rng_key):
  model = build()
  _, latents, _ = random_state(rng_key, model)
  goal = latents[..., :-7] + 0.5
  np.testing.assert_allclose(model.distance(latents, goal), 0.5, rtol=1e-5)


@pytest.mark.slow
def test_the_loss_trains_the_predictor_alone(rng_key):
  model = build(state_dim=0, predictor={'depth': 1}, **STATELESS)
  variables = start(model)
  batch = {
    'observation': {
      'pixels': jax.random.randint(rng_key, (2, 4, 32, 32, 3), 0, 256).astype(
        jnp.uint8
      )
    },
    'action': jax.random.normal(rng_key, (2, 3, 10)),
  }

  def loss(variables):
    return model.losses(variables, batch, rng_key).loss

  gradient = jax.jit(jax.grad(loss))(variables)
  assert all(not x.any() for x in jax.tree.leaves(gradient['frozen']))
  assert all(
    x.any()
    for x in jax.tree.leaves(gradient['params']['predictor']['core']['output'])
  )
  with pytest.raises(ValueError, match='T at least 3'):
    model.losses(
      variables,
      jax.tree.map(lambda x: x[:, : 2 - (x.ndim == 3)], batch),
      rng_key,
    )


@pytest.mark.slow
def test_a_planner_works_with_it(rng_key):
  model = build(state_dim=0, predictor={'depth': 1}, **STATELESS)
  variables, latents, _ = random_state(rng_key, model, 2)
  statistics = units.ActionStatistics(
    np.zeros(2, np.float32), np.ones(2, np.float32)
  )
  model = exports.WorldModel(model, variables, statistics)
  root = Root(model.start_from(variables, latents[:, :1]), latents[:, 1])
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


@pytest.mark.slow
def test_a_v_jepa_of_ours_is_frozen(rng_key, tmp_path):
  video = {
    'name': 'video_vit',
    'image_size': 32,
    'patch_size': 4,
    'num_frames': 4,
    'width': 24,
    'depth': 1,
    'num_heads': 2,
    'mlp_dim': 16,
  }
  trained = models.from_config(
    {
      'name': 'vjepa',
      'encoder': video,
      'predictor': {'width': 12, 'depth': 1, 'num_heads': 1, 'mlp_dim': 8},
    }
  )
  draw = np.random.default_rng(0)
  fill = lambda x: draw.normal(0, 0.3, x.shape).astype(np.float32)
  variables = jax.tree.map(fill, exports.inference_shapes(trained))
  exports.WorldModel(trained, variables, None).save(tmp_path / 'vjepa')
  model = build(encoder=video, predictor={'depth': 1})
  assert model.config.encoder.grid == (8, 8)
  # The moving average, which is what it encodes with.
  frozen = frozen_encoders.adopt(model, tmp_path / 'vjepa')
  started = jax.tree.map(fill, jax.eval_shape(model.init, rng_key))
  started['frozen'] = frozen
  pixels = draw.integers(0, 256, (1, 3, 32, 32, 3), np.uint8)
  states = draw.uniform(size=(1, 3, 7)).astype(np.float32)
  observation = {'pixels': pixels, 'proprio': states}
  latents = jax.jit(model.encode)(started, observation)
  # Each frame alone, twice in a clip.
  clips = {'pixels': np.repeat(pixels[0, :, None], 2, axis=1)}
  encode = jax.jit(functools.partial(trained.encode, tokens=True))
  tokens = np.array(encode(variables, clips))
  tokens = tokens - tokens.mean(-1, keepdims=True)
  tokens /= np.sqrt(np.square(tokens).mean(-1, keepdims=True) + 1e-5)
  np.testing.assert_allclose(
    latents[0, :, :-7], tokens.reshape(3, -1), rtol=0, atol=2e-5
  )
  np.testing.assert_array_equal(latents[..., -7:], states)
  batch = {'observation': observation, 'action': 0.1 * states[:, 1:]}
  losses = jax.jit(model.losses)(started, batch, rng_key)
  assert np.isfinite(losses.loss) and losses.metrics['rollout'] > 0


def test_bad_fields_are_named():
  with pytest.raises(ValueError, match='proprio_dim must be 0, or 7'):
    build(state_dim=7, action_dim=2)
  with pytest.raises(
    ValueError, match=r'teacher_forcing.steps=5 must be at mo'
  ):
    build(steps=5)
  with pytest.raises(ValueError, match='num_heads=3'):
    build(predictor={'num_heads': 3})


def test_latents_without_their_states_are_goals_and_no_starts(rng_key):
  model = build()
  variables, latents, actions = random_state(rng_key, model)
  goal = latents[..., :-7]
  assert model.distance(latents, goal).shape == latents.shape[:-1]
  with pytest.raises(ValueError, match='7 numbers of them the state'):
    model.start(variables, goal, actions[:, :0])


def test_the_config_comes_back():
  model = build()
  config = json.loads(json.dumps(fields.to_dict(model.config)))
  assert config['encoder']['encoder']['name'] == 'conv'
  assert models.from_config(config) == model


def test_the_rollout_loss_of_the_text_is_that_of_its_last_step():
  rng = np.random.default_rng(0)
  pairs = [
    tuple(rng.normal(size=(2, t, 3)).astype(np.float32) for _ in range(2))
    for t in (4, 3)
  ]
  outcome = terms.Outcome(jnp.zeros((2, 5, 3)), pairs)
  for rollout, kept in (('mean', slice(None)), ('last', slice(2, None))):
    term = teacher_forcing.TeacherForcing(steps=3, rollout=rollout)
    values = term.price(outcome, jax.random.key(0)).values
    after, came = (x[:, kept] for x in pairs[1])
    np.testing.assert_allclose(
      values['rollout'], np.abs(after - came).mean(), rtol=1e-6
    )
    np.testing.assert_allclose(
      values['teacher_forcing'],
      np.abs(pairs[0][0] - pairs[0][1]).mean(),
      rtol=1e-6,
    )
  with pytest.raises(ValueError, match="rollout='last' would do nothing"):
    teacher_forcing.TeacherForcing(steps=1, rollout='last')
