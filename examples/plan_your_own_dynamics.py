"""Plans with dynamics of your own: no model, no world, no training.

  python examples/plan_your_own_dynamics.py

A cart on a rail is pushed to where it should stand still. A planner takes any
function that steps a batch of candidates, and any that prices them.
"""

import jax
import jax.numpy as jnp

import jepa_wm
from jepa_wm import planning

SECONDS = 0.1  # Of a step.


def dynamics_fn(params, rng_keys, action, state):
  """Steps position and speed, `[B, N, 2]`, by a push `[B, N, 1]`."""
  del rng_keys  # One key a problem, for dynamics that draw something.
  position, speed = state[..., :1], state[..., 1:]
  speed = speed + SECONDS * (action - params['drag'] * speed)
  return jnp.concatenate([position + SECONDS * speed, speed], axis=-1)


def cost_fn(params, state, action, goal):
  """The squared distance to where it should be; `goal` is `[B, 1, 2]`."""
  del params, action
  return jnp.sum(jnp.square(state - goal), axis=-1)


def main():
  """Plans three problems at once, and plays the plans."""
  params = {'drag': 0.2}
  starts = jnp.array([[0.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
  goals = jnp.array([[1.0, 0.0], [0.0, 0.0], [0.5, 0.0]])

  problem = planning.Problem(
    root=jepa_wm.Root(starts, goals),
    dynamics_fn=dynamics_fn,
    cost_fn=cost_fn,
    horizon=20,
    action_dim=1,
    limits=planning.Limits(
      actions=planning.ActionBounds(-3 * jnp.ones(1), 3 * jnp.ones(1))
    ),
  )
  planner = planning.ICEM(num_samples=128, num_elites=16, num_iterations=30)
  plan = jax.jit(
    lambda rng_key: planning.search(planner, params, rng_key, problem)
  )(jax.random.key(0))

  state = starts[:, None]
  for t in range(20):
    state = dynamics_fn(params, None, plan.actions[:, None, t], state)
  for start, goal, end in zip(starts, goals, state[:, 0]):
    print(f'from {start} to {goal}: ends at {end.round(2)}')
  return jnp.abs(state[:, 0] - goals).max()


if __name__ == '__main__':
  main()
