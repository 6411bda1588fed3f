import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm import families, jepa, units, world_model
from jepa_wm.evaluation.diagnostics import held_out
from jepa_wm.families import PLDM
from jepa_wm.objectives import vcreg

SMALL = PLDM(
  image_size=8,
  action_dim=2,
  action_block=3,
  history=1,
  latent_dim=4,
  encoder='conv',
  encoder_features=6,
  encoder_channels=(3,),
  encoder_strides=(4,),
  encoder_blocks=(0,),
  projector_dim=5,
  projector_norm='none',
  predictor='recurrent',
  predictor_dim=4,
  dropout=0.0,
  rollout_steps=3,
  inverse_dynamics_weight=0.5,
  inverse_dynamics_dim=6,
)
PROPRIO = dataclasses.replace(SMALL, proprio_dim=2, proprio_scale=10.0)


def draw_batch():
  draw = np.random.default_rng(1)
  pixels = draw.integers(0, 256, (8, 5, 8, 8, 3), np.uint8)
  action = draw.normal(size=(8, 4, 6)).astype(np.float32)
  return {
    'observation': {
      'pixels': pixels,
      'proprio': 10 * draw.normal(size=(8, 5, 2)).astype(np.float32),
    },
    'action': action,
  }


def start(family):
  """Variables as after some training, drawn by NumPy."""
  draw = np.random.default_rng(0)
  shapes = jax.eval_shape(family.init, jax.random.key(0))
  fill = lambda x: jnp.asarray(
    draw.normal(0, 0.3 if x.ndim == 1 else x.shape[-2] ** -0.5, x.shape),
    x.dtype,
  )
  return jax.tree.map(fill, shapes)


def test_the_defaults_are_stable_worldmodels():
  config = families.to_config(PLDM())
  expected = {
    'regularizer': 'vcreg',
    'variance_weight': 18.0,
    'covariance_weight': 12.0,
    'time_variance_weight': 0.7,
    'time_covariance_weight': 0.0,
    'temporal_similarity_weight': 0.2,
    'inverse_dynamics_weight': 0.0,
    'rollout_steps': 1,
    'predictor': 'causal',
  }
  assert expected.items() <= config.items()
  assert families.from_config(json.loads(json.dumps(config))) == PLDM()
  # The same modules as LeWM, none for a term without weight.
  sizes = [
    sum(x.size for x in jax.tree.leaves(jax.eval_shape(f.init, rng_key)))
    for rng_key in [jax.random.key(0)]
    for f in (PLDM(), families.LeWM())
  ]
  assert sizes[0] == sizes[1]


def test_loss_is_its_formula():
  batch, variables = draw_batch(), start(SMALL)
  loss, (metrics, _, latents) = jax.jit(SMALL.loss)(
    variables, None, batch, jax.random.key(5)
  )
  z = np.asarray(
    jax.jit(SMALL.encode)(variables, batch['observation']['pixels'])
  )
  np.testing.assert_allclose(latents, z, atol=1e-5)
  # Frame by frame, as a planner steps, from every frame that reaches so far.
  errors, one_step = [], jax.jit(SMALL.step)
  for step in (1, 2, 3):
    state = jepa.LatentState(jnp.asarray(z[:, : 5 - step, None]))
    for j in range(step):
      actions = batch['action'][:, j : 5 - step + j]
      state = one_step(variables, state, jnp.asarray(actions))
    errors.append(np.square(state.latents[:, :, 0] - z[:, step:]).mean())
  inferred = SMALL.model().apply(
    variables, jnp.asarray(z), method='infer_actions'
  )
  terms = vcreg.vcreg(jnp.asarray(z))
  expected = {
    'prediction_loss': np.mean(errors),
    'temporal_similarity': np.square(np.diff(z, axis=1)).mean(),
    'inverse_dynamics': np.square(inferred - batch['action']).mean(),
    'variance': terms.variance,
    'covariance': terms.covariance,
    'time_variance': terms.time_variance,
  }
  for name, value in expected.items():
    np.testing.assert_allclose(metrics[name], value, rtol=1e-4, err_msg=name)
  weights = (1, 0.2, 0.5, 18, 12, 0.7)
  total = sum(w * metrics[name] for w, name in zip(weights, expected))
  np.testing.assert_allclose(loss, total, rtol=1e-5)


