"""A policy in the model: its loss by a loop, its gradient, and how it acts."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from jepa_wm.objectives import imitation, terms

TERMS = {
  **tiny.CONFIG['terms'],
  'policy': {'weight': 0.5, 'width': 6, 'depth': 1},
}


@pytest.fixture(scope='module')
def case():
  model = tiny.build(terms=TERMS)
  return model, tiny.start(model), tiny.batch(num_frames=4)


def test_is_the_error_at_every_frame_for_every_later_one(case):
  model, variables, batch = case
  losses = jax.jit(model.losses)(variables, batch, jax.random.key(0))
  steps = jnp.zeros(8)
  act = jax.jit(model.policy)
  errors = [
    np.square(
      act(variables, None, losses.latents[:, t], losses.latents[:, k], steps)
      - batch['action'][:, t]
    ).mean()
    for t, k in itertools.combinations(range(4), 2)
  ]
  np.testing.assert_allclose(
    losses.metrics['policy'], np.mean(errors), rtol=1e-5
  )


def test_its_weight_is_in_the_loss_and_its_gradient_in_the_encoder(case):
  model, variables, batch = case
  key = jax.random.key(0)
  without = tiny.build(terms=tiny.CONFIG['terms'])
  rest = {x: y for x, y in variables['params'].items() if x != 'policy'}
  plain, slopes = tiny.gradient(
    without, {**variables, 'params': rest}, batch, key
  )
  whole, grads = tiny.gradient(model, variables, batch, key)
  np.testing.assert_allclose(
    whole.loss, plain.loss + 0.5 * whole.metrics['policy'], rtol=1e-5
  )
  for name, moves in (('encoder', True), ('predictor', False)):
    moved = jax.tree.map(
      lambda a, b: float(jnp.abs(a - b).max()), grads[name], slopes[name]
    )
    assert (max(jax.tree.leaves(moved)) > 1e-5) == moves


def test_a_model_without_the_term_has_no_policy():
  assert tiny.build(terms=tiny.CONFIG['terms']).policy is None


def test_what_does_not_fit_is_refused():
  with pytest.raises(ValueError, match=r'= \[2, 3, 3, 4\], got shape \[2, 3'):
    imitation.imitation(jnp.zeros((2, 3, 4)), jnp.zeros((2, 3, 4)))
  with pytest.raises(ValueError, match='needs a model with actions'):
    imitation.Policy().price(
      terms.Outcome(jnp.zeros((2, 3, 4))), jax.random.key(0)
    )
