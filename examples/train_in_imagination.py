"""Learns to act in the imagination of the model that ships, then in the world.

  python examples/train_in_imagination.py

An actor and its critics learn in latents alone, in less than a minute; then
the actor walks from pixels, on the pairs that the planners are measured on.
"""

import jax
import optax

import jepa_wm
from jepa_wm import envs, rl
from jepa_wm.models import heads
from jepa_wm.training import run


def main(num_updates: int = 200, num_pairs: int = 200) -> float:
  """Trains and plays; the share of goals reached."""
  model = jepa_wm.WorldModel.from_checkpoint('two_room_small')
  reward_fn = rl.rewards.reached(softness=0.3)
  env, params = rl.from_world(
    model, envs.TwoRoom(), rng_key=jax.random.key(0), reward_fn=reward_fn
  )
  head = heads.from_config({'name': 'actor_critic'}, env.sizes)
  learner = rl.ImaginedActorCritic(env, params, head)
  adam, batches = optax.adam(1e-3), rl.numbers(256)
  training = run.Run(learner, adam, batches, num_steps=num_updates)
  for report in training.steps():
    if report.step % 50 == 0:
      print(f'{report.step} updates, return {report.metrics["return"]:.2f}')
  variables = training.state.variables
  found = rl.evaluate(model, head.act, variables, 'long', num_pairs=num_pairs)
  print(found.record['success_rate'], found.record['interval_95'])
  return found.record['success_rate']


if __name__ == '__main__':
  main()
