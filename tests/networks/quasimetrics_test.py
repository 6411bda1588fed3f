"""What holds of a quasimetric, whatever its parameters."""

import jax
import numpy as np

from jepa_wm.networks import quasimetrics


def test_the_distance_of_two_points_by_hand():
  here = np.array([3.0, 4.0, 5.0, 1.0], np.float32)
  there = np.array([0.0, 0.0, 3.0, 7.0], np.float32)
  measure = jax.jit(jax.value_and_grad(quasimetrics.residual_distance))
  # Norm 5 both ways; 2 more here than there, and 6 more there than here.
  assert measure(here, there)[0] == 7.0 and measure(there, here)[0] == 11.0
  nothing, slope = measure(here, here)
  assert nothing == 0.0 and np.all(np.isfinite(slope))


def test_no_way_by_a_third_point_is_shorter():
  network = quasimetrics.Quasimetric(features=8, width=16, depth=1)
  points = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32) * 3

  @jax.jit
  def between(rng_key):
    variables = network.init(rng_key, points, points)
    return network.apply(variables, points[:, None], points[None])

  d = np.asarray(between(jax.random.key(1)))
  np.testing.assert_array_equal(np.diag(d), 0.0)
  assert np.all(d[~np.eye(12, dtype=bool)] > 0.0)
  assert np.abs(d - d.T).max() > 0.01  # One way is not the other.
  by_way = d[:, :, None] + d[None]
  assert np.all(d[:, None] <= by_way + 1e-5)
