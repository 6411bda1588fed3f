"""Plans of all planners on three small problems: what a change must not move.

`python tests/golden/plans.py [PATH]` writes `plans.npz` anew, with the tree
that is on the path. The numbers are those of the first edition (commit
1fb9008); `tests/planning/golden_plans_test.py` compares with them.

  quadratic   a linear system and a quadratic cost, a warm start, bounds and a
              limited rate, a guardrail, proposals and kept elites
  noisy       the same with a stochastic model and a longer horizon, smooth
              noise, fewer candidates as the search goes on, momenta
  valley      one action, two minima, the planners as plain as they are
"""

import functools
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm import planning
from jepa_wm.types import Root

B, A = 3, 2
TRANSITION = np.array([[1.0, 0.3], [-0.2, 0.9]], np.float32)
CONTROL = np.array([[0.5, 0.1], [0.0, 0.7]], np.float32)
FEW = {'num_samples': 16, 'num_iterations': 4}
FEW_ELITES = {**FEW, 'num_elites': 5}
DESCENT = {'num_restarts': 3, 'num_iterations': 8}
LIFTED = {**DESCENT, 'sync_period': 4, 'num_sync_steps': 2}


def linear_dynamics(params, rng_key, action, state):
  del rng_key
  drift = jnp.einsum('ij,bnj->bni', params['transition'], state)
  return drift + jnp.einsum('ij,bnj->bni', params['control'], action)


def noisy_dynamics(params, rng_key, action, state):
  draw = jax.vmap(lambda key: jax.random.normal(key, state.shape[1:]))
  return linear_dynamics(params, None, action, state) + 0.1 * draw(rng_key)


def effort_cost(params, state, action, goal):
  distance = planning.squared_distance(params, state, action, goal)
  return distance + 0.1 * jnp.sum(action**2, axis=-1)


def wall_cost(params, state, action, goal):
  del params, action, goal
  return state[..., 1]


def sum_dynamics(params, rng_key, action, state):
  del params, rng_key
  return state + action


def valley_cost(params, state, action, goal):
  del params, action
  deep = jnp.sum((state - goal) ** 2, axis=-1)
  return jnp.minimum(deep, jnp.sum((state + 0.25 * goal) ** 2, axis=-1) + 1.0)


def quadratic(rng):
  """The planners' settings, and the arguments that they share."""
  horizon = 3
  mean, proposed = (
    jnp.asarray(rng.normal(size=(B, *n, horizon, A)), jnp.float32)
    for n in ((), (2,))
  )
  shared = {
    'dynamics_fn': linear_dynamics,
    'cost_fn': effort_cost,
    'horizon': horizon,
    'action_dim': A,
    'step_weights': planning.step_weights(horizon, 'all'),
    'guardrails': (planning.Guardrail(wall_cost, 0.3, 2.0),),
    'init_mean': mean,
  }
  limits = planning.ActionBounds(-np.ones(A), np.ones(A))
  reach = planning.RateLimit(0.75, jnp.zeros((B, A)))
  bounded = {'action_constraints': (limits, reach)}
  given = {'num_kept': 2, 'proposal_fn': lambda params, keys, root: proposed}
  settings = {
    'cem': {**FEW_ELITES, **bounded, **given, 'min_std': 0.05, 'patience': 2},
    'icem': {
      **FEW_ELITES,
      **bounded,
      'num_kept': 2,
      'init_elites': proposed,
      'return_mean': False,
    },
    'mppi': {**FEW_ELITES, **bounded, 'init_std': 0.7},
    'predictive_sampling': {**FEW, **bounded},
    'random_shooting': {**FEW, **bounded},
    'categorical_cem': {**FEW_ELITES, 'init_mean': jnp.abs(mean)},
    'gradient': {**DESCENT, **bounded, 'multiplier_period': 3},
    'grasp': {**LIFTED, **bounded},
  }
  return settings, shared


def noisy(rng):
  del rng
  shared = {
    'dynamics_fn': noisy_dynamics,
    'cost_fn': effort_cost,
    'horizon': 5,
    'action_dim': A,
  }
  settings = {
    'cem': {**FEW_ELITES, 'mean_momentum': 0.2, 'std_momentum': 0.4},
    'icem': {**FEW_ELITES, 'num_kept': 3, 'decay': 1.3, 'momentum': 0.2},
    'mppi': {**FEW, 'init_std': jnp.array([0.5, 1.5]), 'temperature': 2.0},
    'predictive_sampling': {'num_samples': 16},
    'random_shooting': {**FEW, 'init_std': 1.5},
    'categorical_cem': {**FEW_ELITES, 'momentum': 0.3, 'smoothing': 0.05},
    'gradient': DESCENT,
    'grasp': {**LIFTED, 'noise_std': 0.1},
  }
  return settings, shared


def valley(rng):
  del rng
  shared = {
    'dynamics_fn': sum_dynamics,
    'cost_fn': valley_cost,
    'horizon': 2,
    'action_dim': 1,
  }
  settings = {
    **dict.fromkeys(('cem', 'icem'), FEW_ELITES),
    **dict.fromkeys(('mppi', 'predictive_sampling', 'random_shooting'), FEW),
    'gradient': DESCENT,
    'grasp': LIFTED,
  }
  return settings, shared


PROBLEMS = {'quadratic': quadratic, 'noisy': noisy, 'valley': valley}


def plan(problem, planner, compiler_options=None):
  """The plan of one planner for one problem."""
  rng = np.random.default_rng(5)
  size = 1 if problem == 'valley' else A
  root = Root(*jnp.asarray(rng.normal(size=(2, B, size)), jnp.float32))
  settings, shared = PROBLEMS[problem](rng)
  arguments = {**shared, **settings[planner]}
  functions = arguments.pop('dynamics_fn'), arguments.pop('cost_fn')
  params = {'transition': TRANSITION, 'control': CONTROL}

  @functools.partial(jax.jit, compiler_options=compiler_options)
  def planned(rng_key, root):
    face = getattr(planning, f'{planner}_plan')
    return face(params, rng_key, root, *functions, **arguments)

  return planned(jax.random.key(7), root)


def names():
  """All pairs of a problem and a planner that there are plans of."""
  for problem, make in PROBLEMS.items():
    for planner in make(np.random.default_rng(5))[0]:
      yield problem, planner


def flatten(answer):
  """What is kept of a plan, name to array."""
  kept = ('actions', 'cost', 'violation', 'mean', 'std')
  found = {name: getattr(answer, name) for name in kept}
  found |= answer.diagnostics._asdict()
  return {name: value for name, value in found.items() if value is not None}


def main():
  arrays = {
    f'{problem}/{planner}/{name}': np.asarray(value)
    for problem, planner in names()
    for name, value in flatten(plan(problem, planner)).items()
  }
  out = sys.argv[1:] or [pathlib.Path(__file__).with_name('plans.npz')]
  np.savez_compressed(out[0], **arrays)


if __name__ == '__main__':
  main()
