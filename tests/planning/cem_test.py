import functools

import jax
import jax.numpy as jnp
import numpy as np
import problem_sets
import pytest
from problem_sets import (
  PARAMS,
  A,
  B,
  H,
  dynamics,
  effort_cost,
  make_keys,
  make_root,
  optima,
)

from jepa_wm import planning
from jepa_wm.planning import gaussian, sampling
from jepa_wm.types import Root


def plan_eagerly(
  rng_key,
  root,
  init_mean=None,
  init_std=1.0,
  dynamics_fn=dynamics,
  cost_fn=effort_cost,
  **settings,
):
  settings = {
    'horizon': H,
    'action_dim': A,
    'num_samples': 64,
    'num_elites': 8,
    'num_iterations': 4,
    'step_weights': planning.step_weights(H, 'all'),
    **settings,
  }
  return planning.cem_plan(
    PARAMS,
    rng_key,
    root,
    dynamics_fn,
    cost_fn,
    init_mean=init_mean,
    init_std=init_std,
    **settings,
  )


# One function, so that tests with the same settings share its compilation.
plan = jax.jit(
  plan_eagerly,
  static_argnames=(
    'dynamics_fn',
    'cost_fn',
    'num_samples',
    'num_elites',
    'num_iterations',
    'noise_fn',
  ),
)


def plan_well(root, init_mean, init_std):
  shape = (B, H, A)
  return plan(
    make_keys(),
    root,
    np.broadcast_to(np.float32(init_mean), shape),
    np.full(shape, init_std, np.float32),
    num_samples=300,
    num_elites=30,
    num_iterations=25,
  )


def test_finds_the_optimum_of_a_linear_quadratic_problem():
  root = make_root()
  # The farthest optimum is four units away: wide enough not to stop short.
  answer = plan_well(root, 0.0, 3.0)
  actions, costs = optima(root)
  np.testing.assert_allclose(answer.cost, costs, rtol=1e-4)
  np.testing.assert_allclose(answer.actions, actions, atol=2e-2)
  np.testing.assert_array_equal(answer.actions, answer.mean)
  trace = answer.diagnostics
  assert np.all(np.diff(trace.elite_cost[:5], axis=0) < 0)
  np.testing.assert_allclose(trace.spread[0], 3.0)
  assert np.all(trace.spread[-1] < 1e-2)
  np.testing.assert_array_equal(trace.num_nonfinite, 0)


def test_a_warm_start_needs_fewer_iterations():
  root = make_root()
  actions, costs = optima(root)
  cold, warm = (
    np.asarray(answer.diagnostics.elite_cost) - costs
    for answer in (
      plan_well(root, 0.0, 3.0),
      plan_well(root, actions + 0.3, 0.3),
    )
  )
  assert np.all(warm[2] < 0.2 * cold[2])
  num_cold, num_warm = (np.sum(x > 0.01, axis=0) for x in (cold, warm))
  assert np.all(num_warm < num_cold)


# The published planner, fed with its own noise.


@pytest.fixture(scope='module')
def golden():
  return problem_sets.load_golden()


@pytest.fixture(scope='module')
def published_plan(golden):
  data, config = golden

  @jax.jit
  def plan(init_mean, noise):
    return planning.cem_plan(
      problem_sets.golden_params(data),
      jax.random.key(0),
      problem_sets.golden_root(data, config),
      problem_sets.golden_dynamics,
      problem_sets.golden_cost,
      horizon=config['horizon'],
      action_dim=config['action_dim'],
      num_samples=config['num_samples'],
      num_elites=config['topk'],
      num_iterations=config['n_iterations'],
      init_mean=init_mean,
      init_std=config['initial_std'],
      noise_fn=lambda rng_keys, iteration: noise[iteration],
    )

  return plan


