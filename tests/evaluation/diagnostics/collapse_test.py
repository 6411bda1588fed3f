import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm.evaluation.diagnostics import collapse

telemetry_of = jax.jit(collapse.telemetry)


def _white():
  """64 rows, six columns: zero mean, unit variance, no correlation."""
  return jnp.asarray(_orthonormal() * 8.0, jnp.float32)


def _noise(rows=512, columns=32):
  return np.random.default_rng(2).normal(size=(rows, columns))


def _verdict(latents, before=None, **told):
  """Verdict on `latents` that were `before`."""
  if before is not None:
    told['largest'] = float(np.mean(np.std(before, axis=0)))
  return collapse.judge(telemetry_of(jnp.asarray(latents, jnp.float32)), **told)


def _orthonormal(rows=64, columns=6):
  draws = np.random.default_rng(0).normal(size=(rows, columns + 1))
  draws[:, 0] = 1.0
  return np.linalg.qr(draws)[0][:, 1:]


def test_white_latents_have_full_rank():
  found = telemetry_of(_white())
  np.testing.assert_allclose(found['effective_rank'], 6.0, rtol=1e-5)
  np.testing.assert_allclose(found['latent_std_mean'], 1.0, rtol=1e-5)
  np.testing.assert_allclose(found['latent_std_min'], 1.0, rtol=1e-5)


def test_known_spectrum():
  """Eigenvalues 4, 2, 1, 1, 0, 0: exp of 1.75 ln 2 nats of entropy."""
  scales = np.sqrt([4.0, 2.0, 1.0, 1.0, 0.0, 0.0])
  rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(6, 6)))[0]
  latents = jnp.asarray((_orthonormal() * scales) @ rotation, jnp.float32)
  np.testing.assert_allclose(
    telemetry_of(latents)['effective_rank'],
    np.exp(1.75 * np.log(2.0)),
    rtol=1e-3,
  )


def test_a_line_has_rank_one():
  direction = np.asarray([1.0, -2.0, 0.5, 0.0, 1.0, 3.0])
  latents = np.linspace(-1, 1, 64)[:, None] * direction[None]
  rank = telemetry_of(jnp.asarray(latents, jnp.float32))['effective_rank']
  np.testing.assert_allclose(rank, 1.0, atol=1e-2)


def test_collapsed_latents_have_rank_zero():
  found = telemetry_of(jnp.full((64, 6), 3.7))
  assert found['effective_rank'] == 0.0
  assert found['latent_std_mean'] < 1e-5


def test_a_dead_dimension_shows_in_the_minimum():
  found = telemetry_of(_white().at[:, 2].set(0.25))
  assert found['latent_std_min'] < 1e-5
  np.testing.assert_allclose(found['latent_std_mean'], 5 / 6, rtol=1e-5)
  np.testing.assert_allclose(found['effective_rank'], 5.0, rtol=1e-4)


def test_the_largest_rank_is_no_sign_of_health():
  """What was found without SIGReg: 98.7 of 192 directions, against 16.7."""
  spectrum = np.exp(-np.arange(32) / 6)
  healthy = _noise() * spectrum / np.sqrt(np.mean(spectrum**2))
  noise = 0.011 * _noise()
  ranks = [collapse.effective_rank(jnp.asarray(z)) for z in (healthy, noise)]
  assert ranks[1] > 2 * ranks[0]
  assert _verdict(healthy, _noise()).verdict == 'healthy'
  found = _verdict(noise, 0.019 * _noise(), prediction_error=0.00013)
  assert found.verdict == 'collapsed'
  assert 'deviate by 0.011, 58% of what they did' in found.sentence
  assert 'leave 108% of that unexplained' in found.sentence


@pytest.mark.parametrize(
  ('latents', 'reason'),
  [
    (np.full((512, 32), 3.7), 'constant'),
    (np.zeros((512, 32)), 'constant'),
    (3.7 + 1e-4 * _noise(), 'deviate by 3e-05 of their size'),
    (np.outer(_noise()[:, 0], _noise()[0]), 'one direction'),
    # The noise of rounding beside it has many.
    (np.outer(_noise()[:, 0], _noise()[0]) + 1e-3 * _noise(), 'one direction'),
    (np.where(np.eye(512, 32) > 0, np.nan, _noise()), 'not finite'),
  ],
)
def test_a_collapse_is_seen_without_a_look_at_the_start(latents, reason):
  found = _verdict(latents)
  assert found.verdict == 'collapsed'
  assert reason in found.sentence


@pytest.mark.parametrize('scale', [1e-3, 1.0, 1e3])
@pytest.mark.parametrize('offset', [0.0, 20.0])
def test_no_unit_is_healthier_than_another(scale, offset):
  latents = scale * (offset + _noise())
  assert _verdict(latents).verdict == 'healthy'
  assert _verdict(latents, latents).verdict == 'healthy'
  # Two independent directions of a world of two coordinates are all it has.
  flat = _noise()[:, :2] @ _noise()[:2]
  assert _verdict(scale * (offset + flat)).verdict == 'healthy'


def test_shrinking_is_seen_on_the_way_down():
  verdicts = [
    _verdict(scale * _noise(), _noise()).verdict
    for scale in (2.0, 0.7, 0.2, 0.05, 0.01)
  ]
  assert verdicts == ['healthy'] * 2 + ['shrinking'] * 2 + ['collapsed']


@pytest.mark.parametrize(
  ('std', 'unexplained', 'verdict'),
  [
    # Untrained, at its largest.
    (1.0, 3.0, 'healthy'),
    (0.6, 1.0, 'collapsed'),
    (0.6, 0.5, 'healthy'),
    (0.4, 0.5, 'shrinking'),
    (0.2, 0.5, 'collapsed'),
    (0.2, 0.2, 'shrinking'),
    # Of another unit, and as predictable as can be.
    (0.2, 0.02, 'healthy'),
  ],
)
def test_what_predictions_explain_decides(std, unexplained, verdict):
  found = _verdict(
    std * _noise(), _noise(), prediction_error=unexplained * std**2
  )
  assert found.verdict == verdict


@pytest.mark.parametrize('shape', [(4, 3, 2), (1, 3), (5,)])
def test_wrong_shape_is_named(shape):
  with pytest.raises(ValueError, match='latents must be'):
    collapse.effective_rank(jnp.zeros(shape))
