import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm.evaluation import collapse

telemetry_of = jax.jit(collapse.telemetry)


def _white():
  """64 rows, six columns: zero mean, unit variance, no correlation."""
  return jnp.asarray(_orthonormal() * 8.0, jnp.float32)


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


@pytest.mark.parametrize('shape', [(4, 3, 2), (1, 3), (5,)])
def test_wrong_shape_is_named(shape):
  with pytest.raises(ValueError, match='latents must be'):
    collapse.effective_rank(jnp.zeros(shape))