@pytest.mark.parametrize('run', ['cem', 'cem_warm'])
def test_equals_the_published_planner(golden, published_plan, run):
  data, config = golden
  init_mean = np.zeros_like(data[f'{run}/actions'])
  if run == 'cem_warm':
    init_mean[:, : config['init_action_steps']] = data['init_action']
  answer = published_plan(init_mean, data[f'{run}/noise'])
  actions, costs = data[f'{run}/actions'], np.sort(data[f'{run}/costs'], axis=2)
  np.testing.assert_allclose(answer.actions, actions, atol=1e-5)
  np.testing.assert_allclose(answer.std, data[f'{run}/std'][-1], atol=1e-5)
  trace = answer.diagnostics
  elite_cost = costs[..., : config['topk']].mean(2)
  np.testing.assert_allclose(trace.best_cost, costs[..., 0], rtol=2e-5)
  np.testing.assert_allclose(trace.mean_cost, costs.mean(2), rtol=2e-5)
  np.testing.assert_allclose(trace.elite_cost, elite_cost, rtol=2e-5)
  np.testing.assert_allclose(
    trace.elite_cost[-1], data[f'{run}/final_cost'], rtol=2e-5
  )
  np.testing.assert_allclose(
    trace.spread[1:], data[f'{run}/std'][:-1].mean((2, 3)), rtol=2e-5
  )
  price = problem_sets.golden_price(data, actions)
  np.testing.assert_allclose(answer.cost, price, rtol=2e-5)


@pytest.mark.parametrize('run', ['cem', 'cem_warm'])
def test_each_part_equals_the_published_one(golden, run):
  data, config = golden
  problem = np.arange(config['n_envs'])[:, None]
  for i in range(1, config['n_iterations']):
    mean, std = data[f'{run}/mean'][i - 1], data[f'{run}/std'][i - 1]
    candidates = sampling.draw(mean, std, data[f'{run}/noise'][i])
    expected = data[f'{run}/candidates'][i]
    np.testing.assert_allclose(candidates, expected, atol=1e-5)
    np.testing.assert_array_equal(candidates[:, 0], mean)
    indices, elites, costs = sampling.cheapest(
      jnp.asarray(expected),
      jnp.asarray(data[f'{run}/costs'][i]),
      config['topk'],
    )
    np.testing.assert_array_equal(indices, data[f'{run}/topk_inds'][i])
    np.testing.assert_array_equal(elites, expected[problem, indices])
    mean, std = gaussian.fit(mean, std, elites, costs)
    np.testing.assert_allclose(mean, data[f'{run}/mean'][i], atol=1e-5)
    np.testing.assert_allclose(std, data[f'{run}/std'][i], atol=1e-5)


# What must not change a plan.


@pytest.mark.slow
def test_is_traced_once_for_any_number_of_plans(rng_key):
  traces = []

  def counting_dynamics(params, rng_key, action, state):
    traces.append(action.shape)
    return dynamics(params, rng_key, action, state)

  @jax.jit
  def encode_and_plan(pixels, goal, rng_key):
    root = Root(jnp.mean(pixels, axis=1), jnp.mean(goal, axis=1))
    return plan_eagerly(
      rng_key, root, dynamics_fn=counting_dynamics, num_iterations=20
    )

  pixels = np.zeros((1, 5, 2), np.float32)
  encode_and_plan(pixels, pixels, rng_key)
  first = len(traces)
  assert first <= 4  # Shapes and scan, for the candidates and for the mean.
  encode_and_plan(pixels + 1.0, pixels, jax.random.key(1))
  assert len(traces) == first
  assert encode_and_plan._cache_size() == 1


# Settings.


@pytest.mark.slow
def test_bounds_the_first_deviation_and_its_floor():
  low, high = np.float32([-0.3, 0.1]), np.float32([0.1, 0.2])

  def watching_cost(params, state, action, goal):
    box = (1, 1, A)
    allowed = (action >= low.reshape(box)) & (action <= high.reshape(box))
    cost = effort_cost(params, state, action, goal)
    return jnp.where(jnp.all(allowed, axis=-1), cost, jnp.nan)

  root = make_root()
  answer = plan(
    make_keys(),
    Root(root.state, root.goal + 100.0),
    init_std=jnp.array([0.5, 1.5]),
    cost_fn=watching_cost,
    action_constraints=planning.ActionBounds(low, high),
    min_std=0.01,
  )
  np.testing.assert_array_equal(answer.diagnostics.num_nonfinite, 0)
  actions = np.asarray(answer.actions)
  assert np.all((actions >= low) & (actions <= high))
  # To get that far, the last actions push as hard as they may.
  np.testing.assert_allclose(actions[:, -1], np.tile(high, (B, 1)), atol=0.02)
  np.testing.assert_allclose(answer.diagnostics.spread[0], 1.0)
  assert answer.std.min() == np.float32(0.01)


