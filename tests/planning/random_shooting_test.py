import jax
import numpy as np
import problem_sets
from problem_sets import A, B, H, make_root

from jepa_wm import planning

NOISE = np.random.default_rng(6).normal(size=(3, B, 32, H, A))
NOISE = NOISE.astype(np.float32)


def test_takes_the_best_of_all_draws():
  @jax.jit
  def plan(root, init_mean):
    return problem_sets.effort_plan(
      planning.random_shooting_plan,
      root,
      NOISE,
      num_samples=32,
      num_iterations=3,
      init_mean=init_mean,
      init_std=0.7,
    )

  root = make_root()
  mean = np.full((B, H, A), 0.2, np.float32)
  answer = plan(root, mean)
  drawn = mean[:, None] + np.float32(0.7) * NOISE
  candidates = np.concatenate(
    [mean[:, None], *(drawn[i, :, 1:] for i in range(3))], axis=1
  )
  costs = problem_sets.price(candidates, root)
  index = np.argmin(costs, axis=1)
  # In an iteration that is not the last, for some problem.
  assert len(np.unique((index - 1) // 31)) > 1
  expected = candidates[np.arange(B), index]
  np.testing.assert_allclose(answer.actions, expected, atol=1e-6)
  np.testing.assert_allclose(answer.cost, costs.min(axis=1), rtol=1e-5)
  # Nothing is learnt.
  np.testing.assert_array_equal(answer.mean, mean)
  np.testing.assert_allclose(answer.diagnostics.spread, 0.7, rtol=1e-6)
