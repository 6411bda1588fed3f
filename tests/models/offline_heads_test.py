"""Values and policies learnt of recorded blocks: nearer is worth more."""

import functools

import acting
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm.models.heads import goal_sampling

KEY = jax.random.key(0)


def line(rng, count=256):
  """Walkers of both directions on a line, whose blocks move them by one.

  From -4 to 4; most of them walk away from the goal, so that to imitate is to
  be wrong.
  """
  place = rng.integers(-4, 5, count)
  goal = rng.integers(-4, 5, count)
  towards = np.sign(goal - place)
  step = np.where(rng.random(count) < 0.7, -towards, towards)
  step = np.where(step == 0, rng.choice([-1, 1], count), step)
  after = np.clip(place + step, -4, 4)
  latent = lambda x: np.stack([x / 4, np.zeros(count)], -1).astype(np.float32)
  is_here = np.float32(place == goal)
  action = np.stack([step, np.zeros(count)], -1)
  return {
    'latents': np.stack([latent(place), latent(after)], axis=1),
    'action': np.float32(action)[:, None],
    'value': {
      'goal': latent(goal),
      'reward': is_here - 1,
      'mask': 1 - is_here,
    },
    'actor': {'goal': latent(goal)},
  }


@pytest.mark.parametrize(
  'name, settings',
  [
    ('gcivl', {'alpha': 5.0}),
    ('gciql', {'actor_loss': 'awr', 'alpha': 5.0}),
    ('gciql', {}),
  ],
)
def test_nearer_is_cheaper_and_the_policy_goes_there(name, settings):
  settings |= {'discount': 0.9, 'expectile': 0.98, 'target_rate': 0.05}
  head = acting.build(name, **settings)
  params, metrics = acting.learn(head, line, 600)
  assert all(np.isfinite(x) for x in metrics.values())
  goal = jnp.array([[0.75, 0.0]])
  places = jnp.stack([jnp.linspace(-1, 0.75, 8), jnp.zeros(8)], axis=-1)
  cost = head.roles.cost(params, places, goal)
  assert np.all(np.diff(cost) < 0)
  # Seven blocks to go of a discount of 0.9, and none.
  np.testing.assert_allclose(cost[0], (1 - 0.9**7) / 0.1, atol=1.2)
  np.testing.assert_allclose(cost[-1], 0.0, atol=0.7)
  goals = jnp.array([[0.75, 0.0], [-0.75, 0.0]])
  act = head.roles.policy(params, None, jnp.zeros((2, 2)), goals, jnp.ones(2))
  assert act[0, 0] > 0.2 and act[1, 0] < -0.2
  assert head.roles.proposal is not None


def test_targets_follow_and_are_not_saved():
  head = acting.build('gcivl', target_rate=0.25)
  variables = head.init(KEY)
  moved = jax.tree.map(lambda x: x + 1.0, variables['params'])
  after = head.after_update({**variables, 'params': moved}, 0)
  expected = jax.tree.map(lambda x: x + 0.25, variables['target'])
  close = functools.partial(np.testing.assert_allclose, atol=1e-6)
  jax.tree.map(close, after['target'], expected)
  assert set(head.for_inference(after)) == {'params'}


def test_expectiles_and_weights():
  error = jnp.array([1.0, -2.0])
  loss = goal_sampling.expectile_loss(error, error, 0.9)
  np.testing.assert_allclose(loss, (0.9 * 1 + 0.1 * 4) / 2, rtol=1e-6)
  weights = goal_sampling.advantage_weights(jnp.array([0.5, 9.0]), 2.0)
  np.testing.assert_allclose(weights, [np.e, 100.0], rtol=1e-6)


def test_a_reward_is_read_off_a_block_and_nan_is_left_out():
  head = acting.build('reward')

  def blocks(rng):
    latents = rng.uniform(-1, 1, (64, 2, 2)).astype(np.float32)
    action = rng.uniform(-1, 1, (64, 1, 2)).astype(np.float32)
    earned = latents[:, 1, 0] - latents[:, 0, 1] + action[:, 0, 0]
    reward = np.repeat(earned[:, None, None] / 5, 5, axis=-1)
    reward[:8, 0, 2] = np.nan
    return {'latents': latents, 'action': action, 'reward': reward}

  params, metrics = acting.learn(head, blocks, 300)
  assert metrics['explained'] > 0.9
  before, after = jnp.array([[0.1, -0.4]]), jnp.array([[0.3, 0.0]])
  action = jnp.array([[0.2, 0.0]])
  earned = head.roles.reward(params, before, action, after, after)
  np.testing.assert_allclose(earned, [0.9], atol=0.2)
