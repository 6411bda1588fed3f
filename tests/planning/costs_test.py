import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm import planning


@pytest.mark.parametrize('trailing', [(5,), (4, 5)])
def test_squared_distance_sums_over_everything_behind_the_candidates(trailing):
  rng = np.random.default_rng(0)
  latent = rng.normal(size=(2, 3, *trailing)).astype(np.float32)
  goal = rng.normal(size=(2, 1, *trailing)).astype(np.float32)
  cost = planning.squared_distance({}, latent, None, goal)
  expected = ((latent - goal) ** 2).reshape(2, 3, -1).sum(-1)
  np.testing.assert_allclose(cost, expected, rtol=1e-6)


def test_squared_distance_of_half_precision_latents_is_a_float32():
  latent = jnp.full((1, 2, 300), 1.0, jnp.bfloat16)
  goal = jnp.zeros((1, 1, 300), jnp.bfloat16)
  cost = planning.squared_distance({}, latent, None, goal)
  assert cost.dtype == jnp.float32
  np.testing.assert_array_equal(cost, 300.0)


def test_squared_distance_refuses_a_goal_of_another_size():
  with pytest.raises(ValueError, match=r'\[5\] after .* got \[1\]'):
    planning.squared_distance(
      {}, jnp.zeros((2, 3, 5)), None, jnp.zeros((2, 1, 1))
    )


def test_step_weights_sum_to_one():
  np.testing.assert_array_equal(planning.step_weights(4), [0, 0, 0, 1])
  np.testing.assert_array_equal(planning.step_weights(4, 'all'), [0.25] * 4)


def test_step_weights_know_two_kinds():
  with pytest.raises(ValueError, match="'last' or 'all', got 'first'"):
    planning.step_weights(4, 'first')
  with pytest.raises(ValueError, match='horizon must be at least 1, got 0'):
    planning.step_weights(0)
