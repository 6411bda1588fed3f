"""The modules of a JEPA, and what encodes its targets."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from jepa_wm.models import targets

EMA = targets.EMA(momentum=0.9, momentum_end=0.9)


@pytest.fixture(scope='module')
def model():
  return tiny.build()


@pytest.fixture(scope='module')
def variables(model):
  # Drawn by NumPy: compiling the init would cost seconds.
  draw = np.random.default_rng(0)
  shapes = jax.eval_shape(model.init, jax.random.key(0))
  return {
    'params': jax.tree.map(
      lambda x: jnp.asarray(draw.normal(0, 0.4, x.shape), x.dtype),
      shapes['params'],
    ),
    'batch_stats': jax.tree.map(
      lambda x: jnp.asarray(draw.uniform(0.5, 1.5, x.shape), x.dtype),
      shapes['batch_stats'],
    ),
  }


def moved(variables):
  online = {k: variables[k] for k in ('params', 'batch_stats')}
  return {**variables, **jax.tree.map(lambda x: x + 1, online)}


def same(a, b):
  assert jax.tree.structure(a) == jax.tree.structure(b)
  jax.tree.map(np.testing.assert_array_equal, a, b)


def test_predicts_from_inputs(model, variables):
  draw = np.random.default_rng(1)
  inputs = draw.normal(size=(6, 2, 8, 8, 3)).astype(np.float32)
  actions = jnp.ones((6, 2, 6))

  @jax.jit
  def run(inputs):
    latents = model.networks.apply(variables, inputs, method='encode')
    predicted = model.networks.apply(
      variables, latents, actions, method='predict'
    )
    return latents, predicted, model.networks.apply(variables, inputs, actions)

  latents, predicted, at_once = run(inputs)
  assert latents.shape == predicted.shape == (6, 2, 4)
  assert latents.dtype == predicted.dtype == jnp.float32
  np.testing.assert_allclose(at_once, predicted, atol=1e-6)
  with pytest.raises(ValueError, match='latents and actions must agree'):
    model.predict(variables, latents, actions[:, :1])


def test_a_shared_target_is_nothing(variables):
  shared = targets.Shared()
  assert shared.split(variables) is variables
  assert shared.after_update(variables, 0) is variables


def test_an_average_copies_encoder_and_projector(variables):
  target = EMA.split(variables)['target']
  assert set(target['params']) == {'encoder', 'projector'}
  assert set(target['batch_stats']) == {'projector'}
  for collection, modules in target.items():
    for name, module in modules.items():
      same(module, variables[collection][name])
  # Copies: the training state is donated.
  jax.tree.map(
    lambda a, b: pytest.fail('the same buffer') if a is b else None,
    target['params']['encoder'],
    variables['params']['encoder'],
  )


def test_an_average_follows(variables):
  start = EMA.split(variables)
  same(EMA.after_update(start, 0), start)
  followed = start
  for step in range(2):
    followed = EMA.after_update(moved(followed | variables), step)
  jax.tree.map(
    lambda new, old: np.testing.assert_allclose(
      new - old, np.full(old.shape, 1 - 0.9**2), rtol=1e-4
    ),
    followed['target'],
    start['target'],
  )
  # Of momentum 1 it is what the encoder was at the start.
  stays = targets.EMA(momentum=1.0, momentum_end=1.0)
  same(stays.after_update(moved(start), 0)['target'], start['target'])


def test_the_momentum_of_an_average_may_rise(variables):
  rising = targets.EMA(momentum=0.5, momentum_end=1.0, momentum_steps=4)
  start = rising.split(variables)
  for step, share in ((0, 0.5), (2, 0.25), (4, 0.0), (9, 0.0)):
    after = rising.after_update(moved(start), step)['target']
    jax.tree.map(
      lambda new, old, share=share: np.testing.assert_allclose(
        new - old, np.full(old.shape, share), atol=1e-5
      ),
      after,
      start['target'],
    )
  for changes, message in (
    ({'momentum': 2.0}, 'momentum must be at most 1'),
    ({'stretch': 0.0}, 'stretch must be above 0'),
    ({'stretch': 1.25, 'momentum_steps': 4}, '1 where target.momentum_steps'),
  ):
    with pytest.raises(ValueError, match=message):
      targets.EMA(**changes)


def test_the_momentum_of_an_average_ends_with_the_run(variables):
  rising = targets.EMA(momentum=0.5, momentum_end=1.0, stretch=1.25)
  assert rising.lasting(100) == targets.EMA(0.5, 1.0, 125)
  assert rising.lasting(100).lasting(7) == rising.lasting(100)
  assert targets.EMA().lasting(100) == targets.EMA()
  assert targets.Shared().lasting(100) == targets.Shared()
  with pytest.raises(ValueError, match='reached with the run'):
    rising.after_update(rising.split(variables), 0)


def test_what_is_frozen_is_told_apart_and_put_back(variables):
  frozen = targets.Frozen()
  parts = frozen.split(variables)
  assert set(parts['frozen']['params']) == {'encoder', 'projector'}
  assert not {'encoder', 'projector'} & parts['params'].keys()
  same(targets.merged(parts), variables)
  same(targets.merged(variables), variables)
  assert frozen.after_update(parts, 0) is parts


def test_an_average_normalises_by_the_batch(variables, rng_key):
  plain = tiny.build()
  terms = {'prediction': {}}
  model = tiny.build(terms=terms, target={'name': 'ema'})
  batch = tiny.batch()
  start = model.target.split(variables)
  losses = model.losses(start, batch, rng_key)
  # The average equals the encoder, so both give the batch one latent.
  shared = tiny.build(terms=terms).losses(variables, batch, rng_key)
  np.testing.assert_allclose(losses.loss, shared.loss, rtol=1e-5)
  latents = plain.encode(variables, batch['observation'])
  assert np.abs(latents - losses.latents).max() > 1e-2
