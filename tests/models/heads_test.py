"""Heads learn from latents what they are for."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jepa_wm import planning
from jepa_wm.models import heads
from jepa_wm.types import Root

SIZES = heads.Sizes(
  latent_dim=2,
  action_dim=2,
  action_block=5,
  image_size=8,
  state_mean=(100.0,),
  state_std=(10.0,),
  action_low=(-2.0, -2.0),
  action_high=(2.0, 2.0),
)
TINY = {
  'inverse_dynamics': {'width': 32, 'depth': 1, 'horizons': (5, 10)},
  'policy': {'width': 32, 'depth': 1, 'num_proposals': 3},
  'actor_critic': {'width': 32, 'depth': 1, 'num_proposals': 3},
  'gcivl': {'width': 32, 'depth': 1},
  'gciql': {'width': 32, 'depth': 1},
  'temporal_distance': {'width': 32, 'depth': 1},
  'reward': {'width': 32, 'depth': 1},
  'decoder': {'channels': (8,), 'patch_size': 2},
  'probe': {},
}


def build(name):
  return heads.from_config({'name': name, **TINY[name]}, SIZES)


def frames(rng, count=64):
  """Latents in -1..1, their pictures (bright with the first) and states."""
  latents = rng.uniform(-1, 1, (count, 1, 2)).astype(np.float32)
  bright = np.uint8(127 + 100 * latents[..., :1])[..., None, None]
  return {
    'latents': latents,
    'observation': {'pixels': np.broadcast_to(bright, (count, 1, 8, 8, 3))},
    'state': 100.0 + 10.0 * latents[..., :1] - 5.0 * latents[..., 1:],
  }


def straight_lines(rng, count=64):
  """Latents that move by a tenth of the block; the goal is steps away."""
  start = rng.uniform(-1, 1, (count, 2)).astype(np.float32)
  action = rng.uniform(-2, 2, (count, 2)).astype(np.float32)
  steps = rng.integers(1, 3, count).astype(np.float32) * 5
  goal = start + 0.1 * action * steps[:, None] / 5
  return {
    'latents': np.stack([start, goal], axis=1),
    'action': action[:, None],
    'steps': steps,
  }


def learn(head, make_batch, num_steps=300):
  """Variables after some steps, and the share explained by them."""
  rng = np.random.default_rng(0)
  variables = jax.jit(head.init)(jax.random.key(0))
  optimizer = optax.adam(1e-2)
  state = optimizer.init(variables['params'])

  @jax.jit
  def step(params, state, batch):
    loss_fn = lambda params: head.losses(
      {**variables, 'params': params}, batch, jax.random.key(0)
    )[:2]
    gradient, metrics = jax.grad(loss_fn, has_aux=True)(params)
    updates, state = optimizer.update(gradient, state)
    return optax.apply_updates(params, updates), state, metrics

  params = variables['params']
  for _ in range(num_steps):
    params, state, metrics = step(params, state, make_batch(rng))
  variables = head.after_update({**variables, 'params': params}, 0)
  return head.for_inference(variables), float(metrics['explained'])


@pytest.fixture(scope='module')
def inverse_dynamics():
  head = build('inverse_dynamics')
  return head, *learn(head, straight_lines)


def test_inverse_dynamics_finds_the_action_of_every_distance(inverse_dynamics):
  head, params, explained = inverse_dynamics
  assert explained > 0.9
  latent, goal = jnp.zeros((1, 2)), jnp.full((1, 2), 0.1)
  soon, late = (
    head.act(params, latent, goal, jnp.full(1, steps)) for steps in (5.0, 10.0)
  )
  np.testing.assert_allclose(soon, 1.0, atol=0.3)
  np.testing.assert_allclose(late, 0.5, atol=0.3)


def line_world():
  def dynamics(params, rng_key, action, state):
    del params, rng_key
    return state + 0.1 * action

  def cost(params, state, action, goal):
    del params, action
    return jnp.sum(jnp.square(state - goal), axis=-1)

  return dynamics, cost


@pytest.mark.slow
def test_proposals_are_rolled_and_lower_the_cost(inverse_dynamics):
  head, params, _ = inverse_dynamics
  dynamics, cost = line_world()
  proposal_fn = head.roles.proposal(dynamics, lambda state: state, 2, params)
  goal = jnp.asarray([[0.25, -0.3], [-0.2, 0.2]])
  root = Root(jnp.zeros((2, 2)), goal)
  keys = jax.random.split(jax.random.key(0), 2)
  proposed = proposal_fn({}, keys, root)
  assert proposed.shape == (2, 2, 2, 2)
  # Ten steps to go: half of the way by the first block, the rest by the next.
  state = 0.1 * proposed[:, 1].sum(axis=1)
  np.testing.assert_allclose(state, goal, atol=0.1)

  def plan(proposal_fn):
    return planning.cem_plan(
      {},
      jax.random.key(1),
      root,
      dynamics,
      cost,
      horizon=2,
      action_dim=2,
      num_samples=8,
      num_elites=2,
      num_iterations=1,
      proposal_fn=proposal_fn,
    ).cost

  assert np.all(plan(proposal_fn) < 0.5 * plan(None))


def test_a_decoder_draws_what_a_latent_says():
  head = build('decoder')
  params, explained = learn(head, frames, 200)
  assert explained > 0.9
  dark, bright = head.roles.picture(params, jnp.array([[-0.9, 0.0], [0.9, 0]]))
  assert dark.dtype == jnp.uint8 and dark.shape == (8, 8, 3)
  assert dark.mean() < 80 and bright.mean() > 170


def test_a_probe_reads_the_state_in_its_unit():
  head = build('probe')
  params, explained = learn(head, frames)
  assert explained > 0.95
  read = head.roles.reading(params, jnp.array([[[0.5, 0.5]]]))
  np.testing.assert_allclose(read, [[[102.5]]], atol=1.0)


@pytest.mark.parametrize('name', TINY)
def test_every_head_is_found_by_name(name):
  assert name in heads.HEADS.names()
  head = build(name)
  kinds = {'decoder': 'picture', 'probe': 'reading', 'reward': 'reward'}
  kinds['temporal_distance'] = 'cost'
  kind = kinds.get(name, 'policy')
  assert getattr(head.roles, kind) is not None


@pytest.mark.parametrize(
  'name, sizes, message',
  [
    ('inverse_dynamics', heads.Sizes(latent_dim=2), 'without any'),
    ('decoder', heads.Sizes(latent_dim=2), 'image_size of the encoder is 0'),
    ('decoder', heads.Sizes(latent_dim=2, image_size=6), 'multiples of 4'),
    ('probe', heads.Sizes(latent_dim=2), 'the data has none'),
    ('policy', heads.Sizes(latent_dim=2), 'without any'),
    ('reward', heads.Sizes(latent_dim=2), 'without any'),
    ('policy', heads.Sizes(2, 2), 'must have 2 numbers each, got 0 and 0'),
  ],
)
def test_latents_that_a_head_cannot_read_are_refused(name, sizes, message):
  with pytest.raises(ValueError, match=message):
    heads.from_config({'name': name, **TINY[name]}, sizes)


def test_settings_that_make_no_sense_are_named():
  with pytest.raises(ValueError, match="Did you mean 'decoder'"):
    heads.from_config({'name': 'decodr'}, SIZES)
  with pytest.raises(ValueError, match='horizons must be positive'):
    heads.from_config({'name': 'inverse_dynamics', 'horizons': (0, 5)}, SIZES)
  with pytest.raises(ValueError, match=r'value_p_randomgoal must sum to 1'):
    heads.from_config({'name': 'gcivl', 'value_p_curgoal': 0.5}, SIZES)
  with pytest.raises(ValueError, match='actor_loss must be one of ddpgbc, awr'):
    heads.from_config({'name': 'gciql', 'actor_loss': 'sac'}, SIZES)
