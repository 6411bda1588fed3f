"""A head and its encoder, learnt as one."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_model

from jepa_wm import models
from jepa_wm.models import heads, joint

SIZES = heads.Sizes(
  latent_dim=3,
  action_dim=10,
  action_block=5,
  action_low=(-1.0,) * 10,
  action_high=(1.0,) * 10,
)
TERMS = {'prediction': {'gradient': 0.0}}


def model_of(**changes):
  predictor = {**small_model.CONFIG['predictor'], 'history': 1}
  config = {**small_model.CONFIG, 'predictor': predictor, 'terms': TERMS}
  return models.from_config(config | changes)


def head_of(name, **settings):
  settings = {'width': 8, 'depth': 1, **settings}
  return heads.from_config({'name': name, **settings}, SIZES)


def transitions(pixels, size=4):
  rng = np.random.default_rng(0)
  goal = lambda seed: {'goal': pixels(size, seed=seed)}
  return {
    'latents': pixels(size, 2),
    'action': jnp.asarray(rng.normal(size=(size, 1, 10)), jnp.float32),
    'value': goal(1) | {'reward': -jnp.ones(size), 'mask': jnp.ones(size)},
    'actor': goal(2),
  }


@pytest.fixture(scope='module')
def learner():
  return joint.Joint(model_of(), head_of('gcivl'))


@pytest.fixture(scope='module')
def variables(learner):
  return jax.jit(learner.init)(jax.random.key(0))


@pytest.fixture(scope='module')
def gradient_fn(learner, variables):
  """Gradients of the loss, the head's parameters times a number."""

  def loss(params, scale, batch):
    scaled = jax.tree.map(lambda x: scale * x, params['head'])
    params = {**params, 'head': scaled}
    return learner.losses(
      {**variables, 'params': params}, batch, jax.random.key(1)
    )

  gradient = jax.grad(lambda *args: loss(*args)[::2], has_aux=True)
  return jax.jit(
    lambda scale, batch: gradient(variables['params'], scale, batch)
  )


def sizes_of(gradient):
  parts = {'encoder': gradient['model']['encoder']}
  parts |= {x: gradient['model'][x] for x in ('projector', 'predictor')}
  parts['actor'] = gradient['head']['actor']
  largest = lambda tree: max(np.abs(x).max() for x in jax.tree.leaves(tree))
  return {name: largest(tree) for name, tree in parts.items()}


def test_the_head_alone_shapes_the_latents(gradient_fn):
  batch = transitions(small_model.pixels)
  gradient, stats = gradient_fn(1.0, batch)
  sizes = sizes_of(gradient)
  assert all(size > 0 for size in sizes.values()), sizes
  assert set(stats) == {'model', 'head'}
  # A head that looks at nothing asks nothing of the latents.
  gradient, _ = gradient_fn(0.0, batch)
  sizes = sizes_of(gradient)
  assert sizes['encoder'] == sizes['projector'] == 0 < sizes['predictor']


def test_goals_reach_the_encoder_too(gradient_fn):
  batch = transitions(small_model.pixels)
  other = {**batch, 'actor': {'goal': small_model.pixels(4, seed=9)}}
  one, two = (
    gradient_fn(1.0, x)[0]['model']['encoder'] for x in (batch, other)
  )
  apart = jax.tree.map(lambda a, b: np.abs(a - b).max(), one, two)
  assert max(jax.tree.leaves(apart)) > 0


def test_targets_follow_and_parts_are_whole(learner, variables):
  moved = jax.tree.map(lambda x: x + 1.0, variables['params'])
  after = learner.after_update({**variables, 'params': moved}, 0)
  kept = joint.part(after, 'head')['target']
  own = learner.head.after_update(
    {**joint.part(variables, 'head'), 'params': moved['head']}, 0
  )
  jax.tree.map(np.testing.assert_array_equal, kept, own['target'])
  saved = learner.for_inference(after)
  assert set(joint.part(saved, 'model')) == {'params', 'batch_stats'}
  assert set(joint.part(saved, 'head')) == {'params'}


def test_what_the_critic_sees_does_not_please_it():
  """Q improves the actor, and neither latents nor goals."""
  head = head_of('gciql', alpha=0.0)
  params = jax.jit(head.init)(jax.random.key(0))['params']
  still = {**params, 'actor': jax.tree.map(jnp.zeros_like, params['actor'])}
  loss = lambda latents: head._actor_loss(
    still, latents[:4], jnp.zeros((4, 10)), latents[4:]
  )[0]
  latents = jax.random.normal(jax.random.key(1), (8, 3))
  np.testing.assert_array_equal(jax.jit(jax.grad(loss))(latents), 0.0)


@pytest.mark.parametrize(
  ('model', 'name', 'message'),
  [
    ({}, 'decoder', "'decoder' learns on the latents of a trained encoder"),
    ({'target': {'name': 'frozen'}}, 'gcivl', "with the target 'frozen'"),
    (
      {'predictor': small_model.CONFIG['predictor']},
      'policy',
      'windows of 4 frames; set predictor.history=1',
    ),
  ],
)
def test_what_cannot_be_learnt_so_is_refused(model, name, message):
  sizes = dataclasses.replace(SIZES, image_size=16)
  settings = {'name': name}
  with pytest.raises(ValueError, match=message):
    joint.Joint(model_of(**model), heads.from_config(settings, sizes))
