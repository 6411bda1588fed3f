import golden_files
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm.objectives import prediction, terms


def test_squared_error_is_elementwise_and_moves_both_sides():
  predicted = jnp.array([[1.0, 2.0], [3.0, 4.0]])
  target = jnp.array([[1.0, 0.0], [5.0, 1.0]])
  error = prediction.squared_error(predicted, target)
  np.testing.assert_array_equal(error, [[0.0, 4.0], [4.0, 9.0]])
  by_prediction, by_target = jax.grad(
    lambda p, t: prediction.squared_error(p, t).mean(), argnums=(0, 1)
  )(predicted, target)
  np.testing.assert_allclose(by_prediction, (predicted - target) / 2)
  np.testing.assert_allclose(by_target, (target - predicted) / 2)


def test_squared_error_is_pldms_inverse_dynamics_loss():
  data, _ = golden_files.load('sigreg')
  value, grad = jax.value_and_grad(
    lambda p: prediction.squared_error(p, data['pldm/a_target']).mean()
  )(data['pldm/a_pred'])
  expected = 'pldm/idm_loss'
  np.testing.assert_allclose(value, data[f'{expected}/value'], rtol=1e-6)
  golden_files.close(grad, data[f'{expected}/grad_a_pred'], 1e-6)


def test_absolute_error():
  predicted, target = jnp.array([1.0, -2.0, 3.0]), jnp.array([1.0, 1.0, 1.0])
  error = prediction.absolute_error(predicted, target)
  np.testing.assert_array_equal(error, [0, 3, 2])
  slope = jax.grad(lambda p: prediction.absolute_error(p, target).sum())
  np.testing.assert_array_equal(slope(predicted), [0, -1, 1])


@pytest.mark.parametrize('beta', [0.5, 1.0, 2.0])
def test_smooth_absolute_error(beta):
  difference = np.array([-3, -2, -0.5, 0, 0.25, 1, 4], np.float32)
  size = np.abs(difference)
  expected = np.where(size < beta, size**2 / (2 * beta), size - beta / 2)
  program = jax.jit(
    jax.vmap(
      jax.value_and_grad(
        lambda p, t: prediction.smooth_absolute_error(p, t, beta=beta)
      )
    )
  )
  value, slope = program(difference + 5, np.full(7, 5, np.float32))
  np.testing.assert_allclose(value, expected, rtol=1e-6)
  np.testing.assert_allclose(slope, np.clip(difference / beta, -1, 1))


def test_cosine_distance_is_one_number_a_vector():
  predicted = jnp.array([[3.0, 0.0], [0.0, 2.0], [-1.0, -1.0], [0.0, 0.0]])
  target = jnp.array([[5.0, 0.0], [1.0, 0.0], [2.0, 2.0], [1.0, 0.0]])
  program = jax.jit(prediction.cosine_distance)
  np.testing.assert_allclose(program(predicted, target), [0, 1, 2, 1])
  slopes = jax.jit(
    jax.grad(lambda *x: prediction.cosine_distance(*x).sum(), argnums=(0, 1))
  )(predicted, target)
  # At right angles the slope is minus the other's direction, over the length;
  # what has no direction moves nothing.
  expected = [[0, 0], [-0.5, 0], [0, 0], [0, 0]]
  np.testing.assert_allclose(slopes[0], expected, atol=1e-6)
  np.testing.assert_allclose(slopes[1][1], [0, -1], atol=1e-6)
  np.testing.assert_array_equal(slopes[1][3], [0, 0])


def test_half_precision_is_subtracted_in_single():
  # 1 + 2**-7 is the next bfloat16 after 1: its square needs more digits.
  one = jnp.ones(3, jnp.bfloat16)
  error = prediction.squared_error(one * 1.0078125 + 1, one)
  assert error.dtype == jnp.float32
  np.testing.assert_allclose(error, np.float32(2.0 - 1) ** 2)
  for distance in prediction.DISTANCES.values():
    assert distance(one, one).dtype == jnp.float32


@pytest.mark.parametrize('name', list(prediction.DISTANCES))
def test_shapes_must_agree(name):
  distance = prediction.DISTANCES[name]
  with pytest.raises(ValueError, match=r'prediction has shape \(2, 3\)'):
    distance(jnp.zeros((2, 3)), jnp.zeros((1, 3)))
  same = distance(jnp.ones((2, 3)), jnp.ones((2, 3)))
  np.testing.assert_allclose(same, np.zeros(same.shape), atol=1e-6)


def test_other_doors():
  with pytest.raises(ValueError, match='beta must be positive, got 0'):
    prediction.smooth_absolute_error(jnp.ones(2), jnp.ones(2), beta=0)
  with pytest.raises(ValueError, match='got scalars'):
    prediction.cosine_distance(jnp.ones(()), jnp.ones(()))


def test_predictions_that_slide_are_held_against_what_came(rng_key):
  count = jnp.broadcast_to(jnp.arange(6.0)[None, :, None], (2, 6, 3))
  batch = terms.Windows(
    lambda z, a: z + a,
    count,
    None,
    jnp.ones((2, 5, 3)),
    history=2,
    state_dim=0,
    rng_key=rng_key,
  )
  term = prediction.NextLatent(steps=3, slides=True)
  rolled = term.roll(batch)
  assert [x.shape for x, _ in rolled] == [
    (2, 4, 2, 3),
    (2, 3, 1, 3),
    (2, 2, 1, 3),
  ]
  for predicted, came in rolled:
    np.testing.assert_array_equal(predicted, came)
  priced = term.price(terms.Outcome(count, rolled), rng_key)
  assert priced.values['prediction_loss'] == 0.0
  assert len(priced.metrics) == 3
