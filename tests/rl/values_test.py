"""Values of what was played, and a model whose planners look for them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_model

import jepa_wm
from jepa_wm import exports, rl
from jepa_wm.data import episodes
from jepa_wm.data import replay as replay_lib
from jepa_wm.models import heads

SMALL = {'width': 8, 'depth': 1}


@pytest.fixture(scope='module')
def model():
  return small_model.make(jepa_wm.WorldModel, history=1)


@pytest.fixture(scope='module')
def values(model):
  return make(model, 'gcivl')


def make(model, name, **settings):
  sizes = exports.head_sizes(model, -1.0, 1.0)
  head = heads.from_config({'name': name, **SMALL, **settings}, sizes)
  return rl.Values(head, num_steps=3, batch_size=8, seed=1)


@pytest.fixture(scope='module')
def table(tmp_path_factory):
  replay = replay_lib.Replay(tmp_path_factory.mktemp('values') / 'replay')
  rng = np.random.default_rng(0)
  for number in range(3):
    seen = np.asarray(small_model.pixels(21, seed=number))
    action = rng.uniform(-1, 1, (20, 2)).astype(np.float32)
    columns = {'observation/pixels': seen, 'action': action}
    replay.append(episodes.Episode(columns=columns))
  return replay.table()


def test_a_value_depends_on_model_episodes_and_seed_alone(model, values, table):
  first = values.learn(model, table)
  count = lambda: (
    values._train_step._cache_size(),
    values._encode._cache_size(),
  )
  compiled, again = count(), values.learn(model, table)
  jax.tree.map(np.testing.assert_array_equal, first, again)
  fresh = values.head.init(jax.random.key(0))['params']
  assert jax.tree.structure(first['params']) == jax.tree.structure(fresh)
  params = jax.tree.map(lambda x: 1.5 * x, model.params)
  other = values.learn(dataclasses.replace(model, params=params), table)
  leaves = zip(*map(jax.tree.leaves, (first, other)), strict=True)
  assert any(np.any(one != two) for one, two in leaves)
  assert count() == compiled


def test_planners_of_a_valued_model_look_for_its_value(model, values):
  learnt = values.head.for_inference(values.head.init(jax.random.key(2)))
  valued = values.valued(model, learnt)
  latents = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 3)))
  state = valued.start_from(valued.params, latents[0][:, None])
  found = valued.cost(valued.params, state, None, latents[1])
  expected = values.head.cost(learnt, latents[0], latents[1])
  np.testing.assert_allclose(found, expected, rtol=1e-5)
  # Programs are shared by other values of the head, and by no other model.
  later = values.valued(model, jax.tree.map(jnp.zeros_like, learnt))
  kinds = [jax.tree.structure(x) for x in (valued, later, model)]
  assert kinds[0] == kinds[1] != kinds[2]
  head = dataclasses.replace(
    values.head, config=dataclasses.replace(values.head.config, expectile=0.5)
  )
  other = dataclasses.replace(valued, head=head)
  assert jax.tree.structure(other) != kinds[0]


def test_what_learns_no_value_or_diverges_is_refused(model, values, table):
  with pytest.raises(ValueError, match="'policy' learns no value of goals"):
    make(model, 'policy')
  broken = jax.tree.map(lambda x: x * np.nan, model.params)
  with pytest.raises(FloatingPointError, match="'gcivl' diverged"):
    values.learn(dataclasses.replace(model, params=broken), table)
