import json
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm import planning, sharding
from jepa_wm.planning import cem, problems, search
from jepa_wm.types import Root

GOLDEN = pathlib.Path(__file__).parents[1] / 'golden' / 'cem_trace.npz'
B, H, A = 4, 3, 2
PARAMS = {
  'transition': np.array([[1.0, 0.3], [-0.2, 0.9]], np.float32),
  'control': np.array([[0.5, 0.1], [0.0, 0.7]], np.float32),
}


def dynamics(params, rng_key, action, state):
  del rng_key
  drift = jnp.einsum('ij,bnj->bni', params['transition'], state)
  return drift + jnp.einsum('ij,bnj->bni', params['control'], action)


def noisy_dynamics(params, rng_key, action, state):
  noise = search.white_noise(rng_key, state.shape[1:])
  return dynamics(params, None, action, state) + 0.1 * noise


def effort_cost(params, state, action, goal):
  distance = planning.squared_distance(params, state, action, goal)
  return distance + 0.1 * jnp.sum(action**2, axis=-1)


def make_root(num_problems=B):
  rng = np.random.default_rng(3)
  state, goal = rng.normal(size=(2, B, 2)).astype(np.float32)
  return Root(
    jnp.asarray(state[:num_problems]), jnp.asarray(goal[:num_problems])
  )


def make_keys(seed=0):
  return problems.problem_keys(jax.random.key(seed), B)


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


def optimum(state, goal):
  """Solves the linear-quadratic problem: actions [H, A] and their cost."""
  transition = PARAMS['transition'].astype(np.float64)
  control = PARAMS['control'].astype(np.float64)
  rows, targets = [], []
  for h in range(1, H + 1):
    blocks = [
      np.linalg.matrix_power(transition, h - 1 - j) @ control
      if j < h
      else np.zeros((2, A))
      for j in range(H)
    ]
    rows.append(np.concatenate(blocks, axis=1))
    targets.append(goal - np.linalg.matrix_power(transition, h) @ state)
  rows = np.concatenate([*rows, np.sqrt(0.1) * np.eye(H * A)])
  targets = np.concatenate([*targets, np.zeros(H * A)])
  actions, *_ = np.linalg.lstsq(rows, targets, rcond=None)
  cost = np.sum((rows @ actions - targets) ** 2) / H
  return actions.reshape(H, A), cost


def optima(root):
  pairs = [
    optimum(np.asarray(state), np.asarray(goal))
    for state, goal in zip(root.state, root.goal)
  ]
  actions, costs = zip(*pairs)
  return np.stack(actions).astype(np.float32), np.stack(costs)


