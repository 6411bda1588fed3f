"""Heads that act: policies, their draws, and what they propose."""

import acting
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm.types import Root

KEY = jax.random.key(0)


def walks(rng, count=64):
  """Whoever plays walks straight at the goal, beyond the bounds if far."""
  start, goal = rng.uniform(-1, 1, (2, count, 2)).astype(np.float32)
  return {
    'latents': np.stack([start, goal], axis=1),
    'action': 1.5 * (goal - start)[:, None],
    'steps': np.full(count, 5.0, np.float32),
  }


@pytest.fixture(scope='module')
def policy():
  head = acting.build('policy', num_proposals=3)
  return head, *acting.learn(head, walks)


def test_a_policy_imitates_within_the_bounds(policy):
  head, params, metrics = policy
  assert metrics['explained'] > 0.9
  latents, goal = jnp.zeros((2, 2)), jnp.array([[0.4, -0.4], [0.9, 0.9]])
  act = head.roles.policy(params, None, latents, goal, jnp.ones(2))
  np.testing.assert_allclose(act, [[0.6, -0.6], [1.0, 1.35]], atol=0.2)
  drawn = jax.vmap(
    lambda key: head.roles.policy(params, key, latents, goal, 1)
  )(jax.random.split(KEY, 500))
  drawn = np.asarray(drawn)
  assert np.all(np.abs(drawn) <= np.array([1.0, 2.0]))
  # A share of half the range, where the bounds cut nothing off.
  np.testing.assert_allclose(drawn[:, 0, 1].std(), 0.6, rtol=0.15)


def test_without_a_deviation_it_is_learnt_by_likelihood():
  head = acting.build('policy', std=0.0)

  def noisy(rng):
    batch = walks(rng)
    noise = rng.normal(size=batch['action'].shape) * np.array([0.1, 0.4])
    return {**batch, 'action': np.float32(0.2 * batch['action'] + noise)}

  params, _ = acting.learn(head, noisy, 300)
  _, std = head.actor.distribution(
    params['params']['actor'], *jnp.zeros((2, 1, 2))
  )
  np.testing.assert_allclose(std, [[0.1, 0.4]], rtol=0.25)


def test_proposals_are_what_the_policy_does_in_the_model(policy):
  head, params, _ = policy
  # A model whose state also counts, so that the latent has to be read.
  dynamics = lambda params, keys, action, state: (
    state[0] + 0.1 * action,
    state[1] + 1,
  )
  root = Root((jnp.zeros((2, 2)), jnp.zeros(2)), jnp.full((2, 2), 0.5))
  propose = head.roles.proposal(dynamics, lambda state: state[0], 3, params)
  propose = jax.jit(propose)
  keys = jax.random.split(KEY, 2)
  found = propose({}, keys, root)
  assert found.shape == (2, 3, 3, 2)
  latent = jnp.zeros((1, 2))
  for h in range(3):
    goal = jnp.full((1, 2), 0.5)
    action = head.roles.policy(params, None, latent, goal, jnp.ones(1))
    np.testing.assert_allclose(
      found[:, 0, h], jnp.repeat(action, 2, 0), atol=1e-5
    )
    latent = latent + 0.1 * action
  # Draws differ by candidate, problem and block, and come back by the key.
  assert len(np.unique(found[:, 1:, :, 1].round(6))) == 2 * 2 * 3
  again = propose({}, keys[::-1], root)
  np.testing.assert_allclose(again[::-1], found, atol=1e-6)


def test_inverse_dynamics_is_a_policy_with_a_countdown():
  head = acting.build('inverse_dynamics', horizons=(10, 5), share=1.0)
  params = jax.jit(head.init)(KEY)
  params = jax.tree.map(
    lambda x: x + 0.3 * jax.random.normal(KEY, x.shape), params
  )
  keys, root = (
    jax.random.split(KEY, 1),
    Root(jnp.zeros((1, 2)), jnp.ones((1, 2))),
  )
  stay = lambda params, keys, action, state: state
  found = head.roles.proposal(stay, lambda state: state, 2, params)(
    {}, keys, root
  )
  act = lambda steps: head.roles.policy(
    params, None, root.state, root.goal, jnp.full(1, steps)
  )[0]
  late, soon = act(10.0), act(5.0)
  assert np.abs(late - soon).max() > 1e-3
  expected = [[[late, soon], [soon, soon]]]
  np.testing.assert_allclose(found, expected, atol=1e-6)


def test_inverse_dynamics_means_to_arrive_before_the_end():
  head = acting.build('inverse_dynamics', share=0.5, max_steps=40)
  params = jax.tree.map(
    lambda x: x + 0.3 * jax.random.normal(KEY, x.shape), head.init(KEY)
  )
  latent, goal = jnp.zeros((3, 2)), jnp.ones((3, 2))
  left = jnp.array([60.0, 200.0, 2.0])
  act = head.roles.policy(params, None, latent, goal, left)
  meant = head.act(params, latent, goal, jnp.array([30.0, 40.0, 5.0]))
  np.testing.assert_allclose(act, meant, atol=1e-6)


def test_an_actor_critic_acts_and_prices_by_its_lowest_value():
  head = acting.build('actor_critic', num_values=3, num_proposals=2)
  params = head.for_inference(head.init(KEY))
  latents, goal = jax.random.normal(KEY, (2, 4, 2)), jnp.ones((2, 1, 2))
  values = head.critic.values(params['params']['values'], latents, goal)
  assert values.shape == (3, 2, 4)
  cost = head.roles.cost(params, latents, goal)
  np.testing.assert_allclose(cost, -values.min(axis=0))
  act = head.roles.policy(params, None, latents, goal, jnp.ones((2, 4)))
  assert act.shape == (2, 4, 2)
  assert head.roles.proposal is not None
  with pytest.raises(ValueError, match=r'by experiments\.train_agent'):
    head.losses(params, {}, KEY)
