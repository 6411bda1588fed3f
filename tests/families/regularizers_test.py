import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jepa_wm.families import LeWM, regularizers
from jepa_wm.objectives import (
  barlow_twins,
  info_nce,
  prediction,
  sigreg,
  vcreg,
)

WORKING = [name for name in regularizers.REGULARIZERS if name != 'none']

SMALL = LeWM(
  image_size=8,
  action_block=1,
  history=1,
  latent_dim=4,
  encoder='conv',
  encoder_features=8,
  encoder_channels=(4,),
  encoder_strides=(4,),
  encoder_blocks=(0,),
  projector_dim=8,
  predictor_dim=8,
  predictor_depth=1,
  predictor_heads=1,
  predictor_head_dim=4,
  predictor_mlp_dim=8,
  dropout=0.0,
  num_projections=32,
  num_knots=5,
)


def normal(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def cost(family, latents, predicted, targets):
  terms = family.regularizer_terms(
    latents, predicted, targets, jax.random.key(3)
  )
  return sum(weight * value for _, weight, value in terms)


def spread(latents):
  """Smallest standard deviation among the principal directions."""
  rows = np.asarray(latents, np.float64).reshape(-1, latents.shape[-1])
  return np.linalg.svd(rows - rows.mean(0))[1].min() / np.sqrt(len(rows))


def test_every_name_gives_its_own_terms(rng_key):
  latents = jnp.asarray(normal(6, 3, 4))
  predicted = normal(6, 2, 4, seed=1) + latents[:, 1:]
  family = dataclasses.replace(
    SMALL, redundancy_weight=0.3, time_covariance_weight=0.25
  )

  def terms(name):
    chosen = dataclasses.replace(family, regularizer=name)
    return chosen.regularizer_terms(latents, predicted, latents[:, 1:], rng_key)

  assert terms('none') == []
  ((name, weight, value),) = terms('sigreg')
  assert (name, weight) == ('sigreg', 0.09)
  by_frame = [
    sigreg.sigreg(latents[:, t], rng_key, num_projections=32, num_knots=5)
    for t in range(3)
  ]
  np.testing.assert_allclose(value, np.mean(by_frame), rtol=1e-5)
  names, weights, values = zip(*terms('vcreg'))
  assert names == vcreg.Terms._fields
  assert weights == (18.0, 12.0, 0.7, 0.25)
  np.testing.assert_allclose(values, vcreg.vcreg(latents), rtol=1e-5)
  ((name, weight, value),) = terms('barlow_twins')
  assert (name, weight) == ('barlow_twins', 0.05)
  # All frames are one batch.
  rows = predicted.reshape(12, 4), latents[:, 1:].reshape(12, 4)
  expected = barlow_twins.barlow_twins(*rows, redundancy_weight=0.3)
  np.testing.assert_allclose(value, expected, rtol=1e-5)
  ((name, weight, value),) = terms('info_nce')
  assert (name, weight) == ('info_nce', 1.0)
  np.testing.assert_allclose(value, info_nce.info_nce(latents), rtol=1e-5)


def test_one_field_swaps_the_test_of_sigreg(rng_key):
  latents = jnp.asarray(normal(6, 3, 4))
  for name in sigreg.STATISTICS:
    family = dataclasses.replace(SMALL, sigreg_statistic=name)
    ((_, _, value),) = family.regularizer_terms(
      latents, latents, latents, rng_key
    )
    expected = sigreg.sigreg(
      latents.swapaxes(0, 1),
      rng_key,
      num_projections=32,
      num_knots=5,
      statistic=name,
    ).mean()
    np.testing.assert_allclose(value, expected, rtol=1e-5)
  with pytest.raises(ValueError, match=r"sigreg_statistic must be .*'lilliefo"):
    dataclasses.replace(SMALL, sigreg_statistic='lilliefors')


# Sequences that stay about where they are.
WIDE = jnp.asarray(normal(64, 1, 4) + 0.1 * normal(64, 3, 4, seed=4))
LINE = jnp.asarray(normal(64, 1, 1, seed=2) + 0.1 * normal(64, 3, 1, seed=5))
LINE = LINE * jnp.ones(4)[None, None]
# InfoNCE is at ease where sequences are several units apart.
SCALES = {'info_nce': 3.0}


@pytest.mark.parametrize('name', WORKING)
def test_collapse_is_dear(name):
  family = dataclasses.replace(SMALL, regularizer=name)
  noise = 0.1 * normal(64, 2, 4, seed=1)
  wide, line = (SCALES.get(name, 1.0) * x for x in (WIDE, LINE))

  @jax.jit
  @jax.value_and_grad
  def price(z):
    return cost(family, z, z[:, 1:] + noise * z.std(), z[:, 1:])

  thin = 1e-3 * WIDE + 0.5
  costs_thin, slope = price(thin)
  assert price(wide)[0] < 0.5 * price(line)[0]
  assert price(wide)[0] < 0.1 * costs_thin
  # The way downhill is the way apart.
  outwards = thin - thin.mean((0, 1), keepdims=True)
  assert (slope * outwards).sum() < 0


@pytest.mark.parametrize('name', regularizers.REGULARIZERS)
def test_collapse_is_undone(name):
  # Free latents, all but collapsed onto a line, and a predictor that scales the
  # last latent: prediction alone would have them all equal.
  family = dataclasses.replace(SMALL, regularizer=name)
  optimizer = optax.adam(0.03)

  def loss(params):
    z, gain = params
    predicted, targets = gain * z[:, :-1], z[:, 1:]
    error = prediction.squared_error(predicted, targets).mean()
    return error + cost(family, z, predicted, targets)

  def update(carry, _):
    params, state = carry
    updates, state = optimizer.update(jax.grad(loss)(params), state)
    return (optax.apply_updates(params, updates), state), None

  start = 0.01 * LINE + 1e-3 * WIDE, jnp.ones(())
  ((latents, _), _), _ = jax.jit(
    lambda *carry: jax.lax.scan(update, carry, length=1000)
  )(start, optimizer.init(start))
  if name == 'none':
    assert spread(latents) < 0.01
  else:
    # Barlow Twins knows no scale, only that there must be one.
    assert spread(latents) > (0.1 if name == 'barlow_twins' else 0.5)
    correlation = np.corrcoef(latents.reshape(-1, 4).T)
    # InfoNCE wants room in every direction, not that they are uncorrelated.
    most = 0.5 if name == 'info_nce' else 0.3
    assert np.abs(correlation - np.eye(4)).max() < most
