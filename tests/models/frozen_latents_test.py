"""What trains on latents that are given, and what stays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from jepa_wm.models import targets
from jepa_wm.training import optimizers
from jepa_wm.training import state as state_lib
from jepa_wm.training import step as step_lib

TERMS = {'prediction': {'steps': 2, 'gradient': 0.0}}
NO_NORM = {'norm': 'none'}
WHOLE = tiny.build(projector=NO_NORM, terms=TERMS)


def frozen(norm='none', **changes):
  return tiny.build(
    projector={'norm': norm},
    **{'terms': {'prediction': {'steps': 2}}, **changes},
    target={'name': 'frozen'},
  )


@pytest.fixture
def variables():
  return tiny.start(WHOLE)


@pytest.fixture
def batch():
  return tiny.batch()


def encoded(model, variables, batch):
  latents = model.features(variables, batch['observation'])
  return {'latents': latents, 'action': batch['action']}


def test_the_predictor_learns_what_it_would_from_pixels(variables, batch):
  expected, gradient = tiny.gradient(WHOLE, variables, batch, jax.random.key(1))
  model = frozen()
  parts = model.target.split(variables)
  given = encoded(model, parts, batch)
  losses, found = tiny.gradient(model, parts, given, jax.random.key(1))
  np.testing.assert_array_equal(losses.latents, given['latents'])
  assert set(losses.metrics) == {
    'loss',
    'prediction_loss',
    'prediction_loss_step_1',
    'prediction_loss_step_2',
  }
  for name, value in losses.metrics.items():
    np.testing.assert_allclose(value, expected.metrics[name], rtol=1e-5)
  # No gradient reaches the encoder here, so the rest has all of it.
  assert set(found) == set(gradient) - {'encoder', 'projector'}
  for name, module in found.items():
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
      module,
      gradient[name],
    )
  # Frames, where something augments them, give the same.
  shown, again = tiny.gradient(model, parts, batch, jax.random.key(1))
  np.testing.assert_allclose(shown.loss, losses.loss, rtol=1e-6)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
    found,
    again,
  )


@pytest.mark.slow
@pytest.mark.parametrize('norm', ['none', 'batch'])
def test_updates_leave_what_encodes(norm, batch):
  model = frozen(norm)
  optimizer = optimizers.AdamW(num_steps=2, learning_rate=0.1, weight_decay=0.1)
  transformation = optimizer.transformation()
  state = state_lib.create(model, transformation, jax.random.key(0))
  before = jax.device_get(state.variables)
  update = step_lib.make_train_step(
    model, transformation, jax.make_mesh((1,), ('data',))
  )
  given = encoded(model, before, batch)
  for _ in range(2):
    state, metrics = update(state, given)
  assert bool(metrics['finite'])
  after = jax.device_get(state.variables)
  jax.tree.map(np.testing.assert_array_equal, before['frozen'], after['frozen'])
  first, last = map(model.for_inference, (before, after))
  # What the model trained as a whole would have, structure and all.
  whole = jax.eval_shape(
    tiny.build(projector={'norm': norm}).init, jax.random.key(0)
  )
  jax.tree.map(lambda a, b: None, whole, last)
  np.testing.assert_array_equal(
    model.encode(first, batch['observation']),
    model.encode(last, batch['observation']),
  )
  predict = lambda variables: model.predict(
    variables, given['latents'][:, :2], batch['action'][:, :2]
  )
  assert not np.allclose(predict(first), predict(last))


@pytest.mark.parametrize(
  'latents, message',
  [
    ((6, 5, 3), r'latents must be \[B, T, 4\] with T at least 4'),
    ((6, 3, 4), r'got shape \(6, 3, 4\)'),
    ((6, 5, 1, 4), r'got shape \(6, 5, 1, 4\)'),
    ((6, 4, 4), r'action must be \[6, 3, 6\]'),
  ],
)
def test_latents_of_another_shape_are_refused(
  variables, batch, latents, message
):
  model = frozen()
  given = {'latents': jnp.zeros(latents), 'action': batch['action'][:6]}
  with pytest.raises(ValueError, match=message):
    model.losses(targets.Frozen().split(variables), given, jax.random.key(0))


def test_terms_that_only_report_may_stay():
  model = frozen(
    terms={'prediction': {}, 'sigreg': {'weight': 0.0}, 'straightening': {}}
  )
  assert model.is_frozen
  with pytest.raises(ValueError, match='info_nce would do nothing'):
    frozen(terms={'prediction': {}, 'info_nce': {}})
