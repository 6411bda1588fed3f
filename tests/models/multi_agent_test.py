"""A model of several agents: its terms, and another number of agents."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from jepa_wm import exports, fields, groups, models, units

CONFIG = {
  'name': 'multi_agent',
  'action_block': 3,
  'token_dim': 4,
  'encoder': tiny.CONFIG['encoder'],
  'projector': {'hidden_dim': 5},
  'actions': {'features': 4},
  'predictor': {
    **tiny.CONFIG['predictor'],
    'head_dim': 16,
    'num_hubs': 2,
    'pool': 4,
  },
  'terms': {
    'prediction': {},
    'agent_sigreg': {'num_projections': 8},
    'temporal_similarity': {'weight': 1.0},
  },
}
UNITS = units.ActionStatistics(
  np.array([0.0, 1.0, 2.0, 3.0], np.float32), np.ones(4, np.float32)
)


def build(**changes):
  return models.from_config({**CONFIG, **changes})


@pytest.fixture(scope='module')
def pair():
  """A model of two agents, as after some training, in pooled units."""
  model = build()
  return exports.WorldModel(model, tiny.start(model), UNITS.of_agents(2, 2))


def test_terms_are_of_agents_together_and_of_the_scene(pair):
  model = pair.model
  assert model.token_grid == (3, 1) and model.latent_dim == 12
  batch = tiny.batch(num_frames=4)
  batch['action'] = np.tile(batch['action'], 2)
  losses, grads = tiny.gradient(model, pair.params, batch, jax.random.key(0))
  names = 'prediction_loss', 'agent_sigreg', 'scene_sigreg'
  assert {*losses.values} == {*names, 'temporal_similarity'}
  weights = losses.weights
  total = sum(weights[name] * losses.values[name] for name in weights)
  np.testing.assert_allclose(losses.loss, total, rtol=1e-5)
  assert all(np.abs(x).max() > 0 for x in jax.tree.leaves(grads['encoder']))
  # One encoder of all views, whoever it is: G + 1 tokens of the same variables.
  latents = losses.latents.reshape(8, 4, 3, 4)
  assert np.abs(latents[:, :, 0] - latents[:, :, 1]).max() > 1e-3


def test_variables_serve_any_number_of_agents(pair):
  """With nobody new to be seen, agents of two are those of four."""
  group = groups.with_agents(pair, 4)
  assert group.model.num_agents == 4 and group.action_dim == 24
  shapes = exports.inference_shapes(group.model)
  assert jax.tree.map(jnp.shape, shapes) == jax.tree.map(
    jnp.shape, pair.model.for_inference(pair.params)
  )
  np.testing.assert_allclose(group.units.mean, [1.0, 2.0] * 4)
  np.testing.assert_allclose(group.units.std, [2**0.5] * 8)

  def step(latents, action):
    state = group.start_from(group.params, latents)
    return group.latent(group.dynamics(group.params, None, action, state))

  assert jax.eval_shape(
    step, jnp.ones((2, 1, 20)), jnp.ones((2, 24))
  ).shape == (
    2,
    20,
  )
  assert groups.with_agents(group, 2).model == pair.model


def test_costs_of_agents_add_up_and_leave_the_scene_out(pair):
  model = pair.model
  latents, goal = jnp.arange(24.0).reshape(2, 12), jnp.zeros((1, 12))
  found = model.agent_costs(latents, goal)
  squares = np.square(np.arange(24.0)).reshape(2, 3, 4).sum(-1)
  np.testing.assert_allclose(found, squares[:, :2])
  np.testing.assert_allclose(model.distance(latents, goal), found.sum(-1))
  lewm = tiny.build()
  assert lewm.num_agents == 1
  assert lewm.agent_costs(latents[:, :4], goal[:, :4]).shape == (2, 1)


def test_actions_are_each_agents_own(pair):
  """The block is step by step, and the joint action agent by agent."""
  model = pair.model
  encode = lambda actions: model.networks.apply(
    pair.params, actions, method='_encoded'
  )
  actions = np.random.default_rng(0).normal(size=(3, 2, 2)).astype(np.float32)
  found = encode(actions.reshape(-1)).reshape(2, -1)
  swapped = encode(actions[:, ::-1].reshape(-1)).reshape(2, -1)
  np.testing.assert_allclose(found[::-1], swapped, rtol=1e-5)
  other = actions.copy()
  other[:, 1] += 1
  np.testing.assert_allclose(
    encode(other.reshape(-1)).reshape(2, -1)[0], found[0]
  )


def test_what_does_not_fit_is_refused_in_a_sentence(pair):
  refused = lambda match: pytest.raises(ValueError, match=match)
  with refused('num_agents=5 are more than the 4'):
    groups.with_agents(pair, 5)
  for number in (0, 2.5):
    with refused(f'num_agents must be an integer of 1 to 8, got {number}'):
      groups.with_agents(pair, number)
  with refused("'lewm' has the actions of one agent"):
    groups.with_agents(dataclasses.replace(pair, model=tiny.build()), 2)
  with refused(r'action: expected size 12 \(3 raw actions of 4\), got 18'):
    pair.dynamics(pair.params, None, jnp.zeros((1, 18)), None)
  with refused('num_agents=2 must share evenly'):
    build(action_dim=3)
  with refused("predictor must be 'hubs'"):
    build(predictor=tiny.CONFIG['predictor'] | {'name': 'causal'})
  with refused('The term policy reads a latent as a whole'):
    build(terms={**CONFIG['terms'], 'policy': {}})
  with refused('agent_sigreg needs a latent that is a token'):
    lewm = tiny.build(terms=CONFIG['terms'])
    jax.eval_shape(
      lewm.losses, tiny.start(lewm), tiny.batch(3), jax.random.key(0)
    )
  with refused('takes a token of each agent and one of the scene, got 1'):
    tiny.build(predictor=fields.to_dict(build().config)['predictor'])
