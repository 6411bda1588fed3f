"""Planners that do what is proposed: always, or where it is good enough."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm import planning
from jepa_wm.types import Root

B, H, A = 3, 2, 2
KEY = jax.random.key(0)
GOAL = jnp.array([[0.5, 0.0], [0.5, 0.0], [4.0, 4.0]])
PROPOSAL = jnp.array([[0.25, 0.0], [-0.25, 0.0], [0.9, 0.9]])
"""To the goal, away from it, and straight on to one that is far."""


def propose(params, rng_keys, root, clock=None):
  blocks = jnp.broadcast_to(PROPOSAL[:, None, None], (B, 1, H, A))
  # Others after it, which nobody may take for it.
  return jnp.concatenate([blocks, blocks + 9.0], axis=1)


def problem(**changes):
  given = {
    'root': Root(jnp.zeros((B, A)), GOAL),
    'dynamics_fn': lambda params, rng_key, action, state: state + action,
    'cost_fn': planning.squared_distance,
    'horizon': H,
    'action_dim': A,
    'limits': planning.Limits(planning.ActionBounds(-np.ones(A), np.ones(A))),
    'proposal_fn': propose,
  }
  return planning.Problem(**given | changes)


def plan(planner, **changes):
  search = lambda key: planning.search(planner, None, key, problem(**changes))
  return jax.jit(search)(KEY)


def test_a_policy_is_followed_within_the_limits():
  answer = plan(planning.Policy())
  expected = jnp.broadcast_to(PROPOSAL[:, None], (B, H, A))
  np.testing.assert_array_equal(answer.actions, expected)
  np.testing.assert_allclose(answer.cost, [0.0, 1.0, 2 * 2.2**2], atol=1e-5)
  np.testing.assert_array_equal(answer.searched, [False] * 3)
  np.testing.assert_allclose(answer.diagnostics.best_cost[0], answer.cost)
  near = planning.Limits(planning.ActionBounds(-np.ones(A) / 10, np.ones(A)))
  kept = plan(planning.Policy(), limits=near)
  np.testing.assert_allclose(kept.actions[1, :, 0], -0.1)


FAST_SLOW = planning.FastSlow(
  threshold=0.01, gain=0.2, num_samples=64, num_elites=8, num_iterations=6
)


@pytest.fixture(scope='module')
def answer():
  return plan(FAST_SLOW)


def test_a_search_is_made_where_the_policy_falls_short(answer):
  # The first is there, the third comes nearer, the second goes away.
  np.testing.assert_array_equal(answer.searched, [False, True, False])
  expected = jnp.broadcast_to(PROPOSAL[:, None], (B, H, A))
  for row in (0, 2):
    np.testing.assert_array_equal(answer.actions[row], expected[row])
  assert answer.cost[1] < 0.05
  # Whoever did not search has one price, from the first to the last.
  trace = np.asarray(answer.diagnostics.best_cost)
  assert trace.shape == (6, B) and np.ptp(trace[:, [0, 2]], axis=0).max() == 0


def test_a_problem_alone_has_the_plan_that_it_has_among_others(answer):
  one = lambda x: x[1:2]
  alone = planning.search(
    FAST_SLOW,
    None,
    jnp.expand_dims(jax.random.fold_in(KEY, 1), 0),
    problem(
      root=Root(jnp.zeros((1, A)), one(GOAL)),
      proposal_fn=lambda *args: one(propose(*args)),
    ),
  )
  np.testing.assert_allclose(alone.actions, one(answer.actions), atol=1e-6)


@pytest.mark.parametrize(
  'changes, slow',
  [
    ({'threshold': 1.5}, [False, False, False]),
    ({'threshold': 0.0, 'gain': 1.0}, [False, True, True]),
    ({'gain': 0.9}, [False, True, True]),
  ],
)
def test_threshold_and_gain_say_what_is_good_enough(changes, slow):
  planner = planning.FastSlow(
    **{'threshold': 0.01, 'gain': 0.2, 'num_iterations': 1} | changes
  )
  np.testing.assert_array_equal(plan(planner).searched, slow)


def test_the_soonest_of_a_proposal_is_held_against_what_staying_costs():
  soonest = planning.soonest(planning.squared_distance)
  found = plan(FAST_SLOW, cost_fn=soonest)
  np.testing.assert_array_equal(found.searched, [False, True, False])
  np.testing.assert_allclose(found.cost[0], 0.0, atol=1e-6)
  assert found.cost[1] < 0.05


@pytest.mark.parametrize('planner', [planning.Policy(), planning.FastSlow()])
def test_nobody_to_follow_is_a_sentence(planner):
  with pytest.raises(ValueError, match='nobody proposes: give a proposal_fn'):
    plan(planner, proposal_fn=None)


def test_settings_that_mean_nothing_are_refused():
  with pytest.raises(ValueError, match='threshold must not be negative'):
    planning.FastSlow(threshold=-1.0)
  with pytest.raises(ValueError, match='num_elites'):
    planning.FastSlow(num_elites=64)


def test_who_is_followed_is_told_the_time():
  def first(params, rng_keys, root, clock):
    return jnp.full((B, 1, H, A), 0.01 * clock.num_left)

  given = problem()
  plan_fn = planning.BoundPlanner(
    planner=planning.Policy(),
    dynamics_fn=given.dynamics_fn,
    cost_fn=given.cost_fn,
    horizon=H,
    action_dim=A,
    proposal_fn=propose,
    first_fn=first,
  )
  keys = jax.random.split(KEY, B)
  left = plan_fn.first(B)
  plan, left = plan_fn.plan(None, keys, given.root, left, planning.Clock(0, 7))
  np.testing.assert_allclose(plan.actions, 0.07)
  plan, _ = plan_fn.plan(None, keys, given.root, left, planning.Clock(1, 6))
  np.testing.assert_allclose(plan.actions, 0.06)


SURPRISED = planning.FastSlow(
  threshold=100.0, surprise=0.5, num_samples=4, num_elites=2, num_iterations=1
)
"""Content with any proposal, but not with a world that is another."""


def surprised(planner=SURPRISED):
  given = problem()
  return planning.BoundPlanner(
    planner=planner,
    dynamics_fn=given.dynamics_fn,
    cost_fn=given.cost_fn,
    horizon=H,
    action_dim=A,
    proposal_fn=propose,
    expecting=planning.Expecting(
      lambda state: state,
      lambda seen, wanted: jnp.sum(jnp.square(seen - wanted), axis=-1),
      A,
    ),
  )


@pytest.mark.parametrize('num_played', [1, 2])
def test_a_search_is_made_where_what_is_seen_surprises(num_played):
  plan_fn = surprised()
  keys, clock = jax.random.split(KEY, B), planning.Clock(0, 7)
  search = jax.jit(
    lambda root, left: plan_fn.plan(None, keys, root, left, clock)
  )
  root, left = problem().root, plan_fn.first(B)
  plan, after = search(root, left)
  assert not plan.searched.any()
  expected = jnp.cumsum(plan.actions, axis=1)
  np.testing.assert_allclose(plan.expected, expected, rtol=1e-6)
  left = plan_fn.shift(after, plan.actions[:, :num_played])
  shapes = lambda tree: jax.tree.map(jnp.shape, tree)
  assert shapes(left) == shapes(plan_fn.first(B))
  # Where it led as predicted, a little off, and where the world is another.
  moved = jnp.array([[0.0, 0.0], [0.5, 0.0], [1.0, 0.0]])
  seen = Root(expected[:, num_played - 1] + moved, GOAL)
  plan, _ = search(seen, left)
  np.testing.assert_array_equal(plan.searched, [False, False, True])
  # Also without a warm start; what nobody predicted surprises nobody.
  plan, _ = search(seen, plan_fn.forget(left))
  np.testing.assert_array_equal(plan.searched, [False, False, True])
  plan, _ = search(seen, plan_fn.first(B))
  assert not plan.searched.any()


def test_who_is_not_told_what_was_predicted_cannot_be_surprised():
  with pytest.raises(ValueError, match='surprise must not be negative'):
    planning.FastSlow(surprise=-1.0)
  with pytest.raises(ValueError, match=r'surprise=0.5\) needs to know'):
    plan(SURPRISED)
  with pytest.raises(ValueError, match='FastSlow asks how far what is seen'):
    planning.BoundPlanner(
      planner=SURPRISED,
      dynamics_fn=problem().dynamics_fn,
      cost_fn=problem().cost_fn,
      horizon=H,
      action_dim=A,
    )
  assert surprised(planning.FastSlow()).first(B).expected is None
