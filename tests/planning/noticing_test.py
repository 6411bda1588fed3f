"""Plans that are kept, in a world of points that is shaken."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm import planning
from jepa_wm.types import Root

B, H, A, R = 3, 4, 2, 3
BOUNDS = (0.1,) * R


def step(params, rng_key, action, state):
  del rng_key
  return state + params * action


def distance(seen, wanted):
  return jnp.sum(jnp.square(seen - wanted), axis=-1)


LOW = planning.BoundPlanner(
  planner=planning.ICEM(
    num_samples=16, num_elites=4, num_iterations=2, num_kept=1
  ),
  dynamics_fn=step,
  cost_fn=planning.squared_distance,
  horizon=H,
  action_dim=A,
  limits=planning.Limits(planning.ActionBounds(-np.ones(A), np.ones(A))),
)


def noticing(*bounds):
  return planning.Noticing(
    plan_fn=LOW,
    dynamics_fn=step,
    expecting=planning.Expecting(lambda state: state, distance, A),
    horizon=H,
    bounds=bounds or BOUNDS,
  )


@functools.cache
def program(bounds, receding):
  """`(key number, left, places) -> (plan, left)`; of `LOW` for no bounds."""
  plan_fn = LOW if bounds is None else noticing(*bounds)

  @jax.jit
  def turn(number, left, places):
    return planning.plan_step(
      jnp.float32(1),
      jax.random.split(jax.random.key(number), B),
      left,
      planning.Memory(places[:, None], jnp.zeros((B, 0, A))),
      8.0 * jnp.ones((B, A)),
      root_fn=lambda params, memory, goal: Root(
        memory.observations[:, -1], goal
      ),
      plan_fn=plan_fn,
      receding_horizon=receding,
    )

  return turn


def play(shaken=()):
  """Six blocks, one a look; `shaken` says what is moved before which."""
  plan_fn = noticing()
  left, places, plans = plan_fn.first(B), jnp.zeros((B, A)), []
  for number in range(2 * R):
    for at, row in shaken:
      if at == number:
        places = places.at[row].add(5.0)
    # Keys of whole plans, as whoever plays them blindly has.
    key = number // R if number % R == 0 else 100 + number
    plan, left = program(BOUNDS, 1)(key, left, places)
    places = places + plan.actions[:, 0]
    plans.append(plan)
  return plans, np.asarray(places)


def test_unsurprised_it_plays_what_is_planned_blindly_to_the_bit():
  plans, places = play()
  left, blind = LOW.first(B), jnp.zeros((B, A))
  for number in range(2):
    plan, left = program(None, R)(number, left, blind)
    for block in range(R):
      kept = plans[number * R + block]
      np.testing.assert_array_equal(kept.actions[:, 0], plan.actions[:, block])
      np.testing.assert_array_equal(kept.cost, plan.cost)
      assert (kept.noticed.is_new == (block == 0)).all()
      assert not kept.noticed.is_surprised.any()
      blind = blind + plan.actions[:, block]
  np.testing.assert_array_equal(places, blind)
  assert (plans[1].noticed.surprise < 1e-6).all()
  assert plans[1].noticed.num_since.tolist() == [1, 1, 1]


def test_whoever_is_surprised_plans_at_once_and_forgets():
  calm, _ = play()
  plans, _ = play(shaken=[(2, 1)])
  noticed = plans[2].noticed
  assert noticed.is_surprised.tolist() == noticed.is_new.tolist()
  assert noticed.is_new.tolist() == [False, True, False]
  np.testing.assert_allclose(noticed.surprise[1], 50.0, rtol=1e-4)
  # Its next plan is due R blocks later, theirs when it always was.
  new = np.stack([plan.noticed.is_new for plan in plans])
  assert new[:, 1].tolist() == [True, False, True, False, False, True]
  assert new[:, 0].tolist() == [True, False, False, True, False, False]
  for one, other in zip(plans, calm):
    for row in (0, 2):
      np.testing.assert_array_equal(one.actions[row], other.actions[row])
  assert not np.array_equal(plans[2].actions[1], calm[2].actions[1])
  # Nothing of the plan before is left in the one that starts anew.
  fresh, turn = noticing().first(B), program(BOUNDS, 1)
  here = jnp.full((B, A), 7.0)
  surprised = fresh._replace(
    low=jax.tree.map(lambda x: x + 3.0, fresh.low),
    expected=jnp.zeros_like(fresh.expected),
    num_since=jnp.ones(B, jnp.int32),
  )
  _, left = turn(102, fresh, here)
  _, again = turn(102, surprised, here)
  for one, other in zip(jax.tree.leaves(left), jax.tree.leaves(again)):
    np.testing.assert_array_equal(one, other)


def test_the_bound_is_that_of_the_block():
  plan_fn = noticing(1.0, 60.0, 1.0)
  left = plan_fn.first(B)._replace(
    expected=jnp.zeros((B, R, A)), num_since=jnp.array([1, 2, 3])
  )
  plan, _ = program(plan_fn.bounds, 1)(0, left, jnp.full((B, A), 5.0))
  assert plan.noticed.is_surprised.tolist() == [True, False, True]


@pytest.mark.parametrize(
  ('bounds', 'message'),
  [
    ((1.0,) * (H + 1), 'got 5'),
    ((1.0, -1.0), 'must not be negative'),
    ((float('nan'),), 'or NaN'),
  ],
)
def test_bounds_that_make_no_sense(bounds, message):
  with pytest.raises(ValueError, match=message):
    noticing(*bounds)
