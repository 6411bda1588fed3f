import jax.numpy as jnp
import numpy as np
import problem_sets
import pytest

from jepa_wm import planning
from jepa_wm.planning import mppi


@pytest.mark.parametrize('run', ['mppi', 'mppi_all'])
def test_equals_the_published_planner(run):
  data, config = problem_sets.load_golden()
  num_elites = config['topk'] if run == 'mppi' else None
  answer = problem_sets.golden_plan(
    planning.mppi_plan,
    data,
    config,
    data[f'{run}/noise'],
    num_elites=num_elites,
    temperature=config['mppi_temperature'],
  )
  np.testing.assert_allclose(answer.actions, data[f'{run}/actions'], atol=1e-5)
  np.testing.assert_array_equal(answer.mean, answer.actions)
  np.testing.assert_array_equal(answer.std, np.float32(config['initial_std']))
  trace = answer.diagnostics
  costs = np.sort(data[f'{run}/costs'], axis=2)
  elite_cost = costs[..., :num_elites].mean(2)
  np.testing.assert_allclose(trace.best_cost, costs[..., 0], rtol=2e-5)
  np.testing.assert_allclose(trace.mean_cost, costs.mean(2), rtol=2e-5)
  np.testing.assert_allclose(trace.elite_cost, elite_cost, rtol=2e-5)
  np.testing.assert_allclose(
    trace.elite_cost[-1], data[f'{run}/final_cost'], rtol=2e-5
  )
  price = problem_sets.golden_price(data, data[f'{run}/actions'])
  np.testing.assert_allclose(answer.cost, price, rtol=2e-5)


@pytest.mark.parametrize('shift', [0.0, 1e4])
def test_weights_are_a_softmax_over_what_has_a_cost(shift):
  costs = np.array(
    [
      [3.0, 1.0, 2.0, 500.0],
      [np.nan, 2.0, -np.inf, 1.0],
      [np.inf, np.nan, np.nan, -np.inf],
    ],
    np.float32,
  )
  weights = mppi.soft_weights(jnp.asarray(costs + np.float32(shift)), 0.5)
  expected = np.zeros((3, 4))
  expected[0] = np.exp(-2.0 * (costs[0] - 1.0))
  expected[1, [1, 3]] = np.exp(-2.0), 1.0
  expected[:2] /= expected[:2].sum(axis=1, keepdims=True)
  np.testing.assert_allclose(weights, expected, rtol=1e-5, atol=1e-12)


def test_refuses_a_temperature_that_is_not_positive():
  with pytest.raises(ValueError, match='temperature must be positive, got 0'):
    problem_sets.effort_plan(
      planning.mppi_plan, problem_sets.make_root(), temperature=0.0
    )
