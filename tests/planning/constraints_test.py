import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm import planning
from jepa_wm.planning import constraints


def test_clip_moves_each_dimension_into_its_own_interval():
  bounds = planning.ActionBounds(np.array([-1.0, 2.0]), np.array([1.0, 3.0]))
  actions = jnp.array([[-5.0, 0.0], [0.5, 2.5], [5.0, 9.0]])
  expected = [[-1.0, 2.0], [0.5, 2.5], [1.0, 3.0]]
  np.testing.assert_array_equal(bounds.clip(actions), expected)
  np.testing.assert_array_equal(bounds.clip(actions[None])[0], expected)


@pytest.mark.parametrize(
  ('low', 'high', 'message'),
  [
    ([-1.0], [1.0, 1.0], r'action_bounds: low .* 2 action .* shape \[1\]'),
    ([-1.0, -1.0], 1.0, r'action_bounds: high .* shape \[\]'),
    ([-1.0, 1.0], [1.0, 1.0], 'dimension 1 they are 1.0 and 1.0'),
    ([-1.0, np.nan], [1.0, 1.0], 'dimension 1 they are nan'),
  ],
)
def test_refuses_what_is_no_box(low, high, message):
  with pytest.raises(ValueError, match=message):
    constraints.as_bounds((np.asarray(low), np.asarray(high)), 2)


def test_bounds_may_be_computed_inside_a_program():
  @jax.jit
  def clip(low, high, actions):
    return constraints.as_bounds((low, high), 2).clip(actions)

  clipped = clip(jnp.zeros(2), jnp.ones(2), jnp.array([-1.0, 0.5]))
  np.testing.assert_array_equal(clipped, [0.0, 0.5])
