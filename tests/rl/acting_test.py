"""Actors of other libraries in the true world."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_model

import jepa_wm
from jepa_wm import envs, rl
from jepa_wm.evaluation.planning import pairs, protocol


@pytest.fixture(scope='module')
def env():
  model = small_model.make(jepa_wm.WorldModel, history=1)
  frames = {'pixels': small_model.pixels(4)}
  return rl.from_frames(model, frames, low=-1, high=1, reach=0.1)[0]


def test_an_actor_is_a_policy_in_the_models_units(env, rng_key):
  seen = []

  def act(observation, key):
    seen.append(observation.shape)
    return 3 * observation[0] + jax.random.uniform(key, (10,))

  policy = rl.as_policy(env, act)
  latents = jax.random.normal(rng_key, (2, 4, 3))
  given = (), None, latents, jnp.zeros((2, 1, 3)), jnp.zeros((2, 4))
  blocks = policy(*given)
  assert blocks.shape == (2, 4, 10) and seen == [(6,)]
  raw = env.model.raw_actions(blocks).reshape(2, 4, 10)
  assert np.abs(raw).max() <= 1.0 + 1e-6  # Clipped.
  noise = jax.random.uniform(jax.random.key(0), (10,))
  wanted = np.clip(3 * np.array(latents)[..., :1] + np.array(noise), -1, 1)
  np.testing.assert_allclose(raw, wanted, atol=1e-5)
  # The same draw for all, another with another key.
  other = policy((), rng_key, *given[2:])
  np.testing.assert_array_equal(policy(*given), blocks)
  drawn = policy((), jax.random.key(1), *given[2:])
  assert np.any(drawn != other)


@pytest.mark.slow
def test_an_actor_plays_a_protocol_and_looks_at_every_block(env):
  """Right where the goal's latent is above, else left: a walk by hand."""

  def act(observation, key):
    del key
    return jnp.full(10, jnp.where(observation[0] > observation[3], 1.0, -0.5))

  policy = rl.as_policy(env, act)
  result = rl.evaluate(env.model, policy, (), 'short', num_pairs=3, name='mine')
  world, model = envs.TwoRoom(image_size=16), env.model
  given = pairs.load_pairs(protocol.get('short'), 3)
  encode = jax.jit(
    jax.vmap(lambda s: model.encode(model.params, {'pixels': world.render(s)}))
  )
  states, goals = given.starts, encode(given.goals)
  path = [states.position]
  step = jax.jit(jax.vmap(world.step))
  for _ in range(10):
    seen = encode(states)
    raw = jnp.where(seen[:, :1] > goals[:, :1], 1.0, -0.5)
    for _ in range(5):
      states = step(states, jnp.tile(raw, (1, 2)))
      path.append(states.position)
  path = np.stack(path, axis=1)
  still = np.asarray([e.first_success_step is None for e in result.episodes])
  assert still.any()
  np.testing.assert_allclose(result.vectors[still], path[still], atol=1e-3)
  assert result.record['planner']['proposals'] == 'mine'
  assert len(result.record['interval_95']) == 2


@pytest.mark.parametrize(
  ('policy_fn', 'message'),
  [
    (None, 'policy_fn: expected a function, got None'),
    (lambda p, key, z, goal, steps: None, r'block \[..., 10\] .* got None'),
    (lambda p, key, z, goal, steps: z[..., :2], r'\[1, 10\] of one, got Sh'),
  ],
)
def test_a_policy_that_gives_no_blocks_is_refused(env, policy_fn, message):
  with pytest.raises(ValueError, match=message):
    rl.evaluate(env.model, policy_fn, (), 'short', num_pairs=1)
