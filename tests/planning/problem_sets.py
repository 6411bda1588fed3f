"""Problems whose answers are known, for the tests of every planner."""

import golden_files
import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm import planning
from jepa_wm.planning import keys
from jepa_wm.types import Root

B, H, A = 4, 3, 2

# A linear system with a quadratic cost.

PARAMS = {
  'transition': np.array([[1.0, 0.3], [-0.2, 0.9]], np.float32),
  'control': np.array([[0.5, 0.1], [0.0, 0.7]], np.float32),
}


def dynamics(params, rng_key, action, state):
  del rng_key
  drift = jnp.einsum('ij,bnj->bni', params['transition'], state)
  return drift + jnp.einsum('ij,bnj->bni', params['control'], action)


def noisy_dynamics(params, rng_key, action, state):
  noise = keys.white_noise(rng_key, state.shape[1:])
  return dynamics(params, None, action, state) + 0.1 * noise


def effort_cost(params, state, action, goal):
  """What `optimum` solves, with `step_weights` of all steps alike."""
  distance = planning.squared_distance(params, state, action, goal)
  return distance + 0.1 * jnp.sum(action**2, axis=-1)


def effort_plan(plan_fn, root, noise=None, **settings):
  """A plan for the linear-quadratic problem, of `noise` `[I, B, N, H, A]`."""
  if noise is not None:
    settings['noise_fn'] = lambda rng_keys, iteration: jnp.asarray(noise)[
      iteration
    ]
  return plan_fn(
    PARAMS,
    make_keys(),
    root,
    dynamics,
    effort_cost,
    horizon=H,
    action_dim=A,
    step_weights=planning.step_weights(H, 'all'),
    **settings,
  )


def price(candidates, root):
  """What candidates `[B, N, H, A]` cost, `[B, N]`, in NumPy."""
  state = np.asarray(root.state, np.float64)[:, None]
  goal = np.asarray(root.goal)[:, None]
  cost = 0.0
  for action in np.moveaxis(np.asarray(candidates, np.float64), 2, 0):
    state = state @ PARAMS['transition'].T + action @ PARAMS['control'].T
    cost = cost + np.sum((state - goal) ** 2, axis=-1) / H
    cost = cost + 0.1 * np.sum(action**2, axis=-1) / H
  return cost


def make_root(num_problems=B):
  rng = np.random.default_rng(3)
  state, goal = rng.normal(size=(2, B, 2)).astype(np.float32)
  return Root(
    jnp.asarray(state[:num_problems]), jnp.asarray(goal[:num_problems])
  )


def make_keys(seed=0, num_problems=B):
  return keys.problem_keys(jax.random.key(seed), num_problems)


def optimum(state, goal):
  """Solves the linear-quadratic problem: actions [H, A] and their cost."""
  transition = PARAMS['transition'].astype(np.float64)
  control = PARAMS['control'].astype(np.float64)
  rows, targets = [], []
  for h in range(1, H + 1):
    blocks = [
      np.linalg.matrix_power(transition, h - 1 - j) @ control
      if j < h
      else np.zeros((2, A))
      for j in range(H)
    ]
    rows.append(np.concatenate(blocks, axis=1))
    targets.append(goal - np.linalg.matrix_power(transition, h) @ state)
  rows = np.concatenate([*rows, np.sqrt(0.1) * np.eye(H * A)])
  targets = np.concatenate([*targets, np.zeros(H * A)])
  actions, *_ = np.linalg.lstsq(rows, targets, rcond=None)
  cost = np.sum((rows @ actions - targets) ** 2) / H
  return actions.reshape(H, A), cost


def optima(root):
  """Optimal actions [B, H, A] and their costs [B]."""
  pairs = [
    optimum(np.asarray(state), np.asarray(goal))
    for state, goal in zip(root.state, root.goal)
  ]
  actions, costs = zip(*pairs)
  return np.stack(actions).astype(np.float32), np.stack(costs)


# Two valleys: the near one is shallow, and downhill from the start.

SHALLOW_COST = 1.0


def valley_dynamics(params, rng_key, action, state):
  """The state `[B, N, 1]` is the sum of the actions, A = 1."""
  del params, rng_key
  return state + action


def valley_cost(params, state, action, goal):
  """Bottoms: 0 at the goal, `SHALLOW_COST` a quarter as far opposite it.

  From the start, 0, downhill leads to the shallow one, and the ridge is 0.275
  of the way to the goal. For the last step alone.
  """
  del params, action
  deep = jnp.sum((state - goal) ** 2, axis=-1)
  shallow = jnp.sum((state + 0.25 * goal) ** 2, axis=-1) + SHALLOW_COST
  return jnp.minimum(deep, shallow)


def plan_valleys(planner, **settings):
  planned = jax.jit(
    lambda rng_keys, root: planner(
      None,
      rng_keys,
      root,
      valley_dynamics,
      valley_cost,
      horizon=2,
      action_dim=1,
      **settings,
    )
  )
  return planned(make_keys(num_problems=2), valley_root())


def valley_root():
  """Two problems, mirrored: the deep valley is right, then left."""
  return Root(jnp.zeros((2, 1)), jnp.array([[2.0], [-2.0]]))


# The published planner's cost, of the whole sequence.


def load_golden():
  """Arrays and configuration of the published planners' traces."""
  data, meta = golden_files.load('cem_trace')
  return data, meta['config']


def golden_params(data):
  return {key: data[f'cost/{key}'] for key in ('W', 'goal', 'kappa')}


def golden_root(data, config):
  num_problems, action_dim = config['n_envs'], config['action_dim']
  state = {
    'time': jnp.zeros(num_problems, jnp.int32),
    'price': jnp.zeros(num_problems),
    'sum': jnp.zeros((num_problems, action_dim)),
  }
  return Root(state, jnp.asarray(data['cost/csum']))


def golden_dynamics(params, rng_key, action, state):
  """Adds up the parts of a cost that looks at the whole sequence."""
  del rng_key
  time = state['time'][0, 0]
  goal = jnp.take(params['goal'], time, axis=1)
  weight = jnp.take(params['W'], time, axis=0)
  error = (action - jnp.expand_dims(goal, 1)) ** 2
  return {
    'time': state['time'] + 1,
    'price': state['price'] + jnp.sum(weight.reshape(1, 1, -1) * error, -1),
    'sum': state['sum'] + action,
  }


def golden_cost(params, state, action, goal):
  del action
  rest = jnp.sum((state['sum'] - goal) ** 2, axis=-1)
  return state['price'] + params['kappa'] * rest


def golden_plan(plan_fn, data, config, noise, **settings):
  """What one of ours plans there, of `noise` `[I, B, N, H, A]`."""
  noise = jnp.asarray(noise)

  @jax.jit
  def plan(root):
    return plan_fn(
      golden_params(data),
      jax.random.key(0),
      root,
      golden_dynamics,
      golden_cost,
      horizon=config['horizon'],
      action_dim=config['action_dim'],
      num_samples=config['num_samples'],
      num_iterations=config['n_iterations'],
      init_std=config['initial_std'],
      noise_fn=lambda rng_keys, iteration: noise[iteration],
      **settings,
    )

  return plan(golden_root(data, config))


def golden_price(data, actions):
  """The same in NumPy, of actions `[B, H, A]`."""
  error = (actions - data['cost/goal']) ** 2
  price = np.sum(data['cost/W'] * error, axis=(1, 2))
  rest = np.sum(actions, axis=1) - data['cost/csum']
  return price + data['cost/kappa'] * np.sum(rest**2, axis=1)
