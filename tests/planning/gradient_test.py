"""What the gradient planner finds; `descent_test` has what it must not do."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import problem_sets
import pytest
from guarded_problem import BOUND, guarded_optima, wall_cost
from problem_sets import PARAMS, A, B, H, make_keys, make_root

from jepa_wm import planning
from jepa_wm.types import Root


def plan(planner=planning.gradient_plan, root=None, **settings):
  settings = {
    'horizon': H,
    'action_dim': A,
    'step_weights': planning.step_weights(H, 'all'),
    **settings,
  }
  planned = jax.jit(
    lambda rng_keys, root: planner(
      PARAMS,
      rng_keys,
      root,
      problem_sets.dynamics,
      problem_sets.effort_cost,
      **settings,
    )
  )
  return planned(make_keys(), make_root() if root is None else root)


# Its optimiser.

OPTIMIZERS = {
  'sgd': optax.sgd(0.3),
  'adam': optax.adam(0.2),
  'adamw': optax.adamw(0.2, weight_decay=0.1),
  'polyak_sgd': optax.polyak_sgd(0.3),
  'clipped': optax.chain(optax.clip_by_global_norm(0.5), optax.sgd(0.3)),
}


def single_cost(actions, state, goal):
  """The linear-quadratic cost of one sequence `[H, A]`, written plainly."""
  cost = 0.0
  for action in actions:
    state = PARAMS['transition'] @ state + PARAMS['control'] @ action
    cost += jnp.sum((state - goal) ** 2) + 0.1 * jnp.sum(action**2)
  return cost / H


@functools.partial(jax.jit, static_argnames='name')
def optax_step(name, state, actions, start, goal):
  optimizer = optax.with_extra_args_support(OPTIMIZERS[name])
  cost, slope = jax.value_and_grad(single_cost)(actions, start, goal)
  updates, state = optimizer.update(slope, state, actions, value=cost)
  norm = jnp.sqrt(jnp.sum(slope**2))
  return optax.apply_updates(actions, updates), state, cost, norm


@pytest.mark.parametrize(
  'name',
  [
    pytest.param(name, marks=[] if name == 'adam' else [pytest.mark.slow])
    for name in OPTIMIZERS
  ],
)
def test_walks_where_optax_walks(name):
  root = make_root()
  num_iterations = 15
  answer = plan(
    num_restarts=1, num_iterations=num_iterations, optimizer=OPTIMIZERS[name]
  )
  for problem, (start, goal) in enumerate(zip(*root)):
    actions = jnp.zeros((H, A))
    state, walked = OPTIMIZERS[name].init(actions), []
    for _ in range(num_iterations + 1):
      before = actions
      actions, state, cost, norm = optax_step(name, state, actions, start, goal)
      walked.append((cost, norm, before))
    costs, norms, path = map(np.stack, zip(*walked))
    trace = answer.diagnostics
    np.testing.assert_allclose(
      trace.best_cost[:, problem], costs[:-1], rtol=1e-4
    )
    np.testing.assert_allclose(
      trace.grad_norm[:, problem], norms[:-1], rtol=1e-3, atol=1e-5
    )
    # The last one is looked at, too.
    best = np.argmin(costs)
    np.testing.assert_allclose(answer.cost[problem], costs[best], rtol=1e-4)
    np.testing.assert_allclose(
      answer.actions[problem], path[best], rtol=1e-3, atol=1e-4
    )
    assert costs[-1] < costs[0]


NAMED = {
  'adam': ({}, optax.adam(0.1)),
  'sgd': (
    {'learning_rate': 0.3, 'momentum': 0.9},
    optax.sgd(0.3, momentum=0.9),
  ),
  'rmsprop': (
    {'learning_rate': 0.02, 'decay': 0.99},
    optax.rmsprop(0.02, decay=0.99),
  ),
}


@pytest.mark.parametrize('name', NAMED)
def test_an_optimiser_by_name_is_the_one_of_optax(name):
  settings, optimizer = NAMED[name]
  gradient = {'num_restarts': 2, 'num_iterations': 5}
  named = plan(optimizer=name, **settings, **gradient)
  given = plan(optimizer=optimizer, **gradient)
  jax.tree.map(np.testing.assert_array_equal, named, given)


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    ({'optimizer': 'adm'}, "one of adam, sgd, rmsprop .* got 'adm'"),
    ({'momentum': 0.9}, "momentum would do nothing: 'adam' has none"),
    ({'optimizer': 'sgd', 'decay': 0.9}, "decay .*'sgd' has none"),
    ({'optimizer': 'sgd', 'momentum': 1.0}, 'momentum must be at least 0 and'),
    ({'learning_rate': -1.0}, 'learning_rate must not be negative'),
    (
      {'optimizer': optax.sgd(0.1), 'learning_rate': 0.2},
      'learning_rate would do nothing',
    ),
  ],
)
def test_refuses_numbers_that_an_optimiser_does_not_have(settings, message):
  with pytest.raises(ValueError, match=message):
    planning.Gradient(**settings)


@pytest.mark.slow
def test_an_optimiser_that_diverges_returns_the_best_it_has_been():
  answer = plan(
    num_restarts=2, num_iterations=60, optimizer=optax.sgd(30.0), init_std=0.1
  )
  trace = answer.diagnostics
  np.testing.assert_allclose(
    answer.cost, np.min(trace.best_cost, axis=0), rtol=1e-5
  )
  assert np.all(trace.best_cost[5] > 100.0 * trace.best_cost[0])
  # In the end its costs are no numbers any more.
  np.testing.assert_array_equal(trace.num_nonfinite[0], 0)
  np.testing.assert_array_equal(trace.num_nonfinite[-1], 2)
  assert np.all(np.isfinite(answer.actions))


# What it finds.


def test_finds_the_optimum_of_a_linear_quadratic_problem():
  answer = plan(
    num_restarts=3, num_iterations=150, optimizer=optax.sgd(0.3, momentum=0.9)
  )
  actions, costs = problem_sets.optima(make_root())
  np.testing.assert_allclose(answer.cost, costs, rtol=1e-5)
  np.testing.assert_allclose(answer.actions, actions, atol=2e-3)
  # From wherever they start, all get there.
  np.testing.assert_allclose(answer.diagnostics.mean_cost[-1], costs, rtol=1e-3)
  np.testing.assert_allclose(answer.diagnostics.spread[-1], 0.0, atol=1e-2)


@pytest.mark.slow
def test_finds_the_optimum_in_a_box():
  """Projected descent on the bounds, as NumPy does it."""
  root = make_root()
  low, high = np.array([-0.4, 0.0]), np.array([0.5, 0.3])
  answer = plan(
    num_restarts=1,
    num_iterations=200,
    optimizer=optax.sgd(0.3),
    action_constraints=planning.ActionBounds(low, high),
  )
  slope = jax.jit(jax.vmap(jax.grad(single_cost)))
  actions = np.zeros((B, H, A), np.float32)
  for _ in range(500):
    actions = actions - 0.1 * np.asarray(slope(actions, *root))
    actions = np.clip(actions, low, high).astype(np.float32)
  assert np.any(actions == np.float32(low)) and np.any(actions == 0.5)
  np.testing.assert_allclose(answer.actions, actions, atol=1e-4)


def plan_valleys(**settings):
  return problem_sets.plan_valleys(planning.gradient_plan, **settings)


@pytest.mark.slow
def test_one_start_ends_in_the_near_valley_and_many_in_the_deep_one():
  one = plan_valleys(num_restarts=1)
  np.testing.assert_allclose(one.cost, problem_sets.SHALLOW_COST, atol=1e-4)
  many = plan_valleys(num_restarts=16)
  np.testing.assert_allclose(many.cost, 0.0, atol=1e-4)
  reached = np.sum(many.actions, axis=(1, 2))
  np.testing.assert_allclose(reached, [2.0, -2.0], atol=1e-2)


@pytest.mark.slow
def test_a_gradient_that_is_no_number_stops_its_candidate_alone():
  """The slope of a square root at zero."""

  def distance(params, state, action, goal):
    del params, action
    return jnp.sqrt(jnp.sum((state - goal) ** 2, axis=-1))

  @jax.jit
  def plan_distance(root):
    return planning.gradient_plan(
      None,
      make_keys(num_problems=2),
      root,
      problem_sets.valley_dynamics,
      distance,
      horizon=2,
      action_dim=1,
      num_restarts=3,
      num_iterations=5,
    )

  # The first candidate of the first problem stands on the goal.
  answer = plan_distance(Root(jnp.zeros((2, 1)), jnp.array([[0.0], [0.5]])))
  trace = answer.diagnostics
  np.testing.assert_array_equal(trace.num_nonfinite, [[1, 0]] * 5)
  np.testing.assert_allclose(trace.grad_norm, np.sqrt(2.0), rtol=1e-5)
  np.testing.assert_array_equal(trace.best_cost[:, 0], 0.0)
  np.testing.assert_array_equal(answer.actions[0], 0.0)
  assert np.all(trace.mean_cost[1:] < trace.mean_cost[:-1])


# Guardrails.


@pytest.mark.slow
@pytest.mark.parametrize(
  ('optimizer', 'penalty'),
  [
    (optax.sgd(0.01, momentum=0.9), 1.0),
    (optax.adam(optax.cosine_decay_schedule(0.2, 600)), 3.0),
  ],
)
def test_multipliers_find_the_optimum_at_a_wall(optimizer, penalty):
  root = make_root()
  actions, costs, touches = guarded_optima(root)
  free, free_costs = problem_sets.optima(root)
  assert 0 < np.sum(touches) < B
  answer = plan(
    num_restarts=1,
    num_iterations=600,
    optimizer=optimizer,
    guardrails=[planning.Guardrail(wall_cost, BOUND, penalty)],
    tolerance=5e-4,
  )
  np.testing.assert_allclose(answer.actions, actions, atol=1e-2)
  np.testing.assert_allclose(answer.cost, costs, rtol=1e-2)
  assert np.all(answer.violation < 1e-3)
  assert np.all(costs[touches] > 1.2 * free_costs[touches])
  np.testing.assert_allclose(free[~touches], actions[~touches], atol=1e-5)


@pytest.mark.slow
def test_a_penalty_in_the_cross_entropy_method_comes_close():
  root = make_root()
  _, costs, _ = guarded_optima(root)
  answer = plan(
    planning.cem_plan,
    num_iterations=40,
    init_std=3.0,
    guardrails=[planning.Guardrail(wall_cost, BOUND, 1.0)],
  )
  np.testing.assert_allclose(answer.cost, costs, rtol=0.05)
  assert np.all(answer.violation < 1e-3)


@pytest.mark.slow
def test_a_wall_that_cannot_be_kept_is_passed_as_little_as_possible():
  """The first step starts too far behind it to come back."""
  root = make_root()
  root = Root(jnp.tile(jnp.array([[4.0, -4.0]]), (B, 1)), root.goal)
  bounds = planning.ActionBounds(np.full(A, -1.0), np.full(A, 1.0))
  answer = plan(
    root=root,
    num_restarts=2,
    num_iterations=100,
    guardrails=[planning.Guardrail(wall_cost, BOUND, 1.0)],
    action_constraints=bounds,
  )
  # Hard away from it: the sign that lowers normal @ control, step by step.
  state = np.asarray(root.state)
  pushed = -np.sign(np.array([0.6, -0.8]) @ PARAMS['control'])
  least = (
    state @ PARAMS['transition'].T + PARAMS['control'] @ pushed
  ) @ np.array([0.6, -0.8]) - BOUND
  np.testing.assert_allclose(answer.violation, least, rtol=1e-2)


# Doors of its own.


def test_refuses_to_update_multipliers_never():
  with pytest.raises(ValueError, match='multiplier_period must be at least 1'):
    plan(multiplier_period=0)
