import jax
import numpy as np
import problem_sets
from problem_sets import A, B, H, make_root

from jepa_wm import planning

NOISE = np.random.default_rng(5).normal(size=(3, B, 32, H, A))
NOISE = NOISE.astype(np.float32)


@jax.jit
def plan(root, init_mean, init_std):
  return problem_sets.effort_plan(
    planning.predictive_sampling_plan,
    root,
    NOISE,
    num_samples=32,
    num_iterations=3,
    init_mean=init_mean,
    init_std=init_std,
  )


def test_moves_to_the_best_draw_each_time():
  root = make_root()
  nominal = np.full((B, H, A), 0.2, np.float32)
  answer = plan(root, nominal, 0.7)
  problem = np.arange(B)
  for noise, best_cost in zip(NOISE, answer.diagnostics.best_cost):
    drawn = nominal[:, None] + np.float32(0.7) * noise
    candidates = np.concatenate([nominal[:, None], drawn[:, 1:]], axis=1)
    costs = problem_sets.price(candidates, root)
    nominal = candidates[problem, np.argmin(costs, axis=1)]
    np.testing.assert_allclose(best_cost, costs.min(axis=1), rtol=1e-5)
  np.testing.assert_allclose(answer.actions, nominal, atol=1e-6)
  np.testing.assert_array_equal(answer.mean, answer.actions)
  np.testing.assert_allclose(answer.std, 0.7)


def test_keeps_the_optimum_that_it_is_given():
  root = make_root()
  actions, costs = problem_sets.optima(root)
  answer = plan(root, actions, 0.7)
  np.testing.assert_array_equal(answer.actions, actions)
  np.testing.assert_allclose(answer.cost, costs, rtol=1e-4)
