import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm.evaluation import collapse


def _orthonormal(rows, columns, seed=0):
  """Zero-mean columns that are exactly orthonormal."""
  draws = np.random.default_rng(seed).normal(size=(rows, columns + 1))
  draws[:, 0] = 1.0
  return np.linalg.qr(draws)[0][:, 1:]


def test_white_latents_have_full_rank():
  latents = jnp.asarray(_orthonormal(64, 6) * 8.0, jnp.float32)
  np.testing.assert_allclose(collapse.effective_rank(latents), 6.0, rtol=1e-5)
  np.testing.assert_allclose(collapse.latent_std(latents), 1.0, rtol=1e-5)


def test_known_spectrum():
  """Eigenvalues 4, 2, 1, 1: exp of 1.75 ln 2 nats of entropy."""
  scales = np.sqrt([4.0, 2.0, 1.0, 1.0])
  rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(4, 4)))[0]
  latents = jnp.asarray((_orthonormal(50, 4) * scales) @ rotation, jnp.float32)
  expected = np.exp(1.75 * np.log(2.0))
  np.testing.assert_allclose(
    collapse.effective_rank(latents), expected, rtol=1e-4
  )


def test_a_line_has_rank_one():
  direction = np.asarray([1.0, -2.0, 0.5])
  latents = np.linspace(-1, 1, 20)[:, None] * direction[None]
  rank = collapse.effective_rank(jnp.asarray(latents, jnp.float32))
  np.testing.assert_allclose(rank, 1.0, atol=1e-2)


def test_collapsed_latents_have_rank_zero():
  latents = jnp.full((32, 8), 3.7)
  assert collapse.effective_rank(latents) == 0.0
  telemetry = jax.jit(collapse.telemetry)(latents)
  assert telemetry['latent_std_min'] < 1e-5
  assert set(telemetry) == {
    'latent_std_mean',
    'latent_std_min',
    'effective_rank',
  }


def test_a_dead_dimension_shows_in_the_minimum():
  latents = jnp.asarray(_orthonormal(64, 5) * 8.0, jnp.float32)
  telemetry = collapse.telemetry(latents.at[:, 2].set(0.25))
  assert telemetry['latent_std_min'] < 1e-5
  np.testing.assert_allclose(telemetry['latent_std_mean'], 0.8, rtol=1e-5)
  np.testing.assert_allclose(telemetry['effective_rank'], 4.0, rtol=1e-4)


@pytest.mark.parametrize('shape', [(4, 3, 2), (1, 3), (5,)])
def test_wrong_shape_is_named(shape):
  with pytest.raises(ValueError, match='latents must be'):
    collapse.effective_rank(jnp.zeros(shape))
