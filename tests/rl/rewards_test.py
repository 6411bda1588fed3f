"""What a step in latents is worth."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm.rl import rewards

PARAMS = rewards.RewardParams(reach=1.0, discount=0.9)


def step(*lead, seed=0):
  rng = np.random.default_rng(seed)
  draw = lambda size: jnp.asarray(rng.normal(size=(*lead, size)), jnp.float32)
  return draw(3), draw(4), draw(3), draw(3)


def test_a_goal_is_reached_below_the_radius_and_ends_the_episode():
  latents, action, _, goal = step(3)
  there = goal + jnp.array([[0.0], [0.5], [0.6]])  # 0, 0.75 and 1.08 away
  found = rewards.reached()(PARAMS, latents, action, there, goal)
  np.testing.assert_array_equal(found.reward, [1, 1, 0])
  np.testing.assert_array_equal(found.ends, found.reward)


def test_a_soft_reward_is_half_at_the_radius_and_leads_to_the_goal():
  latents, action, _, goal = step()
  reward = rewards.reached(softness=0.3)
  value = lambda z: reward(PARAMS, latents, action, z, goal).reward
  at_radius = goal + jnp.sqrt(1 / 3)
  assert value(at_radius) == pytest.approx(0.5, abs=1e-6)
  np.testing.assert_array_less(jax.grad(value)(at_radius), 0.0)
  with pytest.raises(ValueError, match='softness must be at least 0, got -1'):
    rewards.reached(softness=-1)


def test_shaping_changes_returns_by_a_constant():
  """Returns of two ways to one end differ as they did: the order stays."""
  *_, goal = step()
  ways = jax.random.normal(jax.random.key(1), (2, 6, 3)) * 2
  # They start in one place and end in the goal, which is where phi is 0.
  ways = ways.at[:, 0].set(ways[0, 0]).at[:, -1].set(goal)
  ways = ways.at[1, 3].set(goal)  # The second arrives earlier.
  base, shaped = rewards.reached(), rewards.shaped(rewards.reached())

  def value(reward, way):
    total, weight = 0.0, 1.0
    for here, there in itertools.pairwise(way):
      given = reward(PARAMS, here, jnp.zeros(4), there, goal)
      total += weight * given.reward
      weight *= 0.9 * (1 - given.ends)
    return total

  phi = rewards.root_potential(PARAMS, ways[0, 0], goal)
  for way in ways:
    np.testing.assert_allclose(
      value(shaped, way), value(base, way) - phi, rtol=1e-5
    )
  assert value(shaped, ways[1]) > value(shaped, ways[0])


def test_heads_and_functions_say_what_a_step_is_worth():
  latents, action, after, goal = given = step(2, 5)
  params = PARAMS._replace(own={'scale': 2.0})
  distance = jnp.sum((after - goal) ** 2, axis=-1)

  def role(params, z, a, z1, g):
    return params['scale'] * (z[..., 0] + a[..., 0] + z1[..., 0] + g[..., 0])

  found = {
    'distance': rewards.negative_distance(),
    'cost': rewards.from_cost(
      lambda p, z, g: p['scale'] * jnp.sum(jnp.abs(z - g), -1)
    ),
    'role': rewards.from_role(role),
    'function': rewards.from_function(
      lambda *s: role({'scale': 1.0}, *s), ends_within_reach=False
    ),
  }
  found = {k: rewards.outcome(f, params, *given) for k, f in found.items()}
  total = latents[..., 0] + action[..., 0] + after[..., 0] + goal[..., 0]
  wanted = {
    'distance': -distance,
    'cost': -2 * jnp.sum(jnp.abs(after - goal), -1),
    'role': 2 * total,
    'function': total,
  }
  for name, reward in wanted.items():
    np.testing.assert_allclose(found[name].reward, reward, rtol=1e-5)
    ends = (distance < 1.0) & (name != 'function')
    np.testing.assert_array_equal(found[name].ends, ends)


def test_a_reward_of_another_shape_is_named():
  given = step(4)
  with pytest.raises(ValueError, match=r'reward must .* \[4\], got \[4, 3\]'):
    rewards.outcome(
      rewards.from_function(lambda z, a, z1, g: z - g), PARAMS, *given
    )
  with pytest.raises(ValueError, match=r'rewards.Outcome .* got ArrayImpl'):
    rewards.outcome(lambda p, z, a, z1, g: z[..., 0], PARAMS, *given)


@pytest.mark.parametrize(
  ('reward_fn', 'message'),
  [
    (lambda z, z1, g: 0, r'reward_fn .* \(params, latents, action, next_lat'),
    (rewards.from_function(lambda z, g: 0), r'function .* \(latents, action,'),
    (rewards.from_role(lambda z, g: 0), r'role .* \(params, latents, action'),
    (rewards.from_cost(lambda z, g: 0), r'cost_fn .* \(params, latents, goal'),
    (
      rewards.reached(distance_fn=lambda z, g: 0),
      r'distance_fn .* \(params, latents, goal\): .*takes 2',
    ),
    (
      rewards.shaped(rewards.reached(), lambda z, g: 0),
      r'potential_fn .* \(params, latents, goal\): .*takes 2',
    ),
  ],
)
def test_a_function_of_other_arguments_is_told_which(reward_fn, message):
  with pytest.raises(ValueError, match=message):
    rewards.outcome(reward_fn, PARAMS, *step(4))
