import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import problem_sets
import pytest

from jepa_wm import planning
from jepa_wm.planning import categorical_cem
from jepa_wm.types import Root

NUM_STATES, NUM_ACTIONS, LENGTH = 7, 3, 6


def table_dynamics(params, rng_key, action, state):
  """Follows a table `[states, actions]`; refuses what is not one-hot."""
  del rng_key
  valid = jnp.all((action == 0.0) | (action == 1.0), axis=-1)
  valid &= jnp.sum(action, axis=-1) == 1.0
  after = params['table'][state, jnp.argmax(action, axis=-1)]
  return jnp.where(valid, after, NUM_STATES)


def table_cost(params, state, action, goal):
  del goal
  extended = jnp.append(params['price'], jnp.nan)
  return extended[state] + 0.01 * action[..., -1]


def test_finds_the_best_of_all_sequences_of_a_decision_process():
  rng = np.random.default_rng(3)
  table = rng.integers(0, NUM_STATES, (NUM_STATES, NUM_ACTIONS))
  price = rng.uniform(0.0, 1.0, NUM_STATES).astype(np.float32)
  start = np.array([0, 3, 5])

  @jax.jit
  def plan(init_mean):
    return planning.categorical_cem_plan(
      {'table': jnp.asarray(table), 'price': jnp.asarray(price)},
      jax.random.key(0),
      Root(jnp.asarray(start), jnp.zeros(3)),
      table_dynamics,
      table_cost,
      horizon=LENGTH,
      action_dim=NUM_ACTIONS,
      num_samples=100,
      num_elites=10,
      num_iterations=12,
      smoothing=0.002,
      init_mean=init_mean,
      step_weights=planning.step_weights(LENGTH, 'all'),
    )

  sequences = np.array(
    list(itertools.product(range(NUM_ACTIONS), repeat=LENGTH))
  )
  costs = np.zeros((3, len(sequences)))
  state = np.repeat(start[:, None], len(sequences), axis=1)
  for action in sequences.T:
    state = table[state, np.broadcast_to(action, state.shape)]
    costs += (price[state] + 0.01 * (action == NUM_ACTIONS - 1)) / LENGTH
  optimal = sequences[np.argmin(costs, axis=1)]
  cold = plan(np.zeros((3, LENGTH, NUM_ACTIONS), np.float32))
  np.testing.assert_array_equal(np.argmax(cold.actions, axis=-1), optimal)
  np.testing.assert_allclose(cold.cost, costs.min(axis=1), rtol=1e-5)
  np.testing.assert_array_equal(cold.diagnostics.num_nonfinite, 0)
  # What it returns is a distribution, and that of the plan.
  np.testing.assert_allclose(np.sum(cold.mean, axis=-1), 1.0, rtol=1e-5)
  chance = np.asarray(cold.mean)
  np.testing.assert_allclose(cold.std, np.sqrt(chance * (1.0 - chance)))
  assert np.all(np.asarray(cold.diagnostics.spread[-1]) < 0.1)
  # A warm start is the optimum's first candidate; scores need not sum to one.
  warm = plan(4.0 * np.asarray(cold.actions))
  np.testing.assert_array_equal(warm.actions, cold.actions)
  np.testing.assert_allclose(warm.diagnostics.spread[0], 0.0)
  np.testing.assert_allclose(
    warm.diagnostics.best_cost[0], costs.min(axis=1), rtol=1e-5
  )


def test_mixes_old_chances_and_smooths_frequencies():
  """Every elite takes the same action, so the chances are known."""

  def first_action_cost(params, state, action, goal):
    del params, state, goal
    return 1.0 - action[..., 0]

  momentum, smoothing, num_iterations = 0.6, 0.05, 3
  root = Root(jnp.zeros((2, 1)), jnp.zeros((2, 1)))
  plan = functools.partial(
    planning.categorical_cem_plan,
    None,
    dynamics_fn=lambda params, rng_key, action, state: state,
    cost_fn=first_action_cost,
    horizon=1,
    action_dim=3,
    num_samples=200,
    num_elites=5,
    num_iterations=num_iterations,
    smoothing=smoothing,
    momentum=momentum,
  )
  answer = jax.jit(plan)(jax.random.key(0), root)
  target = np.array([1.0 + smoothing, smoothing, smoothing])
  target /= 1.0 + 3 * smoothing
  old = momentum**num_iterations
  expected = old / 3 + (1.0 - old) * target
  np.testing.assert_allclose(answer.mean[:, 0], [expected] * 2, rtol=1e-5)


