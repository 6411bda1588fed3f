"""Agents, hubs and the simplex that tells agents apart."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm.networks import hub_attention, hubs, rotary, simplex

FIELDS = {
  'history': 2,
  'width': 16,
  'depth': 2,
  'num_heads': 2,
  'head_dim': 16,
  'mlp_dim': 8,
  'num_hubs': 2,
  'pool': 4,
  'dropout': 0.0,
}
FEATURES, CONDITION = 6, 3


def core(num_agents, **fields):
  return hubs.HubPredictor(**{**FIELDS, **fields}, num_agents=num_agents)


def group(draw, num_agents):
  """Two windows of two frames, and what each agent does in them."""
  frames = draw(2, 2, 9, FEATURES)
  actions = draw(2, 2, 8, CONDITION)
  return (
    np.concatenate([frames[:, :, :num_agents], frames[:, :, -1:]], axis=2),
    actions[:, :, :num_agents].reshape(2, 2, -1),
  )


@pytest.fixture(scope='module')
def variables(fill, draw):
  frames, actions = group(draw, 2)
  return fill(core(2), frames, (actions,))


@pytest.mark.parametrize('pool', [2, 4, 8])
def test_agents_of_a_pool_are_equally_far_apart(pool):
  rows = simplex.vertices(pool, 8)
  expected = np.full((pool, pool), -1 / (pool - 1))
  np.fill_diagonal(expected, 1.0)
  np.testing.assert_allclose(rows @ rows.T, expected, atol=1e-6)
  np.testing.assert_allclose(rows.sum(0), 0.0, atol=1e-6)


def test_one_agent_does_not_turn():
  assert not simplex.vertices(1, 4).any()


def test_a_pool_of_more_agents_than_pairs_is_refused():
  with pytest.raises(ValueError, match='take head_dim=36 or a pool of 8'):
    simplex.vertices(9, 8)
  with pytest.raises(ValueError, match='head_dim=64 or a pool of 8'):
    hubs.HubsConfig(head_dim=32, pool=16)


def test_products_of_heads_depend_on_who_and_how_long_ago(draw):
  """A query and a key turned alike are as they were."""
  heads = draw(3, 1, 16)
  rows = jnp.asarray(simplex.vertices(3, 4))
  turned = []
  for frame in (0, 5):
    by = simplex.rotation(jnp.array([frame]), rows, num_time_pairs=4)
    turned.append(rotary.rotate(jnp.asarray(heads), by))
  np.testing.assert_allclose(
    jnp.linalg.norm(turned[1], axis=-1),
    np.linalg.norm(heads, axis=-1),
    rtol=1e-5,
  )
  same = np.einsum('ahd,bhd->ab', turned[0], turned[0])
  later = np.einsum('ahd,bhd->ab', turned[1], turned[1])
  np.testing.assert_allclose(same, later, atol=1e-5)
  assert np.abs(same - np.einsum('ahd,bhd->ab', heads, heads)).max() > 0.1


def test_a_draw_has_distinct_agents_of_the_pool_in_any_order():
  drawn = np.asarray(simplex.draw(jax.random.key(0), (200,), 2, 4))
  assert (drawn[:, 0] != drawn[:, 1]).all()
  assert len({tuple(row) for row in drawn}) == 12


@pytest.mark.parametrize('fields', [{}, {'attention': 'dense'}])
def test_agents_permuted_have_their_predictions_permuted(
  variables, draw, fields
):
  """Each keeps its vertex: three in an order that training never had."""
  frames, actions = group(draw, 3)
  order = np.array([2, 0, 1])
  model = core(3, **fields)
  apply = jax.jit(
    lambda frames, actions, agents: model.apply(
      variables, frames, (actions,), agents=agents
    )[0]
  )
  plain = apply(frames, actions, np.arange(3))
  others = apply(
    frames[:, :, [*order, 3]],
    actions.reshape(2, 2, 3, -1)[:, :, order].reshape(2, 2, -1),
    order,
  )
  np.testing.assert_allclose(others, plain[:, :, [*order, 3]], atol=1e-5)
  assert np.abs(apply(frames, actions, order) - plain).max() > 1e-3


def seen(variables, draw, **fields):
  """Which tokens of frames the prediction for agent 0, frame 1 looks at."""
  frames, actions = group(draw, 3)
  model = core(3, **fields)

  def first(frames):
    out, _ = model.apply(variables, frames, (actions,))
    return jnp.sum(jnp.sin(out[:, 1, 0]))

  return np.abs(jax.jit(jax.grad(first))(frames)).max((0, -1)) > 0


def test_agents_meet_in_hubs_alone(variables, draw):
  """In one layer agent 0 sees itself; in two, by the hubs, everybody."""
  alone = np.zeros((2, 4), bool)
  alone[:, 0] = True
  np.testing.assert_array_equal(seen(variables, draw, depth=1), alone)
  assert seen(variables, draw).all()
  assert seen(variables, draw, depth=1, attention='dense').all()


def test_frames_are_causal(variables, draw):
  frames, actions = group(draw, 2)
  apply = jax.jit(lambda *given: core(2).apply(variables, *given)[0])
  whole = apply(frames, (actions,))
  first = apply(frames[:, :1], (actions[:, :1],))
  np.testing.assert_allclose(whole[:, :1], first, atol=1e-5)


def test_training_draws_who_the_agents_are(variables, draw):
  frames, actions = group(draw, 2)
  run = lambda key, train: core(2).apply(
    variables, frames, (actions,), train=train, rngs={'dropout': key}
  )[0]
  drawn = jax.jit(lambda key: run(key, True))
  one, other = (drawn(jax.random.key(seed)) for seed in (0, 1))
  assert np.abs(one - other).max() > 1e-3
  assert 'random' not in str(
    jax.make_jaxpr(run, static_argnums=1)(jax.random.key(0), False)
  )


def test_slots_are_of_their_number(fill, draw):
  frames, actions = group(draw, 2)
  model = core(2, identity='slots')
  variables = fill(model, frames, (actions,))
  assert variables['params']['slots'].shape == (4, 16)
  config = hubs.HubsConfig(**{**FIELDS, 'identity': 'slots'})
  with pytest.raises(ValueError, match='num_agents=5 are more than the 4'):
    config.build((6, 1), jnp.float32)


def test_costs_are_linear_in_agents(fill):
  """Operations of a block's attention, counted by the compiler."""

  def count(num_agents, kind):
    block = hub_attention.HubAttention(
      num_heads=2, head_dim=16, mlp_dim=8, num_agents=num_agents, num_hubs=2,
      kind=kind,
    )  # fmt: skip
    tokens = jnp.zeros((4, 2, num_agents + 3, 16))
    turn = rotary.Rotation(
      jnp.ones((2 * (num_agents + 3), 16)),
      jnp.zeros((2 * (num_agents + 3), 16)),
    )
    apply = lambda x: block.init_with_output(
      jax.random.key(0), x, past=None, rotation=turn
    )[0][0]
    found = jax.jit(apply).lower(tokens).cost_analysis()
    return found['flops']

  def growth(kind):
    four, eight, twelve = (count(n, kind) for n in (4, 8, 12))
    return (twelve - eight) / (eight - four)

  assert abs(growth('hubs') - 1) < 0.01
  assert growth('dense') > 1.1


def test_conditions_that_agents_cannot_share_are_refused(variables, draw):
  frames, actions = group(draw, 2)
  with pytest.raises(ValueError, match='those of 2 agents'):
    core(2).apply(variables, frames, (actions[..., :-1],))
