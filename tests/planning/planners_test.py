"""What all planners that sample have in common.

Every planner is compiled once for most of these tests: what they change is
data to it.
"""

import functools
import itertools

import changing_problem
import jax
import jax.numpy as jnp
import numpy as np
import problem_sets
import pytest
from changing_problem import FAR, cost_fn, dynamics
from problem_sets import PARAMS, A, B, H, make_keys, make_root

from jepa_wm import planning
from jepa_wm.types import Root

N, I = 64, 12
BUDGET = {'num_samples': N, 'num_iterations': I, 'num_kept': 1}
LEARNING = {**BUDGET, 'num_elites': 8}
PLANNERS = {
  'cem': (planning.cem_plan, LEARNING),
  'icem': (planning.icem_plan, {**LEARNING, 'num_kept': 2}),
  'mppi': (planning.mppi_plan, {**LEARNING, 'num_elites': None}),
  'predictive_sampling': (planning.predictive_sampling_plan, BUDGET),
  'random_shooting': (planning.random_shooting_plan, BUDGET),
  'categorical_cem': (planning.categorical_cem_plan, LEARNING),
}
GAUSSIAN = [name for name in PLANNERS if name != 'categorical_cem']


def plan_eagerly(name, rng_key, root, *, bound=FAR, std=2.0, **changes):
  planner, settings = PLANNERS[name]
  if name in GAUSSIAN:
    bounds = jnp.full(A, bound)
    settings = {
      **settings,
      'init_std': std,
      'action_constraints': planning.ActionBounds(-bounds, bounds),
    }
  return changing_problem.plan(planner, rng_key, root, **settings | changes)


DATA = {
  **changing_problem.DATA,
  **changing_problem.PROPOSED,
  'bound': FAR,
  'std': 2.0,
}


@functools.cache
def compiled(name):
  return jax.jit(functools.partial(plan_eagerly, name))


def plan(name, root=None, seed=0, **changes):
  root = make_root() if root is None else root
  # All of them, always: an argument left out would be another program.
  return compiled(name)(make_keys(seed), root, **DATA | changes)


# The answer.


@pytest.mark.parametrize('name', PLANNERS)
def test_predicts_what_its_plan_costs(name):
  root = make_root()
  answer = plan(name, root)
  expected = problem_sets.price(np.asarray(answer.actions)[:, None], root)
  np.testing.assert_allclose(answer.cost, expected[:, 0], rtol=1e-4)
  np.testing.assert_array_equal(answer.violation, 0.0)
  shapes = {leaf.shape for leaf in answer.diagnostics if leaf is not None}
  assert shapes == {(I, B)}
  assert answer.mean.shape == answer.std.shape == (B, H, A)
  if name not in ('random_shooting', 'categorical_cem'):
    np.testing.assert_array_equal(answer.actions, answer.mean)
  np.testing.assert_array_equal(answer.diagnostics.num_nonfinite, 0)
  # The cheapest is no dearer than what is learnt from, nor that than all.
  trace = answer.diagnostics
  # A mean of equal costs is rounded: hence the 1e-6.
  assert np.all(trace.best_cost <= trace.elite_cost * (1 + 1e-6))
  assert np.all(trace.elite_cost <= trace.mean_cost + 1e-5)


@pytest.mark.parametrize(
  ('name', 'std'),
  [('cem', 2.0), ('icem', 2.0), ('mppi', 1.0), ('predictive_sampling', 0.5)],
)
def test_comes_near_the_optimum_of_a_linear_quadratic_problem(name, std):
  """`random_shooting_test` says which plan that one must give."""
  root = make_root()
  answer = plan(name, root, std=std)
  _, optimal = problem_sets.optima(root)
  idle = problem_sets.price(np.zeros((B, 1, H, A)), root)[:, 0]
  gap = np.asarray(answer.cost) - optimal
  assert np.all(gap >= -1e-5)
  np.testing.assert_array_less(gap, 0.03 * (idle - optimal) + 0.05)


@pytest.mark.slow
@pytest.mark.parametrize('name', GAUSSIAN)
def test_finds_the_deep_valley_behind_a_ridge(name):
  planner, settings = PLANNERS[name]
  if name == 'mppi':
    settings = settings | {'temperature': 0.1}
  answer = problem_sets.plan_valleys(planner, **settings)
  reached = np.sum(answer.actions, axis=(1, 2))
  assert np.all(answer.cost < 0.1 * problem_sets.SHALLOW_COST)
  np.testing.assert_allclose(reached, [2.0, -2.0], atol=0.3)


# What must not change a plan.