def plan_well(root, init_mean, init_std):
  shape = (B, H, A)
  return plan(
    make_keys(),
    root,
    jnp.broadcast_to(init_mean, shape),
    jnp.full(shape, init_std),
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
  with np.load(GOLDEN, allow_pickle=False) as file:
    data = {key: file[key] for key in file.files}
  return data, json.loads(str(data.pop('meta')))['config']


def golden_dynamics(params, rng_key, action, state):
  """Adds up the parts of a cost that looks at the whole sequence."""
  del rng_key
  time = state['time'][0, 0]
  goal = jnp.take(params['goal'], time, axis=1)
  weight = jnp.take(params['W'], time, axis=0)
  error = (action - jnp.expand_dims(goal, 1)) ** 2
  return {
    'time': state['time'] + 1,
    'price': state['price'] + jnp.sum(weight.reshape(1, 1, -1) * error, -1),
    'sum': state['sum'] + action,
  }


def golden_cost(params, state, action, goal):
  del action
  rest = jnp.sum((state['sum'] - goal) ** 2, axis=-1)
  return state['price'] + params['kappa'] * rest


@pytest.fixture(scope='module')
def published_plan(golden):
  data, config = golden
  num_problems, action_dim = config['n_envs'], config['action_dim']
  root = Root(
    {
      'time': jnp.zeros(num_problems, jnp.int32),
      'price': jnp.zeros(num_problems),
      'sum': jnp.zeros((num_problems, action_dim)),
    },
    jnp.asarray(data['cost/csum']),
  )

  @jax.jit
  def plan(init_mean, noise):
    return planning.cem_plan(
      {key: data[f'cost/{key}'] for key in ('W', 'goal', 'kappa')},
      jax.random.key(0),
      root,
      golden_dynamics,
      golden_cost,
      horizon=config['horizon'],
      action_dim=action_dim,
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
  error = (actions - data['cost/goal']) ** 2
  price = np.sum(data['cost/W'] * error, axis=(1, 2))
  rest = np.sum(actions, axis=1) - data['cost/csum']
  price = price + data['cost/kappa'] * np.sum(rest**2, axis=1)
  np.testing.assert_allclose(answer.cost, price, rtol=2e-5)


@pytest.mark.parametrize('run', ['cem', 'cem_warm'])
def test_each_part_equals_the_published_one(golden, run):
  data, config = golden
  problem = np.arange(config['n_envs'])[:, None]
  for i in range(1, config['n_iterations']):
    mean, std = data[f'{run}/mean'][i - 1], data[f'{run}/std'][i - 1]
    candidates = search.draw(mean, std, data[f'{run}/noise'][i])
    expected = data[f'{run}/candidates'][i]
    np.testing.assert_allclose(candidates, expected, atol=1e-5)
    np.testing.assert_array_equal(candidates[:, 0], mean)
    indices, elites, costs = search.cheapest(
      jnp.asarray(expected),
      jnp.asarray(data[f'{run}/costs'][i]),
      config['topk'],
    )
    np.testing.assert_array_equal(indices, data[f'{run}/topk_inds'][i])
    np.testing.assert_array_equal(elites, expected[problem, indices])
    mean, std = cem.fit(mean, std, elites, costs)
    np.testing.assert_allclose(mean, data[f'{run}/mean'][i], atol=1e-5)
    np.testing.assert_allclose(std, data[f'{run}/std'][i], atol=1e-5)


# What must not change a plan.


@pytest.mark.slow
def test_a_problem_does_not_see_its_batch():
  root, keys = make_root(), make_keys()
  together = plan(keys, root, dynamics_fn=noisy_dynamics)
  for i in range(B):
    alone = plan(
      keys[i : i + 1],
      Root(root.state[i : i + 1], root.goal[i : i + 1]),
      dynamics_fn=noisy_dynamics,
    )
    np.testing.assert_allclose(alone.actions[0], together.actions[i], atol=1e-5)
    np.testing.assert_allclose(alone.cost[0], together.cost[i], rtol=1e-5)


@pytest.mark.slow
def test_eight_devices_plan_like_one():
  arguments = {'dynamics_fn': noisy_dynamics}
  one = plan(make_keys(), make_root(), **arguments)
  with jax.set_mesh(sharding.make_mesh(axes=('data', 'samples'), shape=(2, 4))):
    program = plan.lower(make_keys(), make_root(), **arguments).compile()
    eight = program(make_keys(), make_root())
  np.testing.assert_allclose(eight.actions, one.actions, atol=1e-5)
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5),
    eight.diagnostics,
    one.diagnostics,
  )
  # Devices tell each other their costs and the elites, never the candidates.
  gathered = re.findall(r'= f32\[([\d,]+)\]\S* all-gather', program.as_text())
  sizes = [np.prod([int(n) for n in shape.split(',')]) for shape in gathered]
  assert sizes and max(sizes) <= B * 64


def test_the_same_key_gives_the_same_plan():
  # Two problems alike: the keys are all that tells them apart.
  root = jax.tree.map(lambda x: jnp.repeat(x[:1], B, axis=0), make_root())
  keys = make_keys()
  answer = plan(keys, root)
  again = plan(keys, root)
  other = plan(make_keys(1), root)
  np.testing.assert_array_equal(answer.actions, again.actions)
  actions = np.concatenate([answer.actions, other.actions])
  assert len(np.unique(actions.reshape(2 * B, -1), axis=0)) == 2 * B


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


def test_a_problem_that_cannot_be_priced_leaves_the_others_alone():
  root, keys = make_root(), make_keys()
  broken = Root(root.state.at[0].set(jnp.nan), root.goal)
  answer = plan(keys, broken)
  healthy = plan(keys, root)
  assert not np.isfinite(answer.cost[0])
  assert np.all(np.isfinite(answer.actions))
  np.testing.assert_array_equal(answer.diagnostics.num_nonfinite[:, 0], 64)
  np.testing.assert_array_equal(answer.actions[1:], healthy.actions[1:])


# Doors.


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    ({'num_elites': 65}, 'num_elites must not exceed num_samples, got 65 of'),
    ({'num_elites': 1}, 'num_elites must be at least 2, got 1'),
    ({'horizon': 0}, 'horizon must be at least 1, got 0'),
    ({'num_iterations': 0}, 'num_iterations must be at least 1'),
    ({'init_mean': np.zeros((4, 3))}, r'init_mean must be .* got shape \[4, 3'),
    ({'init_std': np.ones(3)}, r'init_std must be .* got shape \[3\]'),
    ({'step_weights': np.ones(4)}, 'step_weights must have one weight'),
    (
      {'action_constraints': planning.ActionBounds(-np.ones(3), np.ones(3))},
      r'low of ActionBounds must have one value .* 2 action dim.* shape \[3\]',
    ),
    (
      {'noise_fn': lambda rng_keys, iteration: jnp.zeros((4, 64, 3))},
      r'noise_fn must return \[B, N, H, A\] = \[4, 64, 3, 2\], got shape',
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
