import golden_files
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sharded

from jepa_wm import sharding
from jepa_wm.objectives import vcreg

GOLDEN_NAMES = {
  'variance': 'std_loss',
  'covariance': 'cov_loss',
  'time_variance': 'std_t_loss',
  'time_covariance': 'cov_t_loss',
}


def normal(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@jax.jit
def terms_and_grads(latents):
  """All terms, and the gradient of each."""
  return vcreg.vcreg(latents), jax.jacrev(vcreg.vcreg)(latents)


def test_matches_pldm():
  golden, _ = golden_files.load('sigreg')
  values, grads = terms_and_grads(golden['pldm/z'])
  for name, source in GOLDEN_NAMES.items():
    np.testing.assert_allclose(
      getattr(values, name), golden[f'pldm/{source}/value'], rtol=1e-5
    )
    expected = golden[f'pldm/{source}/grad_z']
    assert expected.any()
    golden_files.close(getattr(grads, name), expected, 1e-5, name)


def test_both_terms_are_their_formulas():
  x = 0.7 * normal(2, 3, 9, 5)
  x[0, 1] *= 3
  variance, covariance = jax.jit(
    lambda x: (vcreg.variance(x), vcreg.covariance(x))
  )(x)
  for index in np.ndindex(2, 3):
    matrix = np.cov(x[index].T.astype(np.float64))
    hinge = np.maximum(1 - np.sqrt(np.diag(matrix) + 1e-4), 0)
    np.testing.assert_allclose(variance[index], hinge.mean(), rtol=1e-5)
    others = matrix[~np.eye(5, dtype=bool)]
    np.testing.assert_allclose(
      covariance[index], np.square(others).mean(), rtol=1e-4
    )


def test_collapse_costs_and_a_wide_batch_is_free():
  collapsed = jnp.full((8, 3), 0.3)
  np.testing.assert_allclose(vcreg.variance(collapsed), 0.99, rtol=1e-6)
  np.testing.assert_allclose(vcreg.covariance(collapsed), 0, atol=1e-12)
  # Columns of a Hadamard matrix: uncorrelated, of variance 8 / 7.
  two = np.array([[1, 1], [1, -1]])
  wide = np.kron(np.kron(two, two), two)[:, 1:4].astype(np.float32)
  assert vcreg.variance(wide) == vcreg.covariance(wide) == 0
  assert vcreg.covariance(wide[:, [0, 0]]) > 1
  assert vcreg.covariance(wide[:, :1]) == 0


def test_the_way_downhill_is_the_way_apart():
  latents = 0.1 * normal(8, 3)
  grad = jax.grad(vcreg.variance)(latents)
  outwards = latents - latents.mean(0)[None]
  assert (np.asarray(grad) * outwards).sum(0).max() < 0
  assert np.isfinite(jax.grad(vcreg.variance)(jnp.zeros((4, 2)))).all()


def test_covariance_over_time_is_around_the_batch():
  # One sequence stays above the other: no motion, but far from their mean.
  latents = jnp.array([[[1.0, 1.0]] * 3, [[-1.0, -1.0]] * 3])
  terms = vcreg.vcreg(latents)
  np.testing.assert_allclose(terms.time_variance, 0.99, rtol=1e-6)
  np.testing.assert_allclose(terms.time_covariance, (3 / 2) ** 2, rtol=1e-6)


def test_leading_dims_are_free_and_half_precision_is_widened():
  x = jnp.asarray(normal(2, 6, 4, 3), jnp.bfloat16)
  together = jax.jit(vcreg.vcreg)(x)
  alone = jax.jit(vcreg.vcreg)(x[1].astype(jnp.float32))
  for ours, expected in zip(together, alone):
    assert ours.shape == (2,) and ours.dtype == jnp.float32
    np.testing.assert_allclose(ours[1], expected, rtol=1e-5)


def test_eight_devices_see_one_batch():
  latents = normal(16, 3, 5)

  @jax.jit
  @jax.value_and_grad
  def step(latents):
    weights = jnp.array([18.0, 12.0, 0.7, 0.3])
    return jnp.stack(vcreg.vcreg(latents)) @ weights

  value, grad = step(latents)
  split = sharding.shard_batch(latents, sharding.make_mesh(8))
  program = step.lower(split).compile()
  split_value, split_grad = program(split)
  np.testing.assert_allclose(split_value, value, rtol=1e-5)
  np.testing.assert_allclose(
    split_grad, grad, rtol=0, atol=1e-5 * np.abs(grad).max()
  )
  assert split_grad.addressable_shards[0].data.shape == (2, 3, 5)
  # Samples stay where they are; only sums over them travel.
  assert sharded.collectives(program) == {'all-reduce'}


@pytest.mark.parametrize('function', [vcreg.variance, vcreg.covariance])
@pytest.mark.parametrize('shape', [(4,), (3, 1, 4)])
def test_too_few_samples(function, shape):
  with pytest.raises(ValueError, match=r'latents must be \[\.\.\., B, D\]'):
    function(jnp.zeros(shape))


@pytest.mark.parametrize('shape', [(4, 3), (1, 4, 3), (4, 1, 3)])
def test_too_few_samples_or_frames(shape):
  with pytest.raises(ValueError, match=r'latents must be \[\.\.\., B, T, D\]'):
    vcreg.vcreg(jnp.zeros(shape))
