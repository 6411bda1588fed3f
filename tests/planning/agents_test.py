"""Planning for several agents: jointly, in turn, each for itself."""

import dataclasses
import functools

import agent_problems
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from agent_problems import H, keys_of, problem, root_of

from jepa_wm import planning

G = 3
CEM = planning.CEM(num_samples=32, num_elites=6, num_iterations=6, num_kept=1)
PLANNERS = {
  'joint': CEM,
  'coordinate': planning.Coordinate(planner=CEM, num_rounds=3),
  'decentralised': planning.Decentralised(planner=CEM),
}


@functools.cache
def compiled(name, number, num_problems=3):
  del num_problems  # A program a shape.

  @jax.jit
  def plan(rng_keys, root, mean, low):
    limits = planning.Limits(planning.ActionBounds(low, -low))
    start = planning.WarmStart(mean)
    asked = problem(root, number, limits=limits)
    return planning.search(
      PLANNERS[name], None, rng_keys, asked, warm_start=start
    )

  return plan


def plan(name, root, *, mean=0.0, bound=3.0, seed=0):
  num_problems, number, _ = root.state.shape
  mean = jnp.broadcast_to(mean, (num_problems, H, 2 * number))
  low = jnp.full(2 * number, -bound)
  given = keys_of(num_problems, seed), root, mean, low
  return compiled(name, number, num_problems)(*given)


def test_blocks_are_agent_by_agent_in_every_step():
  acting = planning.Agents.of_blocks(2, 2, 3)
  assert acting.owners == (0, 0, 0, 1, 1, 1) * 2
  assert acting.number == 2


@pytest.mark.parametrize(
  ('name', 'planner'), [('coordinate', 'cem'), ('decentralised', 'gradient')]
)
def test_one_agent_alone_is_planned_for_as_ever(name, planner):
  inner = planning.PLANNERS[planner](
    num_samples=8, num_iterations=2, num_kept=2
  )
  around = {
    'coordinate': planning.Coordinate(planner=inner),
    'decentralised': planning.Decentralised(planner=inner, price='all'),
  }[name]

  def search(planner):
    asked = problem(
      root_of(1),
      1,
      proposal_fn=lambda params, rng_keys, root: jnp.ones((3, 1, H, 2)),
    )
    return jax.jit(
      lambda rng_keys: planning.search(planner, None, rng_keys, asked)
    )(keys_of())

  wanted, found = search(inner), search(around)
  jax.tree.map(np.testing.assert_array_equal, found, wanted)


def test_rounds_come_near_what_all_could_do_together():
  root = root_of(G)
  answer = plan('coordinate', root)
  best = agent_problems.optimum(root)
  cost = agent_problems.price(answer.actions, root)
  np.testing.assert_allclose(answer.cost, cost, rtol=1e-4)
  idle = agent_problems.price(np.zeros(answer.actions.shape), root)
  assert np.all(cost >= best - 1e-5)
  np.testing.assert_array_less(cost - best, 0.03 * (idle - best))
  # No worse than a joint search of the same planner, which has thrice as much
  # to find at once.
  joint = agent_problems.price(plan('joint', root).actions, root)
  assert np.mean(cost) < np.mean(joint)
  assert {x.shape for x in answer.diagnostics if x is not None} == {(3, 3)}
  assert np.all(np.diff(answer.diagnostics.best_cost, axis=0) <= 1e-3)


def test_nobody_is_told_what_others_want_or_plan_now():
  root = root_of(G)
  answer = plan('decentralised', root)
  others = root._replace(goal=root.goal.at[:, 1:].add(0.7))
  again = plan('decentralised', others)
  own = np.asarray(agent_problems.agents_of(G).owners) == 0
  changed = np.any(answer.actions != again.actions, axis=(0, 1))
  np.testing.assert_array_equal(changed, ~own)
  # With one exchange alone the second agent knows of the first.
  told = plan('coordinate', root), plan('coordinate', others)
  assert np.all(np.any(told[0].actions != told[1].actions, axis=(0, 1)))


