import jax
import jax.numpy as jnp
import numpy as np
import problem_sets
import pytest
from problem_sets import A, B, H, make_root

from jepa_wm import planning
from jepa_wm.planning import colored_noise
from jepa_wm.types import Root

# The published planner, fed with its own noise.


@pytest.fixture(scope='module')
def golden():
  return problem_sets.load_golden()


def white_noise(data):
  """`[I, B, N, H, A]`; the file has time last."""
  return np.moveaxis(data['icem/noise'], -1, -2)


def test_equals_the_published_planner(golden):
  data, config = golden
  box = np.ones(config['action_dim'], np.float32)
  answer = problem_sets.golden_plan(
    planning.icem_plan,
    data,
    config,
    white_noise(data),
    num_elites=config['topk'],
    num_kept=config['icem_n_elite_keep'],
    noise_beta=config['icem_noise_beta'],
    momentum=config['icem_alpha'],
    action_constraints=planning.ActionBounds(
      config['icem_action_low'] * box, config['icem_action_high'] * box
    ),
    return_mean=False,
  )
  best = data['icem_best/actions']
  np.testing.assert_allclose(answer.actions, best, atol=1e-5)
  np.testing.assert_allclose(answer.mean, data['icem/actions'], atol=1e-5)
  np.testing.assert_allclose(answer.std, data['icem/std'][-1], atol=1e-5)
  problem = np.arange(config['n_envs'])[:, None]
  kept = data['icem/topk_inds'][-1][:, : config['icem_n_elite_keep']]
  elites = data['icem/candidates'][-1][problem, kept]
  np.testing.assert_allclose(answer.elites, elites, atol=1e-5)
  trace = answer.diagnostics
  costs = np.sort(data['icem/costs'], axis=2)
  elite_cost = costs[..., : config['topk']].mean(2)
  np.testing.assert_allclose(trace.best_cost, costs[..., 0], rtol=2e-5)
  np.testing.assert_allclose(trace.mean_cost, costs.mean(2), rtol=2e-5)
  np.testing.assert_allclose(trace.elite_cost, elite_cost, rtol=2e-5)
  np.testing.assert_allclose(
    trace.spread[1:], data['icem/std'][:-1].mean((2, 3)), rtol=2e-5
  )
  np.testing.assert_allclose(
    answer.cost, problem_sets.golden_price(data, best), rtol=2e-5
  )


def test_colors_noise_like_the_published_planner(golden):
  data, config = golden
  first = white_noise(data)[0]
  colored = colored_noise.color(jnp.asarray(first), config['icem_noise_beta'])
  # The first mean is 0.
  low, high = config['icem_action_low'], config['icem_action_high']
  candidates = np.clip(config['initial_std'] * colored, low, high)
  np.testing.assert_allclose(
    candidates[:, 1:], data['icem/candidates'][0][:, 1:], atol=1e-5
  )


# Noise.


@pytest.mark.parametrize(('horizon', 'beta'), [(7, 1.0), (8, 3.0), (5, 2.0)])
def test_colored_noise_equals_the_filter_in_frequencies(horizon, beta):
  rng = np.random.default_rng(0)
  white = rng.normal(size=(2, 5, horizon, 3)).astype(np.float32)
  colored = colored_noise.color(jnp.asarray(white), beta)
  frequency = np.fft.rfftfreq(horizon)
  frequency[0] = frequency[1]
  spectrum = np.fft.rfft(white, axis=2)
  spectrum *= np.reshape(frequency ** (-beta / 2), (-1, 1))
  expected = np.fft.irfft(spectrum, n=horizon, axis=2)
  expected /= expected.std(axis=2, ddof=1, keepdims=True)
  np.testing.assert_allclose(colored, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(('horizon', 'beta'), [(1, 2.0), (3, 2.0), (9, 0.0)])
def test_noise_of_one_frequency_stays_white(horizon, beta):
  white = np.random.default_rng(0).normal(size=(2, 5, horizon, 3))
  white = jnp.asarray(white, jnp.float32)
  np.testing.assert_array_equal(colored_noise.color(white, beta), white)


# Populations and elites.


@pytest.mark.parametrize(
  ('num_samples', 'num_iterations', 'decay', 'sizes'),
  [
    (300, 10, 1.25, [300, 240, 192, 153, 122, 98, 78, 62, 60, 60]),
    (300, 3, 1.0, [300] * 3),
    (40, 3, 1.25, [40, 32, 25]),
    (12, 3, 1.25, [12, 10, 10]),
  ],
)
def test_populations_decay_to_twice_the_elites(
  num_samples, num_iterations, decay, sizes
):
  planner = planning.ICEM(
    num_samples=num_samples, num_iterations=num_iterations, decay=decay
  )
  assert planner.populations() == sizes
  # A tenth, and those that are kept.
  assert planner.num_elites == max(num_samples // 10, 5)


def test_elites_outlive_iterations_populations_and_plans():
  """The optimum is handed in once, and nothing that is drawn is better."""
  sizes = [8, 4, 4]
  noise = np.random.default_rng(1).normal(size=(3, B, 8, H, A))

  @jax.jit
  def plan(root, init_elites):
    return problem_sets.effort_plan(
      planning.icem_plan,
      root,
      noise.astype(np.float32),
      num_samples=8,
      num_elites=2,
      num_iterations=3,
      num_kept=2,
      decay=2.0,
      return_mean=False,
      init_elites=init_elites,
    )

  root = make_root()
  root = Root(root.state.at[1].set(jnp.nan), root.goal)
  actions, costs = problem_sets.optima(make_root())
  elites = np.full((B, 2, H, A), np.nan, np.float32)
  elites[:, 1] = actions
  answer = plan(root, jnp.asarray(elites))
  well = np.array([0, 2, 3])
  np.testing.assert_array_equal(answer.actions[well], actions[well])
  np.testing.assert_array_equal(answer.elites[well, 0], actions[well])
  np.testing.assert_allclose(answer.cost[well], costs[well], rtol=1e-4)
  # A sequence that is no number is drawn: nothing but the broken problem,
  # which counts the candidates, has no cost.
  counts = np.array(answer.diagnostics.num_nonfinite)
  np.testing.assert_array_equal(counts[:, 1], sizes)
  np.testing.assert_array_equal(counts[:, well], 0)
  np.testing.assert_array_equal(answer.actions[1], 0.0)
  # Without the hint the optimum is not found, and what is found is not lost.
  alone = plan(root, jnp.full((B, 2, H, A), jnp.nan))
  assert np.all(alone.cost[well] > 1.001 * costs[well])
  best = alone.diagnostics.best_cost[:, well]
  np.testing.assert_array_less(np.diff(best, axis=0), 1e-6)
  np.testing.assert_allclose(alone.cost[well], best[-1], rtol=1e-5)


# Doors.


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    ({'decay': 0.9}, 'decay must be at least 1, got 0.9'),
    ({'num_kept': 9}, 'num_kept must not exceed num_elites .* got 9 of 8'),
    ({'momentum': 1.0}, 'momentum must be at least 0 and below 1'),
    (
      {'init_elites': np.zeros((B, 4, H, A))},
      r'init_elites must be \[B, num_kept, H, A\] = \[4, 5, 3, 2\], got .* 4',
    ),
  ],
)
def test_refuses_settings_that_make_no_sense(settings, message):
  with pytest.raises(ValueError, match=message):
    problem_sets.effort_plan(
      planning.icem_plan, make_root(), num_samples=64, num_elites=8, **settings
    )