def oracle(root, mean, noise, proposed, *, num_kept, momenta, wall):
  """The whole search in NumPy: mean, deviation, and each best cost."""
  std, given = np.ones_like(mean), proposed
  mean_momentum, std_momentum = momenta
  best_costs = []
  for drawn in noise.astype(np.float64):
    candidates = mean[:, None] + std[:, None] * drawn
    candidates[:, 0] = mean
    candidates[:, 1 : 1 + given.shape[1]] = given
    costs = problem_sets.price(candidates, root)
    costs += 0.2 * np.maximum(candidates[..., 0] - wall, 0.0).sum(-1)
    order = np.argsort(costs, axis=1, kind='stable')[:, :8]
    best_costs.append(np.take_along_axis(costs, order[:, :1], 1)[:, 0])
    elites = candidates[np.arange(B)[:, None], order]
    given = elites[:, :num_kept]
    mean = mean_momentum * mean + (1 - mean_momentum) * elites.mean(1)
    std = std_momentum * std + (1 - std_momentum) * elites.std(1, ddof=1)
  return mean, std, np.stack(best_costs)


@pytest.mark.parametrize(
  ('num_kept', 'num_proposed', 'momenta', 'wall'),
  [(3, 0, (0.0, 0.0), 0.1), (2, 5, (0.3, 0.6), 100.0)],
)
def test_equals_the_same_search_in_numpy(num_kept, num_proposed, momenta, wall):
  rng = np.random.default_rng(11)
  noise = rng.normal(size=(5, B, 64, H, A)).astype(np.float32)
  proposed = rng.normal(size=(B, num_proposed, H, A)).astype(np.float32)
  mean = np.full((B, H, A), 0.2, np.float32)
  root = make_root()

  def propose(params, rng_keys, root):
    assert params is PARAMS and rng_keys.shape == root.state.shape[:1] == (B,)
    return jnp.asarray(proposed)

  def first_action(params, state, action, goal):
    return action[..., 0]

  answer = jax.jit(
    lambda root: plan_eagerly(
      make_keys(),
      root,
      mean,
      num_iterations=5,
      num_kept=num_kept,
      mean_momentum=momenta[0],
      std_momentum=momenta[1],
      proposal_fn=propose if num_proposed else None,
      noise_fn=lambda rng_keys, iteration: jnp.asarray(noise)[iteration],
      guardrails=[planning.Guardrail(first_action, wall, penalty=0.2)],
    )
  )(root)
  mean, std, best = oracle(
    root, mean, noise, proposed, num_kept=num_kept, momenta=momenta, wall=wall
  )
  np.testing.assert_allclose(answer.mean, mean, atol=1e-4)
  np.testing.assert_allclose(answer.std, std, atol=1e-4)
  np.testing.assert_allclose(answer.diagnostics.best_cost, best, rtol=1e-4)
  # The price of the plan is without penalties: those are told apart.
  cost = problem_sets.price(mean[:, None], root)[:, 0]
  np.testing.assert_allclose(answer.cost, cost, rtol=1e-4)
  violation = np.maximum(mean[..., 0] - wall, 0.0).max(axis=1)
  np.testing.assert_allclose(answer.violation, violation, atol=1e-4)
  assert np.any(violation > 0.0) == (wall < 1.0)


@pytest.mark.slow
def test_patience_leaves_a_problem_as_it_is_and_skips_the_rest():
  calls = []

  def counting_dynamics(params, rng_key, action, state):
    jax.debug.callback(lambda: calls.append(None))
    return dynamics(params, rng_key, action, state)

  @functools.partial(jax.jit, static_argnames='patience')
  def plan(keys, root, patience):
    return plan_eagerly(
      keys,
      root,
      num_iterations=30,
      # So wide that the elites soon do not get any cheaper.
      min_std=0.5,
      patience=patience,
      dynamics_fn=counting_dynamics,
    )

  def count(*arguments):
    calls.clear()
    answer = jax.block_until_ready(plan(*arguments))
    jax.effects_barrier()
    return answer, len(calls) // H - 1

  root, keys = make_root(), make_keys()
  endless, num_endless = count(keys, root, 30)
  assert num_endless == 30
  patient, num_run = count(keys, root, 3)
  # Which iteration is the third in a row that brings nothing new?
  elite_cost = np.asarray(endless.diagnostics.elite_cost)
  last = []
  for column in elite_cost.T:
    best, stale, i = column[0], 0, 0
    while stale < 3:
      i += 1
      best, stale = min(best, column[i]), stale + 1 if column[i] >= best else 0
    last.append(i)
  assert num_run == max(last) + 1 < 30 and len(set(last)) > 1
  for problem, i in enumerate(last):
    trace, whole = (
      np.stack([leaf[:, problem] for leaf in answer.diagnostics[:-1]], axis=1)
      for answer in (patient, endless)
    )
    np.testing.assert_array_equal(trace[: i + 1], whole[: i + 1])
    np.testing.assert_array_equal(trace[i:], whole[[i] * (30 - i)])
  # Alone, a problem is left where it is among others that go on.
  first = int(np.argmin(last))
  alone, num_alone = count(
    keys[first : first + 1],
    jax.tree.map(lambda leaf: leaf[first : first + 1], root),
    3,
  )
  assert num_alone == last[first] + 1
  np.testing.assert_allclose(alone.mean[0], patient.mean[first], atol=1e-5)
  np.testing.assert_allclose(alone.std[0], patient.std[first], atol=1e-5)