def test_each_plans_against_what_is_left_of_the_last_plans():
  root = root_of(2)
  last = jnp.asarray(np.random.default_rng(0).normal(size=(3, H, 4)) / 2)
  answer = plan('decentralised', root, mean=last.astype(jnp.float32))
  owners = np.asarray(agent_problems.agents_of(2).owners)
  for agent in range(2):
    mixed = np.where(owners == agent, answer.actions, last)
    cost = agent_problems.price(mixed, root, agent)
    for step in (-0.3, 0.3):
      worse = np.where(owners == agent, answer.actions + step, last)
      assert np.all(cost < agent_problems.price(worse, root, agent))


def test_a_problem_does_not_see_its_batch():
  root = root_of(G)
  for name in ('coordinate', 'decentralised'):
    together = plan(name, root)
    rng_keys = keys_of()[1:2]
    alone = compiled(name, G, 1)(
      rng_keys,
      jax.tree.map(lambda x: x[1:2], root),
      jnp.zeros((1, H, 2 * G)),
      jnp.full(2 * G, -3.0),
    )
    np.testing.assert_allclose(alone.actions[0], together.actions[1], atol=1e-6)


def test_limits_hold_and_agents_stay_where_they_are_held():
  root = root_of(2)
  answer = plan('coordinate', root, bound=0.05)
  assert np.all(np.abs(answer.actions) <= 0.05)
  held = planning.agents.Held(
    (planning.NormBall(1.0),),
    jnp.full((3, H, 4), 0.1),
    jnp.array([True, True, False, False]),
  )
  moved = held.project(jnp.full((3, 5, H, 4), 2.0))
  np.testing.assert_array_equal(moved[..., 2:], jnp.float32(0.1))
  assert np.all(np.linalg.norm(moved, axis=-1) <= 1.0 + 1e-3)


@pytest.mark.parametrize(
  ('make', 'says'),
  [
    (lambda: planning.Coordinate(planner=CEM, num_rounds=0), 'num_rounds'),
    (lambda: planning.Coordinate(planner=CEM, price='their'), 'price'),
    (lambda: planning.Decentralised(planner=CEM, predict='no'), 'predict'),
    (
      lambda: planning.Coordinate(planner=planning.CategoricalCEM()),
      'CategoricalCEM chooses among joint actions',
    ),
    (lambda: planning.Coordinate(planner=planning.Policy()), 'Policy acts'),
  ],
)
def test_settings_that_make_no_sense(make, says):
  with pytest.raises(ValueError, match=says):
    make()


@pytest.mark.parametrize(
  ('planner', 'changes', 'says'),
  [
    (PLANNERS['coordinate'], {'agents': None}, 'names none'),
    (
      PLANNERS['coordinate'],
      {'agents': planning.Agents((0, 0, 1))},
      'each of the 4 numbers',
    ),
    (
      PLANNERS['coordinate'],
      {'agents': planning.Agents((0, 0, 2, 2))},
      'without a gap',
    ),
    (
      PLANNERS['decentralised'],
      {'agents': planning.Agents((0, 0, 1, 1))},
      'give Agents a costs_fn',
    ),
    (
      PLANNERS['decentralised'],
      {
        'agents': planning.Agents(
          (0, 0, 1, 1), lambda params, state, action, goal: state
        )
      },
      r'\[B, N, G\] = \[3, 32, 2\]',
    ),
    (
      planning.Decentralised(planner=CEM, predict='still'),
      {},
      'needs to know which block stands still',
    ),
    (
      PLANNERS['decentralised'],
      {'cost_fn': planning.timed(lambda *_: 0.0), 'step_weights': None},
      'timed cost',
    ),
  ],
)
def test_problems_that_cannot_be_planned_agent_by_agent(planner, changes, says):
  asked = dataclasses.replace(problem(root_of(2), 2), **changes)
  with pytest.raises(ValueError, match=says):
    jax.eval_shape(
      lambda rng_keys: planning.search(planner, None, rng_keys, asked),
      keys_of(),
    )
