"""What terms make of an outcome, added up, and collapse undone by each."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jepa_wm import fields
from jepa_wm.objectives import (
  barlow_twins,
  dynamics,
  info_nce,
  prediction,
  sigreg,
  terms,
  vcreg,
)

SIGREG = sigreg.SIGReg(num_projections=32, num_knots=5)
REGULARIZERS = {
  'sigreg': SIGREG,
  'vcreg': vcreg.VCReg(),
  'barlow_twins': barlow_twins.BarlowTwins(),
  'info_nce': info_nce.InfoNCE(),
}


def normal(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def cost(term, latents, predicted, targets):
  outcome = terms.Outcome(latents, [(predicted, targets)])
  return terms.total(terms.price((term,), outcome, jax.random.key(3)))


def spread(latents):
  """Smallest standard deviation among the principal directions."""
  rows = np.asarray(latents, np.float64).reshape(-1, latents.shape[-1])
  return np.linalg.svd(rows - rows.mean(0))[1].min() / np.sqrt(len(rows))


@pytest.mark.slow
def test_every_term_has_its_own_values(rng_key):
  latents = jnp.asarray(normal(6, 3, 4))
  predicted = normal(6, 2, 4, seed=1) + latents[:, 1:]
  outcome = terms.Outcome(
    latents,
    [(predicted, latents[:, 1:])],
    actions=jnp.ones((6, 2, 5)),
    inferred=jnp.zeros((6, 2, 5)),
  )

  def price(term):
    return term.price(outcome, rng_key)

  priced = price(SIGREG)
  by_frame = [
    sigreg.sigreg(latents[:, t], rng_key, num_projections=32, num_knots=5)
    for t in range(3)
  ]
  assert priced.weights == {'sigreg': 0.09}
  np.testing.assert_allclose(
    priced.values['sigreg'], np.mean(by_frame), rtol=1e-5
  )
  priced = price(vcreg.VCReg(time_covariance=0.25))
  assert tuple(priced.values) == vcreg.Terms._fields
  assert tuple(priced.weights.values()) == (18.0, 12.0, 0.7, 0.25)
  np.testing.assert_allclose(
    list(priced.values.values()), vcreg.vcreg(latents), rtol=1e-5
  )
  # All frames are one batch.
  rows = predicted.reshape(12, 4), latents[:, 1:].reshape(12, 4)
  for term, name, weight, expected in (
    (
      barlow_twins.BarlowTwins(redundancy=0.3),
      'barlow_twins',
      0.05,
      barlow_twins.barlow_twins(*rows, redundancy_weight=0.3),
    ),
    (info_nce.InfoNCE(), 'info_nce', 1.0, info_nce.info_nce(latents)),
    (dynamics.InverseDynamics(0.5), 'inverse_dynamics', 0.5, 1.0),
    (
      prediction.NextLatent(distance='l1'),
      'prediction_loss',
      1.0,
      jnp.abs(predicted - latents[:, 1:]).mean(),
    ),
  ):
    priced = price(term)
    assert priced.weights == {name: weight}
    np.testing.assert_allclose(priced.values[name], expected, rtol=1e-5)


def test_images_have_no_terms_over_time(rng_key):
  image = terms.Outcome(jnp.asarray(normal(6, 1, 4)))
  values = vcreg.VCReg().price(image, rng_key).values
  assert set(values) == {'variance', 'covariance'}
  two = terms.Outcome(jnp.asarray(normal(6, 2, 4)))
  assert not dynamics.Straightening().price(two, rng_key).values


def test_one_field_swaps_the_test_of_sigreg(rng_key):
  latents = jnp.asarray(normal(6, 3, 4))
  for name in sigreg.STATISTICS:
    term = sigreg.SIGReg(num_projections=32, statistic=name)
    value = term.price(terms.Outcome(latents), rng_key).values['sigreg']
    expected = sigreg.sigreg(
      latents.swapaxes(0, 1), rng_key, num_projections=32, statistic=name
    ).mean()
    np.testing.assert_allclose(value, expected, rtol=1e-5)


@dataclasses.dataclass(frozen=True)
class Odd:
  """A term that says more of its values than of their weights, or less."""

  values: tuple[str, ...]
  weights: tuple[str, ...]
  name = 'odd'
  shapes_latents = False

  def price(self, outcome, rng_key):
    values = {name: jnp.asarray(jnp.inf) for name in self.values}
    return terms.Priced(values, dict.fromkeys(self.weights, 0.0), {})


def test_values_and_weights_belong_together(rng_key):
  outcome = terms.Outcome(jnp.asarray(normal(6, 3, 4)))
  for odd, message in (
    (Odd(('a', 'b'), ('a',)), r"'odd' has values \['a', 'b'\] and weights"),
    (Odd(('a',), ('a', 'b')), 'give one weight to each'),
    (Odd(('info_nce',), ('info_nce',)), "Two terms give .* 'info_nce'"),
  ):
    with pytest.raises(ValueError, match=message):
      terms.price((info_nce.InfoNCE(), odd), outcome, rng_key)
  # What has no weight does not count, not even times 0.
  both = terms.price(
    (info_nce.InfoNCE(2.0), Odd(('a',), ('a',))), outcome, rng_key
  )
  np.testing.assert_allclose(
    terms.total(both), 2 * both.values['info_nce'], rtol=1e-6
  )
  with pytest.raises(ValueError, match='None of the terms'):
    terms.total(Odd(('a',), ('a',)).price(outcome, rng_key))


@pytest.mark.parametrize(
  'kind, changes, message',
  [
    ('sigreg', {'weight': -1}, 'weight must be a finite'),
    ('sigreg', {'num_knots': 1}, 'num_knots must be at least 2'),
    ('sigreg', {'t_min': 4.0}, 't_min must be at least 0 and below t_max'),
    (
      'sigreg',
      {'statistic': 'watson', 't_max': 4.0},
      't_max=4.0 would do nothing',
    ),
    ('sigreg', {'statistic': 'lilliefors'}, "statistic must be .*'lilliefors'"),
    ('prediction', {'distance': 'l2'}, "distance must be one of .*'l2'"),
    ('prediction', {'gradient': 2}, 'gradient must be at most 1'),
    ('prediction', {'true_share': 1.5}, 'true_share must be at most 1'),
    ('prediction', {'decay': 0.5}, 'with steps=1 they would do nothing'),
    ('prediction', {'slides': True}, 'with steps=1 they would do nothing'),
    (
      'prediction',
      {'steps': 2, 'slides': True, 'true_share': 0.5},
      'true_share would do nothing with slides',
    ),
    ('inverse_dynamics', {'num_seen': -1}, 'num_seen must be'),
    (
      'sigreg',
      {'statistic': 'anderson_darling', 'num_knots': 5},
      'num_knots=5 would do nothing',
    ),
    ('prediction', {'steps': 0}, 'steps must be a positive integer'),
    ('vicreg', {}, "must be one of .*vcreg.*Did you mean 'vcreg'"),
  ],
)
def test_bad_terms(kind, changes, message):
  with pytest.raises(ValueError, match=message):
    fields.from_dict(terms.TERMS, {'name': kind, **changes})


# Sequences that stay about where they are.
WIDE = jnp.asarray(normal(64, 1, 4) + 0.1 * normal(64, 3, 4, seed=4))
LINE = jnp.asarray(normal(64, 1, 1, seed=2) + 0.1 * normal(64, 3, 1, seed=5))
LINE = LINE * jnp.ones(4)[None, None]
# InfoNCE is at ease where sequences are several units apart.
SCALES = {'info_nce': 3.0}


@pytest.mark.parametrize('name', REGULARIZERS)
def test_collapse_is_dear(name):
  term = REGULARIZERS[name]
  noise = 0.1 * normal(64, 2, 4, seed=1)
  wide, line = (SCALES.get(name, 1.0) * x for x in (WIDE, LINE))

  @jax.jit
  @jax.value_and_grad
  def price(z):
    return cost(term, z, z[:, 1:] + noise * z.std(), z[:, 1:])

  thin = 1e-3 * WIDE + 0.5
  costs_thin, slope = price(thin)
  assert price(wide)[0] < 0.5 * price(line)[0]
  assert price(wide)[0] < 0.1 * costs_thin
  # The way downhill is the way apart.
  outwards = thin - thin.mean((0, 1), keepdims=True)
  assert (slope * outwards).sum() < 0


@pytest.mark.parametrize('name', [*REGULARIZERS, 'none'])
def test_collapse_is_undone(name):
  # Free latents, all but collapsed onto a line, and a predictor that scales the
  # last latent: prediction alone would have them all equal.
  optimizer = optax.adam(0.03)

  def loss(params):
    z, gain = params
    predicted, targets = gain * z[:, :-1], z[:, 1:]
    error = prediction.squared_error(predicted, targets).mean()
    if name == 'none':
      return error
    return error + cost(REGULARIZERS[name], z, predicted, targets)

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