def test_draws_as_often_as_the_chances_say():
  chances = np.array([[[0.1, 0.6, 0.3], [1.0, 0.0, 0.0]]], np.float32)
  chances = jnp.asarray(np.repeat(chances, 2, axis=0))
  keys = problem_sets.make_keys(num_problems=2)
  planner = planning.CategoricalCEM(num_samples=4000)

  @jax.jit
  def draw(chances, keys):
    noise = planner.noise(keys, (4000, *chances.shape[1:]))
    return planner.propose(None, chances, noise)

  drawn = np.asarray(draw(chances, keys))
  assert set(np.unique(drawn)) == {0.0, 1.0}
  np.testing.assert_array_equal(drawn.sum(axis=-1), 1.0)
  np.testing.assert_array_equal(drawn[:, 0].argmax(-1), [[1, 0]] * 2)
  # Four standard errors.
  np.testing.assert_allclose(drawn.mean(axis=1), chances, atol=0.031)
  np.testing.assert_array_equal(drawn[:, :, 1, 0], 1.0)
  assert np.any(drawn[0] != drawn[1])


def test_chooses_what_is_allowed_alone():
  """The cheapest action is forbidden, and proposed all the same."""

  def first_is_best(params, state, action, goal):
    del params, state, goal
    return jnp.argmax(action, axis=-1) + 0.0

  @jax.jit
  def plan(allowed):
    first = jax.nn.one_hot(jnp.zeros((2, 1, 2), jnp.int32), 3)
    return planning.categorical_cem_plan(
      None,
      jax.random.key(0),
      Root(jnp.zeros((2, 1)), jnp.zeros((2, 1))),
      lambda params, rng_key, action, state: state,
      first_is_best,
      horizon=2,
      action_dim=3,
      num_samples=20,
      num_elites=4,
      num_iterations=3,
      num_kept=2,
      proposal_fn=lambda *_: first,
      allowed=allowed,
    )

  free, bound = plan(np.ones(3, bool)), plan(np.array([False, True, True]))
  np.testing.assert_array_equal(np.argmax(free.actions, axis=-1), 0)
  np.testing.assert_array_equal(np.argmax(bound.actions, axis=-1), 1)
  np.testing.assert_array_equal(bound.mean[..., 0], 0.0)
  np.testing.assert_allclose(np.sum(bound.mean, axis=-1), 1.0, rtol=1e-6)
  np.testing.assert_array_equal(np.sum(bound.elites, axis=-1), 1.0)
  # Elites are shifted to rows that can be played.
  left = planning.WarmStart(bound.mean, bound.elites)
  shifted = planning.CategoricalCEM(num_kept=2).shift(left, 1)
  np.testing.assert_array_equal(shifted.elites[:, :, 0], bound.elites[:, :, 1])
  np.testing.assert_array_equal(shifted.elites[:, :, 1], bound.elites[:, :, 1])


@pytest.mark.parametrize(
  ('allowed', 'message'),
  [
    (np.ones(3, bool), r'allowed must say of each of the 2 .* shape \[3\]'),
    (np.zeros(2, bool), 'allowed must leave at least one action'),
  ],
)
def test_refuses_choices_that_there_are_none(allowed, message):
  limits = planning.Limits(allowed=allowed)
  with pytest.raises(ValueError, match=message):
    limits.checked(2)


def test_rows_that_sum_to_zero_are_uniform():
  rows = jnp.array([[0.0, 0.0, 0.0, 0.0], [1.0, 0.0, 1.0, 2.0]])
  expected = [[0.25, 0.25, 0.25, 0.25], [0.25, 0.0, 0.25, 0.5]]
  np.testing.assert_allclose(categorical_cem.normalize(rows), expected)


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    ({'smoothing': -0.1}, 'smoothing must not be negative, got -0.1'),
    ({'momentum': 1.0}, 'momentum must be at least 0 and below 1'),
  ],
)
def test_refuses_settings_that_make_no_sense(settings, message):
  with pytest.raises(ValueError, match=message):
    problem_sets.effort_plan(
      planning.categorical_cem_plan, problem_sets.make_root(), **settings
    )
