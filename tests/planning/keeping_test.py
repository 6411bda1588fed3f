"""Every form of a guardrail: what it lets pass, and where plans stand still."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm import planning
from jepa_wm.planning import limits
from jepa_wm.types import Root

KEY, H = jax.random.key(0), 3
WALL = 0.5


def dynamics(params, rng_key, action, state):
  del params, rng_key
  return state + jnp.clip(action, -1.0, 1.0)


def right_of_wall(params, state, action, goal):
  del params, action, goal
  return state[..., 0]


def ask(form, bound=WALL, stop=(0.0,), start=0.0, **rest):
  """Two starts on a line, goals at 2; beyond the wall is forbidden."""
  rail = planning.Guardrail(right_of_wall, bound, 1.0, form)
  return planning.Problem(
    Root(jnp.full((2, 1), start), jnp.full((2, 1), 2.0)),
    dynamics,
    planning.squared_distance,
    H,
    1,
    limits=planning.Limits(guardrails=(rail,), stop=stop),
    **rest,
  )


SMALL = {'num_samples': 32, 'num_iterations': 4}


@pytest.fixture(scope='module')
def plans():
  """Plans of every form, and without any guardrail."""
  planner = planning.CEM(num_elites=4, **SMALL)
  free = ask('off')
  problems = {form: ask(form) for form in limits.FORMS}
  problems['none'] = dataclasses.replace(free, limits=planning.NO_LIMITS)
  problems['stuck'] = ask('hard', bound=-5.0, stop=(0.25,))
  problems['least'] = ask('hard', bound=-5.0, stop=None)

  @jax.jit
  def plan_all(rng_key):
    return {
      name: planning.search(planner, {}, rng_key, one)
      for name, one in problems.items()
    }

  return plan_all(KEY)


def test_off_reports_and_changes_nothing(plans):
  np.testing.assert_array_equal(plans['off'].actions, plans['none'].actions)
  assert np.all(plans['off'].violation > 0.5)
  assert plans['off'].stopped is None and plans['none'].excess is None
  passed = np.max(plans['off'].excess, axis=(1, 2))
  np.testing.assert_allclose(passed, plans['off'].violation)


def test_hard_passes_nothing(plans):
  hard = plans['hard']
  assert np.all(hard.violation == 0) and not np.any(hard.stopped)
  # It goes as far as it may, all the same.
  assert np.all(hard.excess[:, -1] > -0.4)
  assert np.all(hard.cost < 4.0)


def test_prices_lie_between(plans):
  free = plans['off'].violation
  assert np.all(plans['soft'].violation < free)
  assert np.all(plans['lagrangian'].violation < free)


def test_where_nothing_is_allowed_it_stands_still_and_says_so(plans):
  stuck, least = plans['stuck'], plans['least']
  assert np.all(stuck.stopped) and np.all(least.stopped)
  np.testing.assert_array_equal(stuck.actions, np.full((2, H, 1), 0.25))
  assert np.all(stuck.violation > 5.0)
  assert not np.all(least.actions == 0.25)
  assert np.all(least.violation < stuck.violation)


def test_who_averages_follows_gradients_or_a_policy_may_stop():
  @jax.jit
  def plan(rng_key, start):
    follow = lambda params, keys, root: jnp.full((2, 1, H, 1), 0.1)
    return [
      planning.search(
        planner, {}, rng_key, ask('hard', start=start, proposal_fn=proposal_fn)
      )
      for planner, proposal_fn in (
        (planning.MPPI(**SMALL), None),
        (planning.Gradient(num_samples=4, num_iterations=20), None),
        (planning.Policy(), follow),
      )
    ]

  for start, stands in ((0.0, False), (4.0, True)):
    for found in plan(KEY, start):
      assert np.all(found.stopped == stands)
      assert np.all((found.violation == 0) != stands)
      assert np.all(found.actions == 0) == stands


@pytest.mark.parametrize(
  'planner, form',
  [
    (planning.Gradient(), 'soft'),
    (planning.GRASP(), 'soft'),
    (planning.Policy(), 'soft'),
    (planning.Policy(), 'lagrangian'),
    (planning.FastSlow(), 'lagrangian'),
    (planning.CategoricalCEM(), 'hard'),
  ],
)
def test_a_form_that_a_planner_cannot_do_is_refused(planner, form):
  follow = lambda params, keys, root: jnp.zeros((2, 1, H, 1))
  name = type(planner).__name__
  with pytest.raises(ValueError, match=f"{name} cannot .* form '{form}', only"):
    jax.eval_shape(
      functools.partial(
        planning.search, planner, {}, problem=ask(form, proposal_fn=follow)
      ),
      KEY,
    )


@pytest.mark.parametrize(
  'rails, stop, message',
  [
    ([planning.Guardrail(max, form='firm')], None, 'must be one of off, soft'),
    ([], (0.0, 0.0), r'stop must be one block, \[A\] = \[1\], got shape \[2\]'),
  ],
)
def test_limits_that_make_no_sense(rails, stop, message):
  with pytest.raises(ValueError, match=message):
    planning.Limits(guardrails=rails, stop=stop).checked(1)