# Costs that are not numbers.


NOISE = np.random.default_rng(7).normal(size=(B, 64, H, A)).astype(np.float32)


def fixed_noise(rng_keys, iteration):
  del rng_keys, iteration
  return jnp.asarray(NOISE)


def poisoned_cost(params, state, action, goal):
  """Infinite outside of candidates 3..5, NaN for the last two problems."""
  cost = effort_cost(params, state, action, goal)
  index = jnp.arange(cost.shape[1]).reshape(1, -1)
  cost = jnp.where((index >= 3) & (index < 6), cost, jnp.inf)
  problem = jnp.arange(cost.shape[0]).reshape(-1, 1)
  return jnp.where(problem < 2, cost, jnp.nan)


def test_candidates_without_a_cost_teach_nothing_and_are_counted():
  """Three finite costs for eight elites: the fit is to those three."""
  mean = np.full((B, H, A), 0.5, np.float32)
  answer = plan(
    make_keys(),
    make_root(),
    mean,
    cost_fn=poisoned_cost,
    num_iterations=1,
    noise_fn=fixed_noise,
  )
  teachers = mean[:, None] + NOISE[:, 3:6]
  trace = answer.diagnostics
  np.testing.assert_allclose(answer.mean[:2], teachers.mean(1)[:2], atol=1e-6)
  np.testing.assert_allclose(
    answer.std[:2], teachers.std(1, ddof=1)[:2], atol=1e-6
  )
  np.testing.assert_array_equal(trace.num_nonfinite, [[61, 61, 64, 64]])
  assert np.all(np.isfinite(trace.mean_cost[:, :2]))
  # Where nothing has a cost, nothing is learnt and the plan says so.
  np.testing.assert_array_equal(answer.mean[2:], mean[2:])
  np.testing.assert_array_equal(answer.std[2:], 1.0)
  assert np.all(np.isinf(trace.best_cost[:, 2:]))
  assert not np.any(np.isfinite(answer.cost[2:]))


# Doors.


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    (
      {'action_constraints': planning.ActionBounds(-np.ones(3), np.ones(3))},
      r'low of ActionBounds must have one value .* 2 action dim.* shape \[3\]',
    ),
    ({'num_kept': 9}, 'num_kept must not exceed num_elites .* got 9 of 8'),
    ({'patience': 0}, 'patience must be at least 1, got 0'),
    ({'min_std': np.nan}, 'min_std must be a finite number, got nan'),
    ({'mean_momentum': 1.0}, 'momentum must be at least 0 and below 1'),
    ({'std_momentum': -0.1}, 'momentum must be at least 0 and below 1'),
    (
      {'proposal_fn': lambda *_: jnp.zeros((4, 64, 3, 2))},
      r"proposal_fn must return \[B, F, H, A\] = \[4, 'F', 3, 2\] with F below"
      r' num_samples=64, got shape \[4, 64, 3, 2\]',
    ),
  ],
)
def test_refuses_settings_that_make_no_sense(settings, message):
  with pytest.raises(ValueError, match=message):
    plan_eagerly(make_keys(), make_root(), **settings)


def test_names_the_cost_function_that_returns_the_wrong_shape():
  def one_cost_per_problem(params, state, action, goal):
    return jnp.mean(effort_cost(params, state, action, goal), axis=1)

  message = (
    r'cost_fn .*one_cost_per_problem must return .* \[4, 64\],'
    r' got shape \[4\]'
  )
  with pytest.raises(ValueError, match=message):
    plan_eagerly(make_keys(), make_root(), cost_fn=one_cost_per_problem)


def test_refuses_starts_and_goals_that_do_not_pair_up():
  root = Root(make_root().state, make_root(3).goal)
  message = r'root.state and root.goal must hold equally many .* 4 and 3'
  with pytest.raises(ValueError, match=message):
    plan_eagerly(make_keys(), root)
