"""Point masses in the plane, whose best joint plan is known."""

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm import planning
from jepa_wm.planning import keys
from jepa_wm.types import Root

H, EFFORT, DRAG = 2, 0.3, 0.3


def agents_of(number):
  """Blocks of one step, x and y for each."""
  return planning.Agents.of_blocks(number, 1, 2, agent_costs)


def dynamics(params, rng_key, action, state):
  """Places `[B, N, G, 2]`: each drags all others along by `DRAG`."""
  del params, rng_key
  moves = action.reshape(state.shape)
  total = jnp.sum(moves, axis=-2, keepdims=True)
  return state + (1.0 - DRAG) * moves + DRAG * total


def agent_costs(params, state, action, goal):
  """Squared distances and effort, `[B, N, G]`."""
  del params
  far = jnp.sum((state - goal) ** 2, axis=-1)
  moves = action.reshape(state.shape)
  return far + EFFORT * jnp.sum(moves**2, axis=-1)


def cost(params, state, action, goal):
  return jnp.sum(agent_costs(params, state, action, goal), axis=-1)


def root_of(number, num_problems=3):
  rng = np.random.default_rng(number)
  shape = 2, num_problems, number, 2
  places = rng.uniform(-1, 1, size=shape).astype(np.float32)
  return Root(*map(jnp.asarray, places))


def problem(root, number, **changes):
  return planning.Problem(
    root,
    dynamics,
    cost,
    horizon=H,
    action_dim=2 * number,
    step_weights=planning.step_weights(H, 'all'),
    agents=agents_of(number),
    **changes,
  )


def keys_of(num_problems=3, seed=0):
  return keys.problem_keys(jax.random.key(seed), num_problems)


def price(actions, root, which=None):
  """What sequences `[B, H, A]` cost, of all or one agent, `[B]`."""
  place, total = np.asarray(root.state, np.float64), 0.0
  for block in np.moveaxis(np.asarray(actions, np.float64), 1, 0):
    moves = block.reshape(place.shape)
    place = place + (1 - DRAG) * moves + DRAG * moves.sum(1, keepdims=True)
    each = np.sum((place - root.goal) ** 2, -1) + EFFORT * np.sum(moves**2, -1)
    total = total + (each.sum(1) if which is None else each[:, which]) / H
  return total


def optimum(root):
  """The least joint cost `[B]`, by the normal equations."""
  found = []
  number = root.state.shape[1]
  size = H * number * 2
  for b in range(len(root.state)):
    one = Root(root.state[b : b + 1], root.goal[b : b + 1])

    def total(flat, one=one):
      return price(flat.reshape(1, H, -1), one)[0]

    zero, basis = np.zeros(size), np.eye(size)
    base = total(zero)
    plus = np.array([total(e) for e in basis])
    minus = np.array([total(-e) for e in basis])
    slope = (plus - minus) / 2
    hessian = np.array(
      [
        [total(e + f) - plus[i] - plus[j] + base for j, f in enumerate(basis)]
        for i, e in enumerate(basis)
      ]
    )
    best = -np.linalg.solve(hessian, slope)
    found.append(total(best))
  return np.array(found)
