"""Operations are those of matrix products, and loops count as they run."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import pytest

from jepa_wm import planning
from jepa_wm.evaluation.planning import flop_budget, flops


def count(fn, *shapes):
  args = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
  return flops.count(jax.make_jaxpr(fn)(*args))


def test_counts_what_xla_counts_where_nothing_loops():
  shapes = (6, 5), (5, 7)
  args = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
  analysis = jax.jit(jnp.matmul).lower(*args).compile().cost_analysis()
  assert count(jnp.matmul, *shapes) == 2 * 6 * 5 * 7 == analysis['flops']


def test_a_convolution_is_a_product_at_every_place():
  def convolve(x, kernel, groups):
    return jax.lax.conv_general_dilated(
      x,
      kernel,
      (2, 2),
      'VALID',
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
      feature_group_count=groups,
    )

  for groups in (1, 2):
    shapes = (3, 8, 8, 4), (2, 2, 4 // groups, 6)
    fn = functools.partial(convolve, groups=groups)
    assert count(fn, *shapes) == 2 * (3 * 4 * 4 * 6) * (2 * 2 * 4 // groups)


def test_a_loop_counts_as_often_as_it_runs():
  def looped(x):
    inner = lambda x, _: (x @ x, None)
    outer = lambda x, _: jax.lax.scan(inner, x, None, length=3)
    return jax.lax.scan(outer, x, None, length=4)[0]

  assert count(looped, (5, 5)) == 4 * 3 * 2 * 5**3


def test_what_a_loop_does_not_change_counts_once():
  def looped(x, y):
    inner = lambda z, _: (z @ jax.jit(jnp.matmul)(x, y), None)
    outer = lambda z, _: jax.lax.scan(inner, z + z @ x, None, length=3)
    return jax.lax.scan(outer, x, None, length=4)[0]

  assert count(looped, (5, 5), (5, 5)) == (1 + 4 + 4 * 3) * 2 * 5**3


def test_of_branches_the_dearest_counts():
  def branched(x):
    return jax.lax.cond(x[0, 0] > 0, lambda x: x @ x @ x, lambda x: x @ x, x)

  assert count(jax.jit(branched), (5, 5)) == 2 * 2 * 5**3


def test_of_a_gradient_both_ways_count():
  product = lambda x: jnp.sum(jax.checkpoint(lambda x: x @ x)(x))
  # Forward, again under the checkpoint, and a product for each factor.
  assert count(jax.grad(product), (5, 5)) in (2 * 2 * 5**3, 3 * 2 * 5**3)


CEM = planning.CEM(num_samples=300, num_elites=30, num_iterations=30)


def cost(planner):
  """100 before the search, and 7 for every candidate of every iteration."""
  return 100.0 + 7.0 * planner.num_samples * planner.num_iterations


def test_a_budget_buys_candidates_with_their_share_of_elites():
  for samples in (40, 200, 600):
    budget = 100.0 + 7.0 * samples * 30 + 5.0
    fitted = flop_budget.fit(CEM, budget, cost)
    assert fitted == dataclasses.replace(
      CEM, num_samples=samples, num_elites=samples // 10
    )
    assert cost(fitted) <= budget < cost(fitted) + 7.0 * 30


def test_a_small_budget_buys_fewer_iterations_of_the_fewest_candidates():
  fitted = flop_budget.fit(CEM, 100.0 + 7.0 * 20 * 4 + 3.0, cost)
  assert fitted == dataclasses.replace(
    CEM, num_samples=20, num_elites=2, num_iterations=4
  )
  gradient = planning.Gradient(num_samples=10, num_iterations=100)
  fitted = flop_budget.fit(gradient, 100.0 + 7.0 * 5, cost)
  assert (fitted.num_samples, fitted.num_iterations) == (1, 5)
  # It learns from all of them.
  mppi = flop_budget.fit(planning.MPPI(), 100.0 + 7.0 * 30 * 50, cost)
  assert (mppi.num_samples, mppi.num_elites) == (50, None)


@pytest.mark.parametrize(
  ('budget', 'message'),
  [
    (200.0, 'is less than the 240 operations that one iteration of 20 cand'),
    (0.0, 'must be above 0 and finite, got 0.0'),
    (float('nan'), 'must be above 0 and finite, got nan'),
  ],
)
def test_a_budget_for_nothing_is_refused(budget, message):
  with pytest.raises(ValueError, match=message):
    flop_budget.fit(CEM, budget, cost)


def test_a_planner_of_other_numbers_is_refused():
  @dataclasses.dataclass(frozen=True)
  class Other:
    depth: int = 3

  with pytest.raises(ValueError, match='and Other has not both'):
    flop_budget.fit(Other(), 1e9, cost)
