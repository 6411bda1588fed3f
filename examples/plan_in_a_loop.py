"""Looks, plans, plays and plans again, with the model that ships.

  python examples/plan_in_a_loop.py

Four agents in Two Room walk to four goals that they know from pictures. World,
encoder, planner and loop are one compiled program.
"""

import jax

import jepa_wm
from jepa_wm import envs, planning


def main(num_problems: int = 4, num_plans: int = 10):
  """Plays model-predictive control; the distances left, in px."""
  model = jepa_wm.WorldModel.from_checkpoint('two_room_small')
  world = envs.TwoRoom(image_size=model.image_size)
  start_key, goal_key, rng_key = jax.random.split(jax.random.key(0), 3)
  reset = lambda key: jax.vmap(world.reset)(jax.random.split(key, num_problems))
  starts, goals = reset(start_key), reset(goal_key)

  def observe_fn(states):
    return {'pixels': jax.vmap(world.render)(states)}

  def root_fn(params, memory, goal):
    # The newest of the frames that are remembered: this model needs no more.
    seen = jax.tree.map(lambda x: x[:, -1], memory.observations)
    return model.root(params, seen, goal)

  def play_fn(states, blocks):
    raw = model.raw_actions(blocks)  # [B, 5, 2]
    for t in range(model.action_block):
      states = jax.vmap(world.step)(states, raw[:, t])
    return states, jax.vmap(world.distance)(states, goals)

  plan_fn = planning.BoundPlanner(
    planner=planning.ICEM(
      num_samples=32, num_elites=4, num_iterations=3, num_kept=2
    ),
    dynamics_fn=model.dynamics,
    cost_fn=model.cost,
    horizon=5,
    action_dim=model.action_dim,
    limits=planning.Limits(actions=model.action_bounds(-1, 1)),
  )

  @jax.jit
  def play(params, starts, goal):
    return planning.run_mpc(
      params,
      rng_key,
      starts,
      goal,
      observe_fn=observe_fn,
      root_fn=root_fn,
      plan_fn=plan_fn,
      play_fn=play_fn,
      receding_horizon=1,
      num_plans=num_plans,
    )

  _, output = play(model.params, starts, observe_fn(goals))
  distances = output.played.reshape(-1, num_problems)
  for t, row in enumerate(distances):
    print(f'{5 * (t + 1):3} steps:', ' '.join(f'{d:6.1f}' for d in row), 'px')
  return distances[-1]


if __name__ == '__main__':
  main()
