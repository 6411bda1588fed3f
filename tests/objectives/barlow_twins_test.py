import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sharded

from jepa_wm import sharding
from jepa_wm.objectives import barlow_twins

distance = jax.jit(
  barlow_twins.barlow_twins, static_argnames='redundancy_weight'
)


def normal(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def hadamard():
  """Three uncorrelated dimensions of eight samples."""
  two = np.array([[1, 1], [1, -1]])
  return np.kron(np.kron(two, two), two)[:, 1:4].astype(np.float32)


def test_equals_the_published_formula():
  first = 3 * normal(2, 3, 12, 5) + 1
  second = first + normal(2, 3, 12, 5, seed=1)
  ours = distance(first, second, redundancy_weight=0.2)
  assert ours.shape == (2, 3)
  for index in np.ndindex(2, 3):
    correlation = np.corrcoef(first[index].T, second[index].T)[:5, 5:]
    penalty = np.where(np.eye(5), (1 - correlation) ** 2, 0.2 * correlation**2)
    np.testing.assert_allclose(ours[index], penalty.sum(), rtol=1e-4)
  matrix = barlow_twins.cross_correlation(first[1, 2], second[1, 2])
  # Rows are the first view's.
  np.testing.assert_allclose(matrix, correlation, atol=1e-5)


def test_what_costs_nothing_and_what_costs_how_much():
  view = hadamard()
  np.testing.assert_allclose(distance(view, view), 0, atol=1e-8)
  # A correlation knows neither scale nor mean.
  np.testing.assert_allclose(distance(view, 9 * view + 4), 0, atol=1e-8)
  # Views that disagree in sign: (1 + 1)^2 in every dimension.
  np.testing.assert_allclose(distance(view, -view), 12, rtol=1e-4)
  # The same number thrice: six pairs with a correlation of 1.
  same = np.repeat(view[:, :1], 3, axis=1)
  np.testing.assert_allclose(distance(same, same), 6 * 0.005, rtol=1e-4)
  collapsed = np.full((8, 3), 0.7, np.float32)
  np.testing.assert_allclose(distance(collapsed, collapsed), 3, rtol=1e-6)
  np.testing.assert_allclose(distance(view, collapsed), 3, rtol=1e-6)


def test_the_way_downhill_is_the_way_apart():
  view = 1e-3 * hadamard() + 0.3
  program = jax.jit(jax.value_and_grad(lambda x: distance(x, x)))
  value, grad = program(view)
  # Variance 1e-6 beside the epsilon 1e-5: C_ii is 1 / 11.
  np.testing.assert_allclose(value, 3 * (10 / 11) ** 2, rtol=1e-3)
  assert (np.asarray(grad) * (view - 0.3)).sum(0).max() < 0
  assert np.isfinite(program(np.zeros((8, 3), np.float32))[1]).all()


def test_gradient_reaches_both_views_and_precision_is_single():
  first, second = normal(8, 3), normal(8, 3, seed=1)
  both = jax.jit(jax.grad(distance, argnums=(0, 1)))
  by_first, by_second = both(first, second)
  swapped = both(second, first)
  np.testing.assert_allclose(by_first, swapped[1], atol=1e-5)
  assert np.abs(by_first).max() > 0.01 and np.abs(by_second).max() > 0.01
  half = jnp.asarray(first, jnp.bfloat16)
  value = distance(half, half)
  wide = half.astype(jnp.float32)
  assert value.dtype == jnp.float32 and value == distance(wide, wide)


def test_eight_devices_see_one_batch():
  views = normal(16, 5), normal(16, 5, seed=1)
  step = jax.jit(jax.value_and_grad(distance, argnums=(0, 1)))
  value, grads = step(*views)
  split = sharding.shard_batch(views, sharding.make_mesh(8))
  program = step.lower(*split).compile()
  split_value, split_grads = program(*split)
  np.testing.assert_allclose(split_value, value, rtol=1e-5)
  for grad, split_grad in zip(grads, split_grads):
    np.testing.assert_allclose(
      split_grad, grad, rtol=0, atol=1e-5 * np.abs(grad).max()
    )
    assert split_grad.addressable_shards[0].data.shape == (2, 5)
  assert sharded.collectives(program) == {'all-reduce'}


def test_doors():
  with pytest.raises(ValueError, match=r'first has shape \(4, 3\) and second'):
    barlow_twins.barlow_twins(jnp.zeros((4, 3)), jnp.zeros((4, 2)))
  for shape in (3,), (2, 1, 3):
    with pytest.raises(ValueError, match='at least two samples B'):
      barlow_twins.barlow_twins(jnp.zeros(shape), jnp.zeros(shape))
