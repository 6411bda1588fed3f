import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from jepa_wm import fields, units, world_model
from jepa_wm.models import lewm, pldm
from jepa_wm.objectives import vcreg

TERMS = {
  'prediction': {'steps': 3},
  'vcreg': {},
  'temporal_similarity': {'weight': 0.2},
  'inverse_dynamics': {'weight': 0.5, 'hidden_dim': 6},
}


def build(history=1, memory_dim=0, **changes):
  gru = {'name': 'recurrent', 'history': history, 'memory_dim': memory_dim}
  return tiny.build(
    name='pldm',
    projector={'norm': 'none'},
    predictor=gru,
    **{'terms': TERMS, **changes},
  )


SMALL = build()
PROPRIO = build(
  encoder={
    'name': 'fused',
    'pixels': tiny.CONFIG['encoder'],
    'proprio': {'dim': 2, 'scale': 10.0},
  }
)


def test_the_defaults_are_stable_worldmodels():
  config = fields.to_dict(pldm.PLDM())
  assert config['predictor']['name'] == 'causal'
  assert config['terms']['prediction']['steps'] == 1
  assert config['terms']['temporal_similarity'] == {'weight': 0.2}
  assert config['terms']['vcreg'] == {
    'variance': 18.0,
    'covariance': 12.0,
    'time_variance': 0.7,
    'time_covariance': 0.0,
  }
  # The same modules as LeWM, no head that no term asks for.
  sizes = [
    sum(
      x.size
      for x in jax.tree.leaves(
        jax.eval_shape(config.build().init, jax.random.key(0))
      )
    )
    for config in (pldm.PLDM(), lewm.LeWM())
  ]
  assert sizes[0] == sizes[1]


def test_loss_is_its_formula():
  batch, variables = tiny.batch(), tiny.start(SMALL)
  losses = jax.jit(SMALL.losses)(variables, batch, jax.random.key(5))
  z = np.asarray(jax.jit(SMALL.encode)(variables, batch['observation']))
  np.testing.assert_allclose(losses.latents, z, atol=1e-5)
  # Frame by frame, as a planner steps, from every frame that reaches so far.
  errors, advance = [], jax.jit(SMALL.advance)
  for step in (1, 2, 3):
    first = jnp.asarray(z[:, : 5 - step, None])
    state = SMALL.start(variables, first, jnp.zeros((8, 5 - step, 0, 6)))
    for j in range(step):
      actions = batch['action'][:, j : 5 - step + j]
      state = advance(variables, state, jnp.asarray(actions))
    errors.append(np.square(SMALL.read(state) - z[:, step:]).mean())
  inferred = SMALL.networks.apply(
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
    np.testing.assert_allclose(
      losses.metrics[name], value, rtol=1e-4, err_msg=name
    )
  weights = (1, 0.2, 0.5, 18, 12, 0.7)
  total = sum(w * losses.metrics[x] for w, x in zip(weights, expected))
  np.testing.assert_allclose(losses.loss, total, rtol=1e-5)


@pytest.mark.slow
def test_steps_are_those_of_the_window():
  model = build(history=3)
  variables = tiny.start(model)
  rng = np.random.default_rng(2)
  latents = rng.normal(size=(2, 3, 4)).astype(np.float32)
  actions = rng.normal(size=(2, 8, 6)).astype(np.float32)
  state = model.start(variables, latents[:, :2], actions[:, :1])
  advance, predict = jax.jit(model.advance), jax.jit(model.predict)
  seen = latents[:, :2]
  for t in range(1, 6):
    first = max(0, t - 2)
    window = seen[:, first : t + 1]
    expected = predict(variables, window, actions[:, first : t + 1])
    state = advance(variables, state, actions[:, t])
    newest = model.read(state)
    np.testing.assert_allclose(newest, expected[:, -1], rtol=1e-4, atol=1e-5)
    seen = np.concatenate([seen, newest[:, None]], axis=1)


def test_the_state_of_the_body_is_seen():
  batch = tiny.batch(proprio=True)
  seen = batch['observation']
  further = {**seen, 'proprio': seen['proprio'] + 10}
  dark = {**seen, 'pixels': 255 - seen['pixels']}
  variables = tiny.start(PROPRIO)
  encode = jax.jit(PROPRIO.encode)
  plain = encode(variables, seen)
  for other in (further, dark):
    assert np.abs(encode(variables, other) - plain).max() > 0.01
  losses = jax.jit(PROPRIO.losses)(variables, batch, jax.random.key(0))
  assert np.isfinite(losses.loss)
  np.testing.assert_allclose(losses.latents, plain, atol=1e-5)

  model = build(encoder={'name': 'state', 'dim': 2, 'scale': 10.0})
  assert set(model.observation_spec) == {'proprio'}
  variables = tiny.start(model)
  encode = jax.jit(model.encode)
  plain = encode(variables, {'proprio': seen['proprio']})
  moved = encode(variables, {'proprio': further['proprio']})
  assert np.abs(moved - plain).max() > 0.01


@pytest.mark.slow
def test_a_world_model_passes_the_state_on():
  batch, variables = tiny.batch(proprio=True), tiny.start(PROPRIO)
  statistics = units.ActionStatistics(np.zeros(2), np.ones(2))
  model = world_model.WorldModel(PROPRIO, variables, statistics)
  seen = batch['observation']
  latents = jax.jit(PROPRIO.encode)(variables, seen)
  now, goal = ({name: x[:, t] for name, x in seen.items()} for t in (0, 1))
  root = jax.jit(model.root)(variables, now, goal)
  np.testing.assert_allclose(model.latent(root.state), latents[:, 0], atol=1e-5)
  np.testing.assert_allclose(root.goal, latents[:, 1], atol=1e-5)
  metrics, found = jax.jit(PROPRIO.evaluate)(variables, batch)
  np.testing.assert_allclose(found, latents, atol=1e-5)
  assert np.isfinite(metrics['rollout_error'])
  with pytest.raises(ValueError, match="'proprio' is missing"):
    model.root(variables, {'pixels': now['pixels']}, goal)


def test_bad_states():
  seen = tiny.batch(proprio=True)['observation']
  variables = jax.eval_shape(PROPRIO.init, jax.random.key(0))
  short = {**seen, 'proprio': seen['proprio'][..., :1]}
  with pytest.raises(ValueError, match=r'\[..., 2\], got \[8, 5, 1\]'):
    PROPRIO.encode(variables, short)
