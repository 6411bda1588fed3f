import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jepa_wm.families import learner as learner_lib
from jepa_wm.families import on_latents

from jepa_wm import families
from jepa_wm.training import optimizers
from jepa_wm.training import state as state_lib
from jepa_wm.training import step as step_lib

FAMILY = families.LeWM(
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
  projector_norm='none',
  predictor_dim=4,
  predictor_depth=1,
  predictor_heads=1,
  predictor_head_dim=4,
  predictor_mlp_dim=8,
  dropout=0.0,
  num_projections=8,
  rollout_steps=2,
  prediction_gradient=0.0,
)


@pytest.fixture
def variables():
  draw = np.random.default_rng(0)
  fill = lambda leaf: jnp.asarray(draw.normal(0, 0.5, leaf.shape), jnp.float32)
  return jax.tree.map(fill, FAMILY.init(jax.random.key(0)))


@pytest.fixture
def batch():
  draw = np.random.default_rng(1)
  return {
    'observation': {'pixels': draw.integers(0, 256, (6, 5, 8, 8, 3), np.uint8)},
    'action': draw.normal(size=(6, 4, 6)).astype(np.float32),
  }


def encoded(variables, batch):
  latents = FAMILY.encode(variables, batch['observation']['pixels'])
  return {'latents': latents, 'action': batch['action']}


def test_the_predictor_learns_what_it_would_from_pixels(variables, batch):
  whole = lambda params: FAMILY.loss(
    {**variables, 'params': params}, None, batch, jax.random.key(1)
  )
  (_, (expected, _, _)), gradient = jax.value_and_grad(whole, has_aux=True)(
    variables['params']
  )
  given = encoded(variables, batch)
  parts = on_latents.split(variables)
  learner = families.OnLatents(FAMILY)
  ours = lambda params: learner.loss(
    {**parts, 'params': params}, None, given, jax.random.key(1)
  )
  (loss, (metrics, _, latents)), found = jax.value_and_grad(ours, has_aux=True)(
    parts['params']
  )
  np.testing.assert_array_equal(latents, given['latents'])
  assert set(metrics) == {
    'loss',
    'prediction_loss',
    'prediction_loss_step_1',
    'prediction_loss_step_2',
  }
  np.testing.assert_allclose(loss, metrics['prediction_loss'])
  for name, value in metrics.items():
    if name != 'loss':
      np.testing.assert_allclose(value, expected[name], rtol=1e-5)
  # No gradient reaches the encoder here, so the rest has all of it.
  assert set(found) == set(gradient) - {'encoder', 'projector'}
  for name, module in found.items():
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
      module,
      gradient[name],
    )


def test_splitting_and_merging_lose_nothing(variables):
  parts = on_latents.split(variables)
  assert set(parts['frozen']['params']) == {'encoder', 'projector'}
  jax.tree.map(
    np.testing.assert_array_equal, on_latents.merge(parts), variables
  )


@pytest.mark.parametrize('norm', ['none', 'batch'])
def test_updates_leave_what_encodes(norm, batch):
  family = dataclasses.replace(FAMILY, projector_norm=norm)
  learner = learner_lib.Learner(families.OnLatents(family))
  optimizer = optimizers.AdamW(
    num_steps=2, learning_rate=0.1, weight_decay=0.1
  ).transformation()
  state = state_lib.create(learner, optimizer, jax.random.key(0))
  before = jax.device_get(state.variables)
  update = step_lib.make_train_step(
    learner, optimizer, jax.make_mesh((1,), ('data',))
  )
  whole = learner.for_inference(before)
  given = {
    'latents': family.encode(whole, batch['observation']['pixels']),
    'action': batch['action'],
  }
  for _ in range(2):
    state, metrics = update(state, given)
  assert bool(metrics['finite'])
  after = jax.device_get(state.variables)
  jax.tree.map(np.testing.assert_array_equal, before['frozen'], after['frozen'])
  first, last = (
    families.inference_variables(learner, x, None) for x in (before, after)
  )
  # What the family itself would draw, structure and all.
  jax.tree.map(lambda a, b: None, family.init(jax.random.key(0)), last)
  np.testing.assert_array_equal(
    family.encode(first, batch['observation']['pixels']),
    family.encode(last, batch['observation']['pixels']),
  )
  predict = lambda variables: family.predict(
    variables, given['latents'][:, :2], batch['action'][:, :2]
  )
  assert not np.allclose(predict(first), predict(last))


@pytest.mark.parametrize(
  'latents, message',
  [
    ((6, 5, 3), r'latents must be \[B, T, 4\] with T at least 4'),
    ((6, 3, 4), r'got shape \(6, 3, 4\)'),
    ((6, 5, 1, 4), r'got shape \(6, 5, 1, 4\)'),
    ((6, 4, 4), r'actions must be \[6, 3, 6\]'),
  ],
)
def test_latents_of_another_shape_are_refused(
  variables, batch, latents, message
):
  batch = {'latents': jnp.zeros(latents), 'action': batch['action']}
  with pytest.raises(ValueError, match=message):
    FAMILY.loss(variables, None, batch, jax.random.key(0))
