import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm.objectives import prediction


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


def test_half_precision_is_subtracted_in_single():
  # 1 + 2**-7 is the next bfloat16 after 1: its square needs more digits.
  one = jnp.ones(3, jnp.bfloat16)
  error = prediction.squared_error(one * 1.0078125 + 1, one)
  assert error.dtype == jnp.float32
  np.testing.assert_allclose(error, np.float32(2.0 - 1) ** 2)


def test_shapes_must_agree():
  with pytest.raises(ValueError, match=r'prediction has shape \(2, 3\)'):
    prediction.squared_error(jnp.zeros((2, 3)), jnp.zeros((1, 3)))
