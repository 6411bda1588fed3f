"""One problem for all planners, whose program is compiled once: data change it.

And what must hold of every planner, whatever it is.
"""

import re

import jax
import jax.numpy as jnp
import numpy as np
import problem_sets
from problem_sets import A, B, H, make_keys, make_root

from jepa_wm import planning, sharding
from jepa_wm.types import Root

FAR = 1e3  # A cliff, wall or bound that nothing reaches.
NOTHING = np.full((1, 1, H, A), np.nan, np.float32)  # A proposal that is none.
DATA = {'noise': 0.0, 'cliff': FAR, 'wall': FAR}
PROPOSED = {'proposed': np.repeat(NOTHING, B, axis=0)}


def dynamics(params, rng_key, action, state):
  """Moved at every step by a number that the problem's key says."""
  bits = jax.random.key_data(rng_key)[:, 1].astype(jnp.float32)
  push = params['noise'] * (bits / 2.0**32 - 0.5)
  state = problem_sets.dynamics(params, rng_key, action, state)
  return state + push.reshape(-1, 1, 1)


def cost_fn(params, state, action, goal):
  """No number beyond a cliff."""
  cost = problem_sets.effort_cost(params, state, action, goal)
  return jnp.where(state[..., 0] > params['cliff'], jnp.nan, cost)


def wall_cost(params, state, action, goal):
  del action, goal
  return state[..., 1] - params['wall']


def plan(planner_fn, rng_key, root, **settings):
  """A plan by the planner's settings and what is in `DATA`."""
  params = {**DATA, 'proposed': NOTHING}
  params = {key: settings.pop(key, value) for key, value in params.items()}
  common = {
    'horizon': H,
    'action_dim': A,
    'step_weights': planning.step_weights(H, 'all'),
    'guardrails': [planning.Guardrail(wall_cost)],
    'proposal_fn': lambda params, rng_keys, root: jnp.repeat(
      params['proposed'], len(rng_keys) // len(params['proposed']), axis=0
    ),
  }
  return planner_fn(
    problem_sets.PARAMS | params,
    rng_key,
    root,
    dynamics,
    cost_fn,
    **common | settings,
  )


def assert_batch_is_unseen(plan_fn, program):
  """`plan_fn(**changes)` in a batch is `program(keys, root, **changes)`."""
  root, keys = make_root(), make_keys()
  together, quiet = plan_fn(noise=1.0), plan_fn()
  i = 2
  alone = program(
    keys[i : i + 1],
    Root(root.state[i : i + 1], root.goal[i : i + 1]),
    noise=1.0,
  )
  np.testing.assert_allclose(alone.actions[0], together.actions[i], atol=1e-5)
  np.testing.assert_allclose(alone.cost[0], together.cost[i], rtol=1e-5)
  assert np.any(quiet.cost[i] != together.cost[i])


def assert_eight_devices_are_one(one, program, data, rtol):
  """Compares with the plan `one`; returns sizes of what devices exchange."""
  with jax.set_mesh(sharding.make_mesh(axes=('data', 'samples'), shape=(2, 4))):
    compiled = program.lower(make_keys(), make_root(), **data).compile()
    eight = compiled(make_keys(), make_root(), **data)
  np.testing.assert_allclose(eight.actions, one.actions, atol=1e-5)
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol),
    eight.diagnostics,
    one.diagnostics,
  )
  gathered = re.findall(r'= f32\[([\d,]+)\]\S* all-gather', compiled.as_text())
  return [np.prod([int(n) for n in shape.split(',')]) for shape in gathered]


def assert_keys_decide(plan_fn):
  """`plan_fn(root, seed)` is a function of the seed."""
  # Problems alike: the keys are all that tells them apart.
  root = jax.tree.map(lambda x: jnp.repeat(x[:1], B, axis=0), make_root())
  answer, again, other = plan_fn(root), plan_fn(root), plan_fn(root, 1)
  np.testing.assert_array_equal(answer.actions, again.actions)
  means = np.concatenate(
    [x.diagnostics.mean_cost for x in (answer, other)], axis=1
  )
  assert len(np.unique(means[0])) == 2 * B
