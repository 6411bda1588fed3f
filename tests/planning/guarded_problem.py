"""The linear-quadratic problem behind a wall, solved by its KKT conditions."""

import itertools

import jax.numpy as jnp
import numpy as np
from problem_sets import PARAMS, A, H

NORMAL, BOUND = np.array([0.6, -0.8], np.float32), 0.1


def wall_cost(params, state, action, goal):
  """Must stay below `BOUND` at every step."""
  del params, action, goal
  return state @ jnp.asarray(NORMAL)


def guarded_optimum(state, goal):
  """Tries every set of steps that touch the wall.

  Returns:
    actions [H, A], their cost, and the multipliers of the steps that touch.
  """
  transition = PARAMS['transition'].astype(np.float64)
  control = PARAMS['control'].astype(np.float64)
  powers = [np.linalg.matrix_power(transition, h) for h in range(H + 1)]
  moves = np.zeros((H, 2, H, A))
  for h, j in itertools.product(range(H), repeat=2):
    if j <= h:
      moves[h, :, j] = powers[h - j] @ control
  moves = moves.reshape(H, 2, H * A)
  drift = np.stack([powers[h + 1] @ state for h in range(H)])
  hessian = (
    2 / H * (np.einsum('hij,hik->jk', moves, moves) + 0.1 * np.eye(H * A))
  )
  slope = 2 / H * np.einsum('hij,hi->j', moves, drift - goal)
  rows = np.einsum('i,hij->hj', NORMAL, moves)
  room = BOUND - drift @ NORMAL
  for number in range(H + 1):
    for touching in itertools.combinations(range(H), number):
      active = rows[list(touching)]
      system = np.block(
        [[hessian, active.T], [active, np.zeros((number, number))]]
      )
      solution = np.linalg.solve(
        system, np.concatenate([-slope, room[list(touching)]])
      )
      actions, multipliers = solution[: H * A], solution[H * A :]
      if np.all(rows @ actions <= room + 1e-9) and np.all(multipliers >= 0):
        offsets = np.einsum('hij,j->hi', moves, actions) + drift - goal
        cost = (np.sum(offsets**2) + 0.1 * np.sum(actions**2)) / H
        return actions.reshape(H, A), cost, multipliers
  raise AssertionError('a convex problem has an optimum')


def guarded_optima(root):
  """Optimal actions [B, H, A], their costs [B], and who touches the wall."""
  answers = [
    guarded_optimum(np.asarray(state, np.float64), np.asarray(goal, np.float64))
    for state, goal in zip(root.state, root.goal)
  ]
  actions, costs, multipliers = zip(*answers)
  touches = np.array([len(found) > 0 for found in multipliers])
  return np.stack(actions), np.stack(costs), touches
