import golden_files
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm.objectives import dynamics


@pytest.fixture(scope='module')
def golden():
  return golden_files.load('sigreg')[0]


def mean_and_grad(function, x):
  return jax.jit(jax.value_and_grad(lambda x: function(x).mean()))(x)


def test_temporal_similarity_matches_pldm(golden):
  value, grad = mean_and_grad(dynamics.temporal_similarity, golden['pldm/z'])
  expected = 'pldm/temp_align_loss'
  np.testing.assert_allclose(value, golden[f'{expected}/value'], rtol=1e-6)
  golden_files.close(grad, golden[f'{expected}/grad_z'], 2e-6)


@pytest.mark.parametrize('case', ['moving', 'with_rest'])
def test_straightening_matches_the_reference(golden, case):
  x = golden[f'straightening/{case}/x']
  expected = golden[f'straightening/{case}/grad']
  value, grad = mean_and_grad(dynamics.straightening, x)
  np.testing.assert_allclose(
    value, golden[f'straightening/{case}/value'], rtol=1e-4
  )
  assert np.isfinite(grad).all()
  # Beside a rest the reference divides by its epsilon; ours sends nothing.
  same = np.abs(expected) < 1e3
  rests = ~np.diff(x, axis=1).any(-1)
  beside = np.pad(rests, [(0, 0), (0, 1)]) | np.pad(rests, [(0, 0), (1, 0)])
  assert same[~beside].all()
  assert same.all() == (case == 'moving')
  scale = np.abs(expected[~beside]).max()
  np.testing.assert_allclose(
    grad[same], expected[same], rtol=1e-3, atol=1e-5 * scale
  )


def test_temporal_similarity_of_a_steady_path():
  path = jnp.outer(jnp.arange(5.0), jnp.array([3.0, 4.0]))  # [T=5, D=2]
  similarity = dynamics.temporal_similarity(path)
  np.testing.assert_allclose(similarity, np.full(4, 12.5))


def test_straightening_knows_straight_turned_and_back():
  corners = [[0, 0], [1, 0], [3, 0], [3, 5], [3, 1]]
  path = jnp.array(corners, jnp.float32)
  np.testing.assert_allclose(
    dynamics.straightening(path), [-1, 0, 1], atol=1e-6
  )


def test_a_path_at_rest_has_no_gradient():
  path = jnp.ones((2, 4, 3))
  value, grad = mean_and_grad(dynamics.straightening, path)
  assert value == 0
  np.testing.assert_array_equal(grad, np.zeros_like(path))


def test_leading_dims_are_free():
  x = np.random.default_rng(0).normal(size=(2, 3, 6, 4)).astype(np.float32)
  for function, num_lost in (
    (dynamics.temporal_similarity, 1),
    (dynamics.straightening, 2),
  ):
    function = jax.jit(function)
    together = function(x)
    assert together.shape == (2, 3, 6 - num_lost)
    np.testing.assert_allclose(together[1, 2], function(x[1, 2]), rtol=1e-5)


@pytest.mark.parametrize(
  ('function', 'shape'),
  [
    (dynamics.temporal_similarity, (4,)),
    (dynamics.temporal_similarity, (2, 1, 4)),
    (dynamics.straightening, (2, 2, 4)),
  ],
)
def test_too_few_frames(function, shape):
  with pytest.raises(ValueError, match=r'latents must be \[\.\.\., T, D\]'):
    function(jnp.zeros(shape))


def test_inverse_dynamics_matches_pldm(golden):
  value, grad = mean_and_grad(
    lambda x: dynamics.inverse_dynamics(x, golden['pldm/a_target']),
    golden['pldm/a_pred'],
  )
  expected = 'pldm/idm_loss'
  np.testing.assert_allclose(value, golden[f'{expected}/value'], rtol=1e-6)
  golden_files.close(grad, golden[f'{expected}/grad_a_pred'], 1e-6)
  with pytest.raises(ValueError, match='inferred and actions must both be'):
    dynamics.inverse_dynamics(jnp.zeros((2, 3)), jnp.zeros((2, 1)))
