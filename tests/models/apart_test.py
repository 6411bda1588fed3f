"""A head that reads where agents are off their tokens, and keeps them apart."""

import dataclasses

import acting
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm import planning
from jepa_wm.models import heads
from jepa_wm.types import Root

F = 4
SIZES = dataclasses.replace(
  acting.SIZES,
  latent_dim=3 * F,
  state_mean=(10.0, 20.0, 12.0, 22.0),
  state_std=(5.0,) * 4,
)
_MAP = np.random.default_rng(5).normal(size=(2, F)).astype(np.float32) / 5


def latents_of(places):
  """A token of each agent tells its place, and that of the scene nothing."""
  tokens = (np.asarray(places, np.float32) - [11.0, 21.0]) @ _MAP
  scene = np.zeros((*tokens.shape[:-2], 1, F))
  both = np.concatenate([tokens, scene], axis=-2)
  return both.reshape(*both.shape[:-2], -1).astype(np.float32)


def frames(rng, count=128):
  places = rng.normal(size=(count, 1, 2, 2)) * 5 + [11.0, 21.0]
  return {
    'latents': latents_of(places),
    'state': places.reshape(count, 1, 4).astype(np.float32),
    'margin': np.zeros((count, 1), np.float32),
  }


@pytest.fixture(scope='module')
def learnt():
  head = heads.from_config(
    {'name': 'apart', 'zone': 'apart:4', 'width': 32, 'depth': 0}, SIZES
  )
  return head, *acting.learn(head, frames, 400)


def test_reads_places_and_prices_the_nearest_two(learnt):
  head, params, metrics = learnt
  assert metrics['explained'] > 0.999
  # Four agents, where two were to learn of.
  places = np.array([[[0, 0], [30, 0], [0, 30], [0, 28]]], np.float32)
  latents = latents_of(places)

  @jax.jit
  def read(latents):
    price_fn = lambda x: head.roles.guardrail.price(params, x)
    slope = jax.grad(price_fn)(jnp.zeros(3 * F))
    return head.places(params, latents), price_fn(latents), slope

  found, price, slope = read(latents)
  np.testing.assert_allclose(found, places, atol=0.3)
  np.testing.assert_allclose(price, 1 - 2 / 4, atol=0.05)
  assert np.all(np.isfinite(slope))


def test_a_plan_keeps_agents_apart(learnt):
  """Two who are to change places walk round each other."""
  head, params, _ = learnt
  places = np.array([[[5, 21], [17, 21]]], np.float32)
  problem = planning.Problem(
    Root(jnp.asarray(places), jnp.asarray(places[:, ::-1])),
    lambda params, rng_key, action, state: (
      state + 3.0 * action.reshape(state.shape)
    ),
    lambda params, state, action, goal: jnp.sum((state - goal) ** 2, (-1, -2)),
    horizon=5,
    action_dim=4,
    step_weights=planning.step_weights(5, 'linear'),
  )

  def price(_, state, action, goal):
    middle = jnp.array([11.0, 21.0]).reshape(1, 1, 1, 2)
    tokens = (state - middle) @ _MAP
    scene = jnp.zeros_like(tokens[..., :1, :])
    both = jnp.concatenate([tokens, scene], axis=-2)
    return head.price(params, both.reshape(*both.shape[:-2], -1))

  @jax.jit
  def nearest(penalty):
    limits = planning.Limits(
      planning.ActionBounds(-jnp.ones(4), jnp.ones(4)),
      (planning.Guardrail(price, penalty=penalty),),
    )
    planner = planning.CEM(num_samples=128, num_elites=12, num_iterations=12)
    plan = planning.search(
      planner,
      None,
      jax.random.key(0),
      dataclasses.replace(problem, limits=limits),
    )
    path = places + 3.0 * jnp.cumsum(plan.actions.reshape(5, 2, 2), axis=0)
    ways = path[:, 0] - path[:, 1]
    return jnp.min(jnp.linalg.norm(ways, axis=-1)), plan.violation

  near, violation = nearest(0.0)
  kept, left = nearest(1e4)
  assert near < 3.0 < 3.7 < kept
  assert left[0] < 0.05 < violation[0]


@pytest.mark.parametrize(
  ('settings', 'says'),
  [
    ({'zone': 'pond'}, 'other zones are for the head safety'),
    ({'zone': 'apart:-1'}, 'a number above 0'),
    ({'num_agents': 1}, 'at least 2'),
    ({'num_agents': 4}, 'which a latent of 12 numbers has not'),
    ({'num_agents': 3}, 'a state of the data has 4 numbers'),
  ],
)
def test_what_is_no_distance_is_a_sentence(settings, says):
  with pytest.raises(ValueError, match=says):
    heads.from_config({'name': 'apart', **settings}, SIZES)