@pytest.mark.slow
@pytest.mark.parametrize('name', PLANNERS)
def test_a_problem_does_not_see_its_batch(name):
  changing_problem.assert_batch_is_unseen(
    functools.partial(plan, name),
    jax.jit(functools.partial(plan_eagerly, name)),
  )


@pytest.mark.slow
@pytest.mark.parametrize('name', PLANNERS)
def test_eight_devices_plan_like_one(name):
  sizes = changing_problem.assert_eight_devices_are_one(
    plan(name, noise=1.0), compiled(name), {**DATA, 'noise': 1.0}, rtol=1e-5
  )
  # Devices tell each other their costs and the elites, never the candidates.
  assert sizes and max(sizes) <= B * N


@pytest.mark.parametrize('name', PLANNERS)
def test_the_same_key_gives_the_same_plan(name):
  changing_problem.assert_keys_decide(functools.partial(plan, name))


@pytest.mark.parametrize('name', PLANNERS)
def test_is_traced_once_for_any_number_of_plans(name):
  plan(name)
  plan(name, seed=1, cliff=0.5, noise=1.0, wall=0.1, std=0.3, bound=0.2)
  assert compiled(name)._cache_size() == 1


# What the driver does for all of them.


@pytest.mark.parametrize('name', PLANNERS)
def test_looks_at_proposals_and_keeps_the_best(name):
  root = make_root()
  if name == 'categorical_cem':
    rows = np.array(list(itertools.product(range(A), repeat=H)))
    choices = np.broadcast_to(np.eye(A)[rows], (B, len(rows), H, A))
    best = np.argmin(problem_sets.price(choices, root), axis=1)
    actions = np.float32(choices[0, best])
  else:
    actions, _ = problem_sets.optima(root)
  costs = problem_sets.price(actions[:, None], root)[:, 0]
  answer = plan(name, root, proposed=actions[:, None])
  # From the first iteration to the last, and then to the next plan.
  np.testing.assert_allclose(
    answer.diagnostics.best_cost, np.tile(costs, (I, 1)), rtol=1e-4
  )
  np.testing.assert_array_equal(answer.elites[:, 0], actions)


@pytest.mark.parametrize(
  'name',
  [
    pytest.param(name, marks=[] if name == 'mppi' else [pytest.mark.slow])
    for name in planning.PLANNERS
    if name not in ('policy', 'fast_slow')
  ],
)
def test_patience_skips_the_rest(name):
  """Where all costs are alike nothing becomes cheaper after the first time."""
  calls = []

  def watched_dynamics(params, rng_key, action, state):
    jax.debug.callback(lambda: calls.append(None))
    return state

  settings = {'num_samples': 4, 'num_iterations': 9, 'num_kept': 0}
  settings |= {
    'cem': {'num_elites': 2},
    'icem': {'num_elites': 2},
    'categorical_cem': {'num_elites': 2},
    'grasp': {'sync_period': 1, 'num_sync_steps': 0, 'noise_std': 0.0},
  }.get(name, {})
  problem = planning.Problem(
    Root(jnp.zeros((1, 1)), jnp.ones((1, 1))),
    watched_dynamics,
    planning.squared_distance,
    horizon=1,
    action_dim=1,
  )

  def count(patience):
    planner = planning.PLANNERS[name](**settings, patience=patience)

    @jax.jit
    def search(rng_key):
      return planning.search(planner, None, rng_key, problem)

    calls.clear()
    jax.block_until_ready(search(jax.random.key(0)))
    jax.effects_barrier()
    return len(calls)

  assert count(2) < count(9)


@pytest.mark.parametrize('name', planning.PLANNERS)
def test_refuses_limits_that_mean_nothing_to_it(name):
  planner = planning.PLANNERS[name]()
  limits = planning.Limits(
    planning.NormBall(1.0) if planner.discrete else (),
    allowed=None if planner.discrete else np.array([True, False]),
  )
  problem = planning.Problem(
    make_root(), dynamics, cost_fn, H, A, limits=limits
  )
  message = rf'{type(planner).__name__} .* to which (action_con|allowed)'
  with pytest.raises(ValueError, match=message):
    planning.search(planner, PARAMS, make_keys(), problem)


# Constraints, guardrails, and costs that are not numbers.


@pytest.mark.parametrize('name', GAUSSIAN)
def test_keeps_to_what_is_allowed(name):
  root = make_root()
  root = Root(root.state, root.goal + 100.0)
  answer = plan(name, root, bound=0.25)
  assert np.max(np.abs(answer.actions)) <= 0.25
  # To get that far, the actions push as hard as they may.
  pushed = np.asarray(answer.actions)[:, :, 1]
  assert np.mean(pushed) > (0.15 if name == 'mppi' else 0.2)


