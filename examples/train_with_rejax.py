"""Lets a library's trainer learn in the model that ships: rejax's PPO.

  pip install -e '.[rl]'
  python examples/train_with_rejax.py

The settings are the first ones that were tried.
"""

import jax
import rejax

import jepa_wm
from jepa_wm import envs, rl

SETTINGS = {
  'num_envs': 128,
  'num_steps': 16,
  'num_epochs': 4,
  'num_minibatches': 4,
  'learning_rate': 1e-3,
  'gamma': 0.95,
  'ent_coef': 1e-3,
  'skip_initial_evaluation': True,
}


def main(num_blocks: int = 300_000, num_pairs: int = 200, seed: int = 0):
  """Trains and plays; the shares of goals reached, by protocol."""
  model = jepa_wm.WorldModel.from_checkpoint('two_room_small')
  key = jax.random.key(seed)
  env, params = rl.from_world(
    model, envs.TwoRoom(), rng_key=key, discount=SETTINGS['gamma']
  )
  algo = rejax.get_algo('ppo').create(
    env=rl.as_gymnax(env, params, steps=5),
    env_params=params,
    total_timesteps=num_blocks,
    eval_freq=num_blocks // 3,
    **SETTINGS,
  )
  state, (lengths, _) = jax.jit(algo.train)(key)
  print('blocks of an episode:', lengths.mean(axis=1))

  def likeliest(observation: jax.Array, rng_key: jax.Array) -> jax.Array:
    del rng_key  # `algo.make_act(state)` would draw.
    params, method = state.actor_ts.params, '_action_dist'
    seen = observation[None]
    return algo.actor.apply(params, seen, method=method).mode()[0]

  shares = {}
  for name in ('short', 'long'):
    policy_fn = rl.as_policy(env, likeliest)
    record = rl.evaluate(model, policy_fn, (), name, num_pairs=num_pairs).record
    shares[name] = record['success_rate']
    print(name, shares[name], record['interval_95'])
  return shares


if __name__ == '__main__':
  main()
