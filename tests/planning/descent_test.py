"""The parts of descending, and what both planners that do it have in common.

Either is compiled once for most of these tests: what they change is data.
"""

import functools

import changing_problem
import jax
import jax.numpy as jnp
import numpy as np
import optax
import problem_sets
import pytest
from changing_problem import FAR, cost_fn, dynamics, wall_cost
from problem_sets import PARAMS, A, B, H, make_keys, make_root

from jepa_wm import planning
from jepa_wm.planning import descent, keys, lagrangian, rollout
from jepa_wm.planning.task import open_task
from jepa_wm.types import Root

N, I = 4, 12
PLANNERS = {
  'gradient': (planning.gradient_plan, {'multiplier_period': 2}, I),
  'grasp': (planning.grasp_plan, {'sync_period': 4, 'num_sync_steps': 3}, 3),
}
NAMES = ['gradient', pytest.param('grasp', marks=pytest.mark.slow)]


def plan_eagerly(name, rng_key, root, *, bound=FAR, **changes):
  planner, settings, _ = PLANNERS[name]
  bounds = jnp.full(A, bound)
  settings = {
    'num_restarts': N,
    'num_iterations': I,
    'num_kept': 1,
    # Whoever clips all candidates together lets them see each other.
    'optimizer': optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.2)),
    'guardrails': [planning.Guardrail(wall_cost, penalty=10.0)],
    'action_constraints': planning.ActionBounds(-bounds, bounds),
    **settings,
  }
  return changing_problem.plan(planner, rng_key, root, **settings | changes)


@functools.cache
def compiled(name):
  return jax.jit(functools.partial(plan_eagerly, name))


DATA = {**changing_problem.DATA, **changing_problem.PROPOSED, 'bound': FAR}


def plan(name, root=None, seed=0, **changes):
  root = make_root() if root is None else root
  start = jnp.zeros((B, H, A))
  data = {**DATA, 'init_mean': start, 'init_std': 1.0, **changes}
  return compiled(name)(make_keys(seed), root, **data)


# The answer.


@pytest.mark.parametrize('name', NAMES)
def test_the_plan_is_the_best_of_what_was_tried_and_costs_what_it_says(name):
  root = make_root()
  answer = plan(name, root)
  expected = problem_sets.price(np.asarray(answer.actions)[:, None], root)
  np.testing.assert_allclose(answer.cost, expected[:, 0], rtol=1e-4)
  trace = answer.diagnostics
  assert {leaf.shape for leaf in trace} == {(PLANNERS[name][2], B)}
  assert np.all(answer.cost <= np.min(trace.best_cost, axis=0) + 1e-6)
  assert np.all(answer.cost < 0.7 * trace.best_cost[0])
  assert np.all(trace.best_cost <= trace.mean_cost)
  assert np.all(trace.grad_norm > 0.0)
  np.testing.assert_array_equal(trace.num_nonfinite, 0)
  np.testing.assert_array_equal(answer.violation, 0.0)
  np.testing.assert_array_equal(answer.mean, answer.actions)
  np.testing.assert_array_equal(answer.std, 1.0)
  np.testing.assert_array_equal(answer.elites, answer.actions[:, None])


@pytest.mark.parametrize('name', NAMES)
def test_never_leaves_a_warm_start_or_a_proposal_for_a_worse_plan(name):
  root = make_root()
  best, costs = problem_sets.optima(root)
  for start in (
    {'init_mean': jnp.asarray(best)},
    {'proposed': np.expand_dims(best, 1)},
  ):
    answer = plan(name, root, **start)
    np.testing.assert_allclose(answer.cost, costs, rtol=1e-4)
    np.testing.assert_allclose(answer.actions, best, atol=2e-2)


# What must not change a plan.


@pytest.mark.slow
@pytest.mark.parametrize('name', NAMES)
def test_a_problem_does_not_see_its_batch(name):
  changing_problem.assert_batch_is_unseen(
    functools.partial(plan, name),
    jax.jit(functools.partial(plan_eagerly, name)),
  )


@pytest.mark.slow
@pytest.mark.parametrize('name', NAMES)
def test_eight_devices_plan_like_one(name):
  data = {'init_mean': jnp.zeros((B, H, A)), 'init_std': 1.0}
  sizes = changing_problem.assert_eight_devices_are_one(
    plan(name, noise=1.0),
    compiled(name),
    {**DATA, **data, 'noise': 1.0},
    rtol=1e-4,
  )
  # Devices tell each other costs, never candidates.
  assert max(sizes, default=0) < B * N * H


@pytest.mark.parametrize('name', NAMES)
def test_the_same_key_gives_the_same_plan(name):
  changing_problem.assert_keys_decide(functools.partial(plan, name))


@pytest.mark.parametrize('name', NAMES)
def test_is_traced_once_for_any_number_of_plans(name):
  plan(name)
  plan(name, seed=1, cliff=0.5, noise=1.0, wall=0.1, bound=0.2, init_std=0.1)
  assert compiled(name)._cache_size() == 1


