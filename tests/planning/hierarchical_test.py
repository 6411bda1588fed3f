"""Levels in a world of points that move as far as their action says."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm import planning
from jepa_wm.types import Root

B, H, A, STRIDE = 3, 2, 2, 3


def step(params, rng_key, action, state):
  del rng_key
  return state + params * action


def stride(params, rng_key, action, state):
  """An upper step is as long as `STRIDE` lower ones."""
  return step(STRIDE * params, rng_key, action, state)


def distance(params, latents, goal):
  del params
  return jnp.sqrt(jnp.sum(jnp.square(latents - goal), axis=-1))


SEARCH = planning.ICEM(num_samples=64, num_iterations=4)


def bound(dynamics_fn, horizon, cost_fn=planning.squared_distance, **given):
  return planning.BoundPlanner(
    planner=SEARCH,
    dynamics_fn=dynamics_fn,
    cost_fn=cost_fn,
    horizon=horizon,
    action_dim=A,
    limits=planning.Limits(planning.ActionBounds(-np.ones(A), np.ones(A))),
    **given,
  )


LOW = bound(step, H)


def searched(**given):
  settings: dict[str, Any] = {
    'plan_fn': bound(stride, 4, planning.soonest(planning.squared_distance)),
    'dynamics_fn': stride,
    'distance_fn': distance,
    'read_fn': lambda state: state,
    'latent_dim': A,
    'stride': STRIDE,
  }
  return planning.Searched(**settings | given)


@dataclasses.dataclass(frozen=True)
class Told:
  """Gives the goal plus what was said, and counts how often it is asked."""

  offset: float

  def first(self, num_problems):
    zeros = jnp.zeros(num_problems)
    goal = jnp.zeros((num_problems, A))
    return planning.Subgoal(goal, zeros, zeros), jnp.zeros(num_problems)

  def choose(self, params, rng_keys, root, carry, num_since, clock):
    del params, rng_keys, num_since, clock
    zeros = jnp.zeros_like(carry)
    goal = root.goal + self.offset + carry[:, None]
    return planning.Subgoal(goal, zeros, zeros), carry + 1


ROOT = Root(jnp.zeros((B, A)), 8.0 * jnp.ones((B, A)))
KEYS = jax.random.split(jax.random.key(0), B)


def planner(plan_fn):
  """`(left, root) -> (plan, left)`, compiled."""

  @jax.jit
  def plan(left, root=ROOT):
    return plan_fn.plan(jnp.float32(1), KEYS, root, left, planning.Clock(0, 9))

  return plan


def test_towards_the_goal_it_plans_what_the_level_below_plans_alone():
  levels = planning.Hierarchical(low=LOW, subgoals=Told(0.0), every=2)
  plan_flat, plan = planner(LOW), planner(levels)
  flat_left, left = LOW.first(B), levels.first(B)
  for _ in range(2):
    (alone, flat_left), (found, left) = plan_flat(flat_left), plan(left)
    assert (found.actions == alone.actions).all()
    assert (found.cost == alone.cost).all()
    flat_left = LOW.shift(flat_left, alone.actions[:, :1])
    left = levels.shift(left, found.actions[:, :1])
    for one, other in zip(
      jax.tree.leaves(flat_left), jax.tree.leaves(left.low)
    ):
      np.testing.assert_array_equal(one, other)


def test_a_subgoal_is_kept_as_long_as_asked():
  levels = planning.Hierarchical(low=LOW, subgoals=Told(0.0), every=3)
  plan, left, seen = planner(levels), levels.first(B), []
  for _ in range(5):
    found, left = plan(left)
    seen.append(float(found.subgoal.goal[0, 0]))
    left = levels.shift(left, found.actions[:, :1])
  assert seen == [8.0, 8.0, 8.0, 9.0, 9.0]
  # Each problem has a clock of its own.
  found, _ = plan(left._replace(num_since=jnp.array([3, 0, 2])))
  np.testing.assert_array_equal(found.subgoal.goal[:, 0], [10, 9, 9])
  found, _ = plan(levels.forget(left))
  np.testing.assert_array_equal(found.subgoal.goal[:, 0], [8, 8, 8])


def test_a_search_says_what_it_predicts_first():
  levels = planning.Hierarchical(low=LOW, subgoals=searched())
  found, left = planner(levels)(levels.first(B))
  led_to = STRIDE * left.carry.action[:, 0]
  np.testing.assert_allclose(found.subgoal.goal, led_to, rtol=1e-6)
  # Farther than the level below sees.
  assert led_to.mean() > H
  assert found.actions.mean() > 0.5


@pytest.mark.parametrize('goal', [0.5, np.nan])
def test_the_goal_itself_is_next_where_it_is_near_or_nothing_else_is_known(
  goal,
):
  levels = planning.Hierarchical(low=LOW, subgoals=searched(near=1.0))
  root = Root(ROOT.state, jnp.full((B, A), goal))
  found, _ = planner(levels)(levels.first(B), root)
  np.testing.assert_array_equal(found.subgoal.goal, root.goal)


def test_the_search_goes_on_behind_what_was_played():
  levels = planning.Hierarchical(low=LOW, subgoals=searched(), every=STRIDE)
  plan = planner(levels)
  _, left = plan(levels.first(B))
  later = left._replace(num_since=jnp.array([STRIDE, STRIDE, 0]))
  _, after = plan(later)
  kept = jax.tree.leaves(after.carry.left.mean == left.carry.left.mean)[0]
  assert kept[2].all() and not kept[:2].all()


def test_levels_stack_and_reach_what_one_cannot_see():
  top = planning.Searched(
    plan_fn=bound(
      lambda params, *x: stride(STRIDE * params, *x),
      2,
      planning.soonest(planning.squared_distance),
    ),
    dynamics_fn=lambda params, *x: stride(STRIDE * params, *x),
    distance_fn=distance,
    read_fn=lambda state: state,
    latent_dim=A,
    stride=STRIDE,
  )
  middle = planning.Hierarchical(low=bound(stride, 2), subgoals=top)
  levels = planning.Hierarchical(
    low=LOW, subgoals=searched(plan_fn=middle), every=1
  )
  root_fn = lambda params, memory, goal: Root(
    memory.observations['position'][:, -1], goal
  )
  end, output = jax.jit(
    functools.partial(
      planning.run_mpc,
      observe_fn=lambda state: {'position': state},
      root_fn=root_fn,
      plan_fn=levels,
      play_fn=lambda state, action: (state + action, state),
      receding_horizon=1,
      num_plans=24,
    )
  )(jnp.float32(1), KEYS, ROOT.state, ROOT.goal)
  assert output.plan.subgoal.goal.shape == (24, B, A)
  np.testing.assert_allclose(end, ROOT.goal, atol=0.3)


def pointed(offset):
  return planning.Pointed(
    subgoal_fn=lambda params, latents, goal: jnp.where(
      jnp.isfinite(offset), latents + offset, goal + jnp.nan
    ),
    read_fn=lambda state: state,
    latent_dim=A,
  )


def test_a_function_says_what_is_next_and_the_goal_where_it_knows_nothing():
  levels = planning.Hierarchical(low=LOW, subgoals=pointed(2.0))
  found, left = planner(levels)(levels.first(B))
  np.testing.assert_array_equal(found.subgoal.goal, ROOT.state + 2.0)
  assert found.subgoal.above is None and left.carry == ()
  levels = planning.Hierarchical(low=LOW, subgoals=pointed(np.inf))
  found, _ = planner(levels)(levels.first(B))
  np.testing.assert_array_equal(found.subgoal.goal, ROOT.goal)


def test_a_plan_tells_the_subgoals_of_all_levels_the_lowest_first():
  middle = planning.Hierarchical(low=LOW, subgoals=pointed(1.0))
  levels = planning.Hierarchical(low=middle, subgoals=Told(-2.0), every=2)
  found, left = planner(levels)(levels.first(B))
  np.testing.assert_array_equal(found.subgoal.goal, ROOT.state + 1.0)
  np.testing.assert_array_equal(found.subgoal.above.goal, ROOT.goal - 2.0)
  # Each keeps its own as long as it is asked to.
  left = levels.shift(left, found.actions[:, :1])
  found, _ = planner(levels)(left, ROOT._replace(state=ROOT.state + 1.0))
  np.testing.assert_array_equal(found.subgoal.goal, ROOT.state + 2.0)
  np.testing.assert_array_equal(found.subgoal.above.goal, ROOT.goal - 2.0)


def test_no_subgoal_lasts_less_than_a_block():
  with pytest.raises(ValueError, match='every'):
    planning.Hierarchical(low=LOW, subgoals=Told(0.0), every=0)
