"""A head that knows what is forbidden, and how often its bound holds."""

import acting
import jax
import numpy as np
import pytest

from jepa_wm.models import heads


def frames(rng, count=256):
  """Latents in a square; what is right of 0.4 is forbidden."""
  latents = rng.uniform(-1, 1, (count, 1, 2)).astype(np.float32)
  return {'latents': latents, 'margin': latents[..., 0] - 0.4}


@pytest.fixture(scope='module')
def learnt():
  head = acting.build('safety', zone='pond', num_blocks=1, num_scores=100)
  return head, *acting.learn(head, frames, 200)


def test_prices_are_above_zero_inside(learnt):
  head, params, metrics = learnt
  assert metrics['unsafe_missed'] < 0.05 and metrics['safe_refused'] < 0.05
  batch = frames(np.random.default_rng(7))
  price = jax.jit(head.roles.guardrail.price)(params, batch['latents'])
  assert price.shape == (256, 1)
  assert np.mean((price > 0) == (batch['margin'] > 0)) > 0.95


def test_bounds_are_those_of_split_conformal(learnt):
  """Of n + 1 exchangeable prices the k-th lowest of n has k / (n + 1) below."""
  head, params, _ = learnt
  assert np.all(head.bounds(params, 0.1) == -np.inf)  # Nobody calibrated it.
  scores = np.random.default_rng(0).normal(-3, 1, (1, 99)).astype(np.float32)
  given = head.calibrated(params, [scores[0], scores[0, :8]])
  bounds = head.bounds(given, 0.1)
  assert bounds[0] == np.sort(scores[0])[9] and bounds[1] == -np.inf
  assert head.bounds(given, 0.2)[1] == np.min(scores[0, :8])
  # A bound never lets through what the head itself calls unsafe.
  high = head.calibrated(params, [np.full(99, 5, np.float32)] * 2)
  assert np.all(head.bounds(high, 0.5) == 0)
  # Of more prices than are kept, any serve.
  many = np.random.default_rng(1).normal(-3, 1, 5000)
  kept = head.calibrated(params, [many, many])
  assert abs(head.bounds(kept, 0.1)[0] - np.quantile(many, 0.1)) < 0.5


def test_the_buffer_is_forbidden_too():
  batch = frames(np.random.default_rng(0))
  wide = {**batch, 'margin': batch['margin'] + 0.2}

  @jax.jit
  def losses(batch, wide):
    plain, more = (acting.build('safety', buffer=x) for x in (0.0, 0.2))
    params = plain.init(acting.KEY)
    return (
      plain.losses(params, wide, acting.KEY).loss,
      more.losses(params, batch, acting.KEY).loss,
    )

  np.testing.assert_allclose(*losses(batch, wide), rtol=1e-6)


@pytest.mark.parametrize(
  'settings, message',
  [
    ({'hinge': 0.0}, 'hinge must be above 0'),
    ({'buffer': -1.0}, 'buffer must be a finite number of at least 0'),
    ({'zone': 3}, 'zone must be text'),
    ({'num_checks': 0}, 'num_checks must be a positive integer'),
  ],
)
def test_settings_that_make_no_sense(settings, message):
  with pytest.raises(ValueError, match=message):
    heads.from_config({'name': 'safety', **settings}, acting.SIZES)
