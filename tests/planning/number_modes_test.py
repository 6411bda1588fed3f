"""Settings of JAX that a caller may have made: x64, strict types, key kinds."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm import planning
from jepa_wm.planning import keys
from jepa_wm.types import Root

FEW = {'num_samples': 16, 'num_iterations': 2}
SETTINGS = {
  'cem': {'num_elites': 4, 'patience': 2, 'num_kept': 1},
  'icem': {'num_elites': 4, 'decay': 2.0, 'num_kept': 2},
  'mppi': {},
  'predictive_sampling': {},
  'random_shooting': {},
  'categorical_cem': {'num_elites': 4},
  'gradient': {},
  'grasp': {'sync_period': 1},
  'fast_slow': {'num_elites': 4},
}


def propose(params, rng_keys, root):
  return jnp.ones((len(root.goal), 1, 4, 2), root.goal.dtype)


@functools.partial(jax.jit, static_argnames='name')
def plan(name, rng_key, root):
  settings = {} if name == 'policy' else FEW | SETTINGS[name]
  planner = planning.PLANNERS[name](**settings)
  limits = planning.Limits(
    guardrails=[
      planning.Guardrail(lambda params, state, action, goal: state[..., 0])
    ]
  )
  if not planner.discrete:
    bounds = planning.ActionBounds(-np.ones(2), np.ones(2))
    limits = planning.Limits(
      (bounds, planning.RateLimit(0.5)), limits.guardrails
    )
  problem = planning.Problem(
    root,
    lambda params, rng_key, action, state: state + action,
    planning.squared_distance,
    horizon=4,
    action_dim=2,
    limits=limits,
    proposal_fn=propose if planner.follows else None,
  )
  start = planning.WarmStart(jnp.ones((len(root.goal), 4, 2)))
  return planning.search(planner, None, rng_key, problem, warm_start=start)


@pytest.mark.parametrize('name', planning.PLANNERS)
def test_plans_in_double_precision(name):
  with jax.enable_x64(True):
    root = Root(jnp.zeros((2, 2)), jnp.ones((2, 2)))
    assert root.state.dtype == jnp.float64
    shapes = jax.eval_shape(
      functools.partial(plan, name), jax.random.key(0), root
    )
  assert shapes.actions.dtype == shapes.cost.dtype == jnp.float32


@pytest.mark.parametrize('name', planning.PLANNERS)
def test_promotes_no_type_silently(name):
  root = Root(jnp.zeros((2, 2)), jnp.ones((2, 2)))
  with jax.numpy_dtype_promotion('strict'):
    jax.eval_shape(functools.partial(plan, name), jax.random.key(0), root)


@pytest.mark.parametrize('impl', ['threefry2x32', 'rbg', 'unsafe_rbg'])
def test_a_problem_draws_the_same_in_any_batch(impl):
  many = keys.problem_keys(jax.random.key(3, impl=impl), 3)
  one = many[1:2]
  for draw in (
    lambda rng_keys: keys.white_noise(rng_keys, (5, 2)),
    lambda rng_keys: keys.gumbel_noise(rng_keys, (5, 2)),
    lambda rng_keys: jax.random.key_data(keys.fold_keys(rng_keys, 7)),
    lambda rng_keys: jax.random.key_data(keys.split_keys(rng_keys)[1]),
  ):
    together = np.asarray(draw(many))
    np.testing.assert_array_equal(together[1:2], draw(one))
    assert len(np.unique(together, axis=0)) == 3


@pytest.mark.slow
@pytest.mark.parametrize('name', ['cem', 'grasp'])
def test_a_plan_under_rbg_keys_does_not_depend_on_the_batch(name):
  rng_keys = jax.random.split(jax.random.key(7, impl='rbg'), 3)
  root = Root(jnp.zeros((3, 2)), 2 * jnp.ones((3, 2)))
  together = plan(name, rng_keys, root)
  alone = plan(name, rng_keys[1:2], jax.tree.map(lambda x: x[1:2], root))
  np.testing.assert_allclose(alone.actions[0], together.actions[1], atol=1e-5)
