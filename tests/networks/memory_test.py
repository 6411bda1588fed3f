"""A predictor whose memory has one size and outlives its window."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm import planning
from jepa_wm.models import jepa, modules, targets
from jepa_wm.networks import states
from jepa_wm.objectives import prediction
from jepa_wm.types import ActionSpec, Root


class LinearAttention(nn.Module):
  """Sums keys times values over all that it has seen, for ever."""

  history: int = 2

  def setup(self):
    self.projections = nn.Dense(3 * 4, use_bias=False, name='projections')
    self.out = nn.Dense(4, use_bias=False, name='out')

  def _see(self, memory, latent, condition):
    joint = jnp.concatenate([latent, condition], axis=-1)
    projected = nn.tanh(self.projections(joint)) / 2
    query, key, value = jnp.split(projected, 3, axis=-1)
    memory = memory + key[..., :, None] * value[..., None, :]
    return memory, self.out(jnp.einsum('...k,...kv->...v', query, memory))

  def __call__(self, latents, conditions, *, train=False):
    memory = jnp.zeros((*latents.shape[:-2], 4, 4))
    outputs = []
    for t in range(latents.shape[-2]):
      memory, output = self._see(
        memory, latents[..., t, :], conditions[..., t, :]
      )
      outputs.append(output)
    return jnp.stack(outputs, axis=-2), memory

  def start(self, latents, conditions, *, grows=False):
    del grows  # Its memory has one size.
    memory = jnp.zeros((*latents.shape[:-2], 4, 4))
    if conditions.shape[-2]:
      _, memory = self(latents[..., :-1, :], conditions)
    return {'newest': latents[..., -1, :], 'memory': memory}

  def advance(self, state, condition, readout_fn):
    memory, output = self._see(state['memory'], state['newest'], condition)
    return {'newest': readout_fn(state['newest'], output), 'memory': memory}

  def absorb(self, state, condition, latent):
    return self.advance(state, condition, lambda newest, output: latent)

  @nn.nowrap
  def read(self, state):
    return state['newest']


def make():
  encoder = states.StateConfig(key='proprio', dim=4, features=4, num_hidden=0)
  return jepa.Jepa(
    config=None,
    encoder=encoder,
    networks=modules.Networks(
      encoder=encoder.build(jnp.float32),
      predictor=LinearAttention(),
      predicts_change=True,
    ),
    latent_dim=4,
    action_spec=ActionSpec(2, 1),
    terms=(prediction.NextLatent(steps=2),),
    target=targets.Shared(),
  )


def test_a_state_has_one_size_and_remembers_more_than_a_window():
  model = make()
  variables = jax.jit(model.init)(jax.random.key(0))
  draw = np.random.default_rng(0)
  actions = jnp.asarray(draw.normal(size=(3, 7, 2)), jnp.float32)

  def play(first, actions):
    state = model.start(variables, first[:, None], actions[:, :0])
    shapes = jax.tree.map(jnp.shape, state)
    for t in range(actions.shape[1]):
      state = model.advance(variables, state, actions[:, t])
      assert jax.tree.map(jnp.shape, state) == shapes
    return state

  ended = play(jnp.ones((3, 4)), actions)
  # By hand: one pass over latents that came, however long.
  networks = model.networks.bind(variables)
  latent, memory = jnp.ones((3, 4)), jnp.zeros((3, 4, 4))
  for t in range(7):
    memory, output = networks.predictor._see(memory, latent, actions[:, t])
    latent = latent + output
  np.testing.assert_allclose(model.read(ended), latent, rtol=1e-5)
  # What was done first still counts, five steps after it left a window of 2.
  other = actions.at[:, 0].add(1.0)
  apart = play(jnp.ones((3, 4)), other)['memory'] - ended['memory']
  assert float(jnp.abs(apart).min(axis=0).max()) > 1e-4


def test_it_learns_and_is_planned_with():
  model = make()
  variables = jax.jit(model.init)(jax.random.key(0))
  draw = np.random.default_rng(1)
  batch = {
    'observation': {'proprio': draw.normal(size=(5, 6, 4)).astype(np.float32)},
    'action': draw.normal(size=(5, 5, 2)).astype(np.float32),
  }
  loss = lambda params: (
    model.losses({**variables, 'params': params}, batch, jax.random.key(1)).loss
  )
  gradient = jax.grad(loss)(variables['params'])
  assert all(float(jnp.abs(x).max()) > 0 for x in jax.tree.leaves(gradient))
  latents = model.encode(variables, batch['observation'])
  root = Root(
    model.start(variables, latents[:, :2], batch['action'][:, :1]),
    latents[:, -1],
  )
  plan = planning.cem_plan(
    variables,
    jax.random.key(0),
    root,
    lambda params, rng_key, action, state: model.advance(params, state, action),
    lambda params, state, action, goal: model.distance(model.read(state), goal),
    horizon=4,
    action_dim=2,
    num_samples=8,
    num_elites=2,
    num_iterations=2,
  )
  assert plan.actions.shape == (5, 4, 2)