# Constraints, and costs that are not numbers.


@pytest.mark.parametrize('name', NAMES)
def test_keeps_to_what_is_allowed(name):
  root = make_root()
  root = Root(root.state, root.goal + 100.0)
  answer = plan(name, root, bound=0.25)
  # To get that far, the actions push as hard as they may.
  np.testing.assert_array_equal(answer.actions[:, :, 1], 0.25)
  assert np.max(np.abs(answer.actions)) == 0.25


@pytest.mark.parametrize('name', NAMES)
def test_candidates_without_a_cost_stay_put_and_are_counted(name):
  root = Root(jnp.zeros((B, 2)), make_root().goal)
  whole, answer = plan(name, root), plan(name, root, cliff=0.9)
  trace = answer.diagnostics
  assert np.any(trace.num_nonfinite > 0)
  assert np.all(trace.num_nonfinite < N)
  assert np.all(np.isfinite(answer.cost))
  assert np.all(np.isfinite(trace.mean_cost) & np.isfinite(trace.grad_norm))
  # Where all candidates always had a cost, nothing changed.
  same = np.all(trace.num_nonfinite == 0, axis=0)
  assert 0 < np.sum(same) < B
  np.testing.assert_array_equal(answer.actions[same], whole.actions[same])


@pytest.mark.parametrize('name', NAMES)
def test_a_problem_that_cannot_be_priced_leaves_the_others_alone(name):
  root = make_root()
  broken = Root(root.state.at[0].set(jnp.nan), root.goal)
  answer, healthy = plan(name, broken), plan(name, root)
  assert not np.isfinite(answer.cost[0])
  np.testing.assert_array_equal(answer.actions[0], 0.0)
  trace = answer.diagnostics
  np.testing.assert_array_equal(trace.num_nonfinite[:, 0], N)
  np.testing.assert_array_equal(trace.grad_norm[:, 0], 0.0)
  assert np.all(np.isinf(trace.best_cost[:, 0]))
  np.testing.assert_array_equal(answer.actions[1:], healthy.actions[1:])


# The parts.


def make_task(num_guardrails=2):
  rails = [
    planning.Guardrail(wall_cost, penalty=penalty)
    for penalty in (4.0, 10.0)[:num_guardrails]
  ]
  problem = planning.Problem(
    make_root(), dynamics, cost_fn, H, A, planning.Limits((), rails)
  )
  return open_task(PARAMS, make_keys(), problem)


def test_the_lagrangian_has_the_slope_that_the_next_multiplier_is():
  """At excess e it falls off at max(0, value + stiffness e)."""
  rng = np.random.default_rng(0)
  shape = (B, N, H, 2)
  value, stiffness = rng.exponential(size=(2, *shape)).astype(np.float32)
  excess = rng.normal(size=shape).astype(np.float32)
  cost = rng.normal(size=(B, N)).astype(np.float32)
  multipliers = lagrangian.Multipliers(value, stiffness, np.zeros(shape))

  def total(cost, excess):
    prices = rollout.Prices(cost, excess)
    return jnp.sum(lagrangian.value(prices, multipliers))

  by_cost, by_excess = jax.grad(total, argnums=(0, 1))(cost, excess)
  np.testing.assert_array_equal(by_cost, 1.0)
  after = lagrangian.tighten(make_task(), multipliers, jnp.asarray(excess))
  np.testing.assert_allclose(by_excess, after.value, rtol=1e-4, atol=1e-6)
  assert np.any(after.value == 0.0) and np.any(after.value > value)
  # Where all guardrails touch, it is the cost.
  prices = rollout.Prices(cost, jnp.zeros(shape))
  np.testing.assert_allclose(
    lagrangian.value(prices, multipliers), cost, atol=1e-5
  )


def test_stiffness_grows_only_where_the_excess_does_not_shrink():
  task = make_task()
  multipliers = lagrangian.start(task, 1)
  np.testing.assert_array_equal(multipliers.stiffness[..., 0], 4.0)
  excess = jnp.ones((B, 1, H, 2)).at[..., 1].set(-1.0)
  once = lagrangian.tighten(task, multipliers, excess)
  np.testing.assert_array_equal(once.stiffness, multipliers.stiffness)
  shrinking = lagrangian.tighten(task, once, excess.at[..., 0].set(0.3))
  np.testing.assert_array_equal(shrinking.stiffness, once.stiffness)
  for _ in range(20):
    once = lagrangian.tighten(task, once, excess)
  np.testing.assert_array_equal(once.stiffness[..., 0], 400.0)
  np.testing.assert_array_equal(once.stiffness[..., 1], 10.0)
  np.testing.assert_array_equal(once.value[..., 1], 0.0)
  unknown = lagrangian.tighten(task, once, jnp.full_like(excess, jnp.nan))
  jax.tree.map(np.testing.assert_array_equal, unknown, once)