@pytest.mark.parametrize('name', PLANNERS)
def test_stops_at_a_guardrail_and_reports_what_is_left(name):
  """A goal behind a wall, and a wall that a problem starts behind."""
  state, goal = np.zeros((B, 2), np.float32), np.full((B, 2), 2.0, np.float32)
  state[0] = [0.0, 9.0]
  root = Root(jnp.asarray(state), jnp.asarray(goal))
  through = plan(name, root, bound=1.0)
  stopped = plan(name, root, bound=1.0, wall=0.5)
  np.testing.assert_array_equal(through.violation, 0.0)
  np.testing.assert_array_less(stopped.violation[1:], 0.05)
  assert np.all(stopped.cost[1:] > through.cost[1:])
  assert stopped.violation[0] > 1.0
  # Candidates are ranked with the penalty, and the plan is priced without.
  assert stopped.diagnostics.best_cost[-1, 0] > stopped.cost[0] + 50.0


@pytest.mark.parametrize('name', PLANNERS)
def test_candidates_without_a_cost_rank_last_and_are_counted(name):
  root = make_root()
  root = Root(jnp.zeros((B, 2)), root.goal)
  whole, answer = plan(name, root), plan(name, root, cliff=1.1)
  trace = answer.diagnostics
  assert np.all(np.isfinite(answer.cost))
  assert np.all((trace.num_nonfinite[0] > 0) & (trace.num_nonfinite[0] < N))
  # The first draws are the same ones; some of them now have no cost.
  assert np.all(trace.best_cost[0] >= whole.diagnostics.best_cost[0])
  assert np.all(np.isfinite(trace.mean_cost))


@pytest.mark.parametrize('name', PLANNERS)
def test_a_problem_that_cannot_be_priced_leaves_the_others_alone(name):
  root = make_root()
  broken = Root(root.state.at[0].set(jnp.nan), root.goal)
  answer, healthy = plan(name, broken), plan(name, root)
  assert not np.isfinite(answer.cost[0])
  trace = answer.diagnostics
  np.testing.assert_array_equal(trace.num_nonfinite[:, 0], N)
  assert np.all(np.isinf(trace.best_cost[:, 0]))
  np.testing.assert_array_equal(answer.actions[1:], healthy.actions[1:])
  # Nothing is learnt about it: it ends as it began.
  if name == 'categorical_cem':
    np.testing.assert_allclose(answer.mean[0], 1 / A)
  else:
    np.testing.assert_array_equal(answer.actions[0], 0.0)
    np.testing.assert_array_equal(answer.std[0], 2.0)


# Doors.


@pytest.mark.parametrize('name', PLANNERS)
@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    ({'num_iterations': 0}, 'num_iterations must be at least 1, got 0'),
    ({'horizon': 0}, 'horizon must be at least 1, got 0'),
    ({'init_mean': np.zeros((4, 3))}, r'init_mean must be .* got shape \[4, 3'),
    ({'step_weights': np.ones(4)}, 'step_weights must have one weight'),
    ({'num_samples': 0}, r'num_(samples|elites) must .* got [08]'),
  ],
)
def test_refuses_sizes_that_make_no_sense(name, settings, message):
  with pytest.raises(ValueError, match=message):
    plan_eagerly(name, make_keys(), make_root(), **settings)


@pytest.mark.parametrize('name', GAUSSIAN)
@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    ({'bound': -1.0}, 'low of ActionBounds must be below high'),
    ({'std': -1.0}, 'init_std must not be negative, got -1'),
    ({'std': np.ones(3)}, r'init_std must be .* got shape \[3\]'),
    (
      {'noise_fn': lambda rng_keys, iteration: jnp.zeros((4, N, 3))},
      r'noise_fn must return \[B, N, H, A\] = \[4, 64, 3, 2\], got shape',
    ),
  ],
)
def test_refuses_distributions_that_make_no_sense(name, settings, message):
  with pytest.raises(ValueError, match=message):
    plan_eagerly(name, make_keys(), make_root(), **settings)


@pytest.mark.parametrize('name', ['cem', 'icem', 'categorical_cem', 'mppi'])
@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    ({'num_elites': 65}, 'num_elites must not exceed num_samples, got 65 of'),
    ({'num_elites': 1}, 'num_elites must be at least 2, got 1'),
  ],
)
def test_refuses_elites_that_there_cannot_be(name, settings, message):
  with pytest.raises(ValueError, match=message):
    plan_eagerly(name, make_keys(), make_root(), **settings)
