"""Levels above a model, and planners under them, from Python."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_model

import jepa_wm
from jepa_wm import exports, hierarchy
from jepa_wm.models import heads

BLOCK = 5


@pytest.fixture(scope='module')
def model():
  return small_model.make(exports.WorldModel)


@pytest.fixture(scope='module')
def fingerprint(model):
  return exports.encoder_fingerprint(model)


def untrained(model, fingerprint, name, **settings):
  """A head of the model that has learnt nothing."""
  sizes = heads.Sizes(
    latent_dim=3, action_dim=model.action_dim, action_block=BLOCK
  )
  head = heads.from_config({'name': name, **settings}, sizes)
  params = head.for_inference(head.init(jax.random.key(0)))
  return exports.TrainedHead(head, params, 'small', fingerprint)


@pytest.fixture
def make(model, fingerprint):
  return functools.partial(untrained, model, fingerprint)


def waypoints(make, stride):
  small = {'width': 8, 'depth': 1, 'macro_dim': 4, 'num_recorded': 16}
  return make('waypoints', stride=stride, min_stride=1, **small)


def test_levels_are_models_in_the_same_latents(model, make):
  found = hierarchy.with_level(model, waypoints(make, 2))
  found = hierarchy.with_level(found, waypoints(make, 4))
  ground, middle, top = found.levels
  assert [x.stride for x in found.levels] == [BLOCK, 2 * BLOCK, 4 * BLOCK]
  assert ground.model is model.model and ground.params is found.params
  assert top.model.action_spec.size == 4 and top.units.mean.shape == (4,)
  latents, macros = jnp.ones((2, 1, 3)), jnp.ones((2, 4))
  head = found.above[0]
  state = middle.model.start(middle.params, latents, macros[:, :0])
  led_to = middle.model.advance(middle.params, state, macros)
  np.testing.assert_array_equal(
    middle.model.read(led_to),
    head.head.roles.level.step(head.params, macros, latents[:, 0]),
  )
  seen = {'pixels': small_model.pixels(2)}
  assert jax.eval_shape(top.model.encode, top.params, seen).shape == (2, 3)
  # Their parameters are leaves, as the model's are.
  doubled = jax.tree.map(lambda x: 2 * x, found)
  for one, other in zip(*map(jax.tree.leaves, (doubled.above, found.above))):
    np.testing.assert_array_equal(one, 2 * other)
  assert not model.above


def test_what_is_no_level_is_a_sentence(model, make):
  two = hierarchy.with_level(model, waypoints(make, 2))
  for stride in (2, 3):
    with pytest.raises(ValueError, match=f'spans {stride * BLOCK} .* below 10'):
      hierarchy.with_level(two, waypoints(make, stride))
  with pytest.raises(ValueError, match="'landmarks' knows no macro-actions"):
    hierarchy.with_level(model, make('landmarks'))
  other = dataclasses.replace(waypoints(make, 2), encoder_fingerprint='0' * 64)
  with pytest.raises(ValueError, match='the model has another'):
    hierarchy.with_level(model, other)
  plan = functools.partial(
    hierarchy.planner, model, jepa_wm.CEM(num_samples=8), horizon=2
  )
  with pytest.raises(ValueError, match='expected a head that says'):
    plan()
  with pytest.raises(ValueError, match='the model has another'):
    plan(above=[other])
  with pytest.raises(ValueError, match=r'landmarks spans 2 .*lowest first'):
    plan(above=[waypoints(make, 4), make('landmarks')])


def test_a_planner_under_a_head_goes_where_that_says(model, make):
  head = make('landmarks', num_landmarks=4, num_spare=0, num_near=1, stride=1)
  seen = {'pixels': small_model.pixels(2)}
  latents = jax.jit(model.encode)(model.params, seen)
  # The way to the second of them leads by two places.
  way = jnp.linspace(latents[0], latents[1], 4)
  params = jax.jit(head.head.remember)(head.params, way)
  planner = hierarchy.planner(
    model,
    jepa_wm.CEM(num_samples=8, num_elites=2, num_iterations=1),
    horizon=2,
    above=[dataclasses.replace(head, params=params)],
    every=2,
  )
  goals = jnp.stack([latents[1], latents[1]])
  plan = planner(jax.random.key(0), seen, goals)
  wanted = np.stack([way[1], way[3]])
  np.testing.assert_allclose(plan.subgoal.goal, wanted, atol=1e-6)
  # A loop of one's own keeps the subgoal as long as it is told to.
  moved = jax.tree.map(lambda x: x[::-1], seen)
  left = planner.shift(plan, 1)
  later = planner(jax.random.key(1), moved, goals, warm_start=left)
  np.testing.assert_allclose(later.subgoal.goal, wanted, atol=1e-6)
  assert planner.num_programs == 1