def test_remembers_the_cheapest_that_keeps_the_guardrails():
  # Two guardrails' excess, then the cost, of iterates one after another.
  rows = [
    (0.5, -1.0, 1.0, True),  # The first, anything is better than nothing.
    (0.4, 0.6, 0.1, False),  # Cheaper, but farther past.
    (0.2, 0.1, 9.0, True),  # Dearer, but nearer.
    (np.nan, 0.0, 0.0, False),
    (-1.0, -1.0, np.inf, False),
    (-1.0, -1.0, np.nan, False),
    (0.009, -1.0, 5.0, True),  # Tolerated,
    (-1.0, -1.0, 6.0, False),  # and as good as room to spare.
    (-1.0, 0.01, 4.0, True),
    (0.011, -1.0, 0.0, False),
  ]
  unknown = jnp.full((1, 1), jnp.inf)
  best = descent.Best(jnp.full((1, 1, 1, 1), -1.0), unknown, unknown)
  for i, (first, second, cost, better) in enumerate(rows):
    prices = rollout.Prices(
      jnp.full((1, 1), cost), jnp.array([first, second]).reshape(1, 1, 1, 2)
    )
    iterate = jnp.full((1, 1, 1, 1), float(i))
    best = descent.keep_better(best, iterate, prices, 0.01)
    assert (best.actions.item() == i) == better, i


def test_every_candidate_has_an_optimiser_of_its_own():
  """Its step count and its clipping do not depend on its neighbours."""
  optimizer = descent.check_optimizer(
    'optimizer',
    optax.chain(
      optax.clip_by_global_norm(1.0),
      optax.sgd(optax.piecewise_constant_schedule(1.0, {1: 0.5})),
    ),
    optax.sgd(1.0),
  )
  slopes = jnp.array([[[3.0, 4.0], [0.3, 0.4], [jnp.nan, 1.0], [0.6, 0.8]]])
  values = jnp.array([[0.0, 0.0, 0.0, jnp.inf]])
  variables = jnp.zeros_like(slopes)
  state = descent.init_each(optimizer, variables)
  for _ in range(2):
    variables, state, usable = descent.update_each(
      optimizer, slopes, state, variables, values
    )
  np.testing.assert_array_equal(usable, [[True, True, False, False]])
  expected = -1.5 * np.array([[[0.6, 0.8], [0.3, 0.4], [0, 0], [0, 0]]])
  np.testing.assert_allclose(variables, expected, rtol=1e-6)
  # When it can move again it goes on from where it was.
  variables, *_ = descent.update_each(
    optimizer, jnp.ones_like(slopes), state, variables, jnp.zeros((1, 4))
  )
  np.testing.assert_allclose(variables[0, 3], -np.sqrt([0.5, 0.5]), rtol=1e-6)


# Doors.


@pytest.mark.parametrize('name', PLANNERS)
@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    ({'num_iterations': 0}, 'num_iterations must be at least 1, got 0'),
    ({'num_restarts': 0}, 'num_samples must be at least 1, got 0'),
    ({'horizon': 0}, 'horizon must be at least 1, got 0'),
    ({'tolerance': -1.0}, 'tolerance must not be negative, got -1.0'),
    ({'init_mean': np.zeros((4, 3))}, r'init_mean must be .* got shape \[4, 3'),
    ({'init_std': np.ones(3)}, r'init_std must be .* got shape \[3\]'),
    ({'step_weights': np.ones(4)}, 'step_weights must have one weight'),
    ({'bound': -1.0}, 'low of ActionBounds must be below high'),
    (
      {'guardrails': [planning.Guardrail(wall_cost, penalty=0.0)]},
      r'guardrails must have a positive penalty, .* got \[0.0\]',
    ),
  ],
)
def test_refuses_settings_that_make_no_sense(name, settings, message):
  with pytest.raises(ValueError, match=message):
    plan_eagerly(name, make_keys(), make_root(), **settings)


@pytest.mark.parametrize(
  ('name', 'argument'),
  [
    ('gradient', 'optimizer'),
    ('grasp', 'optimizer'),
    ('grasp', 'latent_optimizer'),
    ('grasp', 'sync_optimizer'),
  ],
)
@pytest.mark.parametrize('wrong', [0.1, optax.adam])
def test_refuses_an_optimiser_that_is_none(name, argument, wrong):
  message = f'{argument} must be an optax.GradientTransformation, .* got a '
  with pytest.raises(TypeError, match=message):
    plan_eagerly(name, make_keys(), make_root(), **{argument: wrong})


@pytest.mark.parametrize('name', PLANNERS)
def test_refuses_starts_and_goals_that_do_not_pair_up(name):
  root = Root(make_root().state, make_root(3).goal)
  message = r'root.state and root.goal must hold equally many .* 4 and 3'
  with pytest.raises(ValueError, match=message):
    plan_eagerly(name, keys.problem_keys(jax.random.key(0), B), root)
