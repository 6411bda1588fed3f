"""A decoder in the model: its loss is the paper's, and reaches the encoder."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from jepa_wm.objectives import reconstruction, terms

TERMS = {
  **tiny.CONFIG['terms'],
  'reconstruction': {'weight': 2.0, 'channels': (3,), 'patch_size': 4},
}


@pytest.fixture(scope='module')
def case():
  model = tiny.build(terms=TERMS)
  return model, tiny.start(model), tiny.batch(num_frames=3)


def test_is_the_squared_error_of_what_is_drawn(case):
  model, variables, batch = case
  losses = jax.jit(model.losses)(variables, batch, jax.random.key(0))
  # Batch statistics and all: latents as the loss saw them.
  drawn = model.networks.decoder.apply(
    {'params': variables['params']['decoder']}, losses.latents
  )
  assert drawn.shape == (8, 3, 8, 8, 3)
  error = np.asarray(drawn) - batch['observation']['pixels'] / 255.0
  np.testing.assert_allclose(
    losses.metrics['reconstruction'], np.mean(error**2), rtol=1e-5
  )


def test_its_weight_is_in_the_loss_and_its_gradient_in_the_encoder(case):
  model, variables, batch = case
  key = jax.random.key(0)
  without = tiny.build(terms=tiny.CONFIG['terms'])
  rest = {x: y for x, y in variables['params'].items() if x != 'decoder'}
  plain, slopes = tiny.gradient(
    without, {**variables, 'params': rest}, batch, key
  )
  whole, grads = tiny.gradient(model, variables, batch, key)
  np.testing.assert_allclose(
    whole.loss, plain.loss + 2.0 * whole.metrics['reconstruction'], rtol=1e-5
  )
  moved = jax.tree.map(
    lambda a, b: float(jnp.abs(a - b).max()),
    grads['encoder'],
    slopes['encoder'],
  )
  assert max(jax.tree.leaves(moved)) > 1e-4
  # Nobody but the encoder hears of it.
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5),
    grads['predictor'],
    slopes['predictor'],
  )


def test_refuses_who_cannot_draw():
  outcome = terms.Outcome(jnp.zeros((2, 3, 4)))
  with pytest.raises(ValueError, match='needs a model that draws'):
    reconstruction.Reconstruction().price(outcome, jax.random.key(0))
  with pytest.raises(ValueError, match='image_size of the encoder is 8; patch'):
    tiny.build(terms={**TERMS, 'reconstruction': {'patch_size': 3}})
  with pytest.raises(ValueError, match='reconstruction would do nothing'):
    tiny.build(
      target={'name': 'frozen'},
      terms={
        'prediction': {},
        'reconstruction': {'channels': (3,), 'patch_size': 4},
      },
    )