@pytest.mark.parametrize('memory_dim', [0, 3])
def test_steps_are_those_of_the_window(memory_dim):
  family = dataclasses.replace(SMALL, history=3, memory_dim=memory_dim)
  variables = start(family)
  rng = np.random.default_rng(2)
  latents = rng.normal(size=(2, 3, 4)).astype(np.float32)
  actions = rng.normal(size=(2, 8, 6)).astype(np.float32)
  state = family.initial_state(variables, latents[:, :2], actions[:, :1])
  step, predict = jax.jit(family.step), jax.jit(family.predict)
  seen = latents[:, :2]
  for t in range(1, 6):
    first = max(0, t - 2)
    window = seen[:, first : t + 1]
    expected = predict(variables, window, actions[:, first : t + 1])
    state = step(variables, state, actions[:, t])
    np.testing.assert_allclose(
      state.latents[:, -1], expected[:, -1], rtol=1e-4, atol=1e-5
    )
    assert state.latents.shape[1] <= 3
    seen = np.concatenate([seen, state.latents[:, -1:]], axis=1)


def test_the_state_of_the_body_is_seen():
  batch = draw_batch()
  pixels, proprio = (batch['observation'][x] for x in ('pixels', 'proprio'))
  variables = start(PROPRIO)
  encode = jax.jit(PROPRIO.encode)
  plain = encode(variables, pixels, proprio)
  moved = encode(variables, pixels, proprio + 10)
  dark = encode(variables, 255 - pixels, proprio)
  for other in (moved, dark):
    assert np.abs(other - plain).max() > 0.01
  loss, (_, _, latents) = jax.jit(PROPRIO.loss)(
    variables, None, batch, jax.random.key(0)
  )
  assert np.isfinite(loss)
  np.testing.assert_allclose(latents, plain, atol=1e-5)

  family = dataclasses.replace(PROPRIO, encoder='state')
  variables = start(family)
  encode = jax.jit(family.encode)
  plain = encode(variables, pixels, proprio)
  dark = encode(variables, 255 - pixels, proprio)
  np.testing.assert_array_equal(plain, dark)
  moved = encode(variables, pixels, proprio + 10)
  assert np.abs(moved - plain).max() > 0.01


def test_a_world_model_passes_the_state_on():
  batch, variables = draw_batch(), start(PROPRIO)
  statistics = units.ActionStatistics(np.zeros(2), np.ones(2))
  model = world_model.WorldModel(PROPRIO, variables, statistics)
  pixels, proprio = (batch['observation'][x] for x in ('pixels', 'proprio'))
  latents = jax.jit(PROPRIO.encode)(variables, pixels, proprio)
  root = jax.jit(model.root)(
    variables,
    pixels[:, 0],
    pixels[:, 1],
    proprio=proprio[:, 0],
    goal_proprio=proprio[:, 1],
  )
  np.testing.assert_allclose(root.state.latents[:, 0], latents[:, 0], atol=1e-5)
  np.testing.assert_allclose(root.goal, latents[:, 1], atol=1e-5)
  metrics, seen = held_out.make_eval_step(model)(variables, batch)
  np.testing.assert_allclose(seen, latents, atol=1e-5)
  assert np.isfinite(metrics['rollout_error'])
  with pytest.raises(ValueError, match='proprio must be'):
    model.root(variables, pixels[:, 0], pixels[:, 1])


@pytest.mark.parametrize(
  'fields, message',
  [
    ({'predictor': 'gru'}, "predictor must be one of .*'gru'"),
    ({'memory_dim': 3, 'predictor': 'causal'}, "set predictor='recurrent'"),
    ({'memory_dim': -1}, 'memory_dim must be an integer of at least 0'),
    ({'encoder': 'state'}, 'set proprio_dim to the size of the state'),
    ({'proprio_scale': 0.0}, 'proprio_scale must be positive'),
    ({'scheduled_sampling': 1.5}, 'scheduled_sampling must be at most 1'),
  ],
)
def test_bad_fields(fields, message):
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(SMALL, **fields)


def test_bad_states():
  seen = draw_batch()['observation']
  variables = jax.eval_shape(PROPRIO.init, jax.random.key(0))
  with pytest.raises(ValueError, match=r'proprio must be \[8, 5, 2\] .* None'):
    PROPRIO.encode(variables, seen['pixels'])
  with pytest.raises(ValueError, match=r'\[8, 5, 2\] .*got \[8, 5, 1\]'):
    PROPRIO.encode(variables, seen['pixels'], seen['proprio'][..., :1])
  with pytest.raises(ValueError, match=r'None for proprio_dim=0'):
    SMALL.encode(variables, seen['pixels'], seen['proprio'])
