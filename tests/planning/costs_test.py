import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm import planning
from jepa_wm.planning import costs

ORACLES = {
  'squared': lambda x, y: np.sum((x - y) ** 2),
  'l1': lambda x, y: np.sum(np.abs(x - y)),
  'l2': lambda x, y: np.linalg.norm(x - y),
  'cosine': lambda x, y: 1 - x @ y / np.linalg.norm(x) / np.linalg.norm(y),
}


def draw(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_every_distance_has_an_oracle():
  assert planning.DISTANCES.keys() == ORACLES.keys()


@pytest.mark.parametrize('name', ORACLES)
@pytest.mark.parametrize('trailing', [(5,), (4, 5)])
def test_distances_read_everything_behind_the_candidates_as_one_vector(
  name, trailing
):
  latent, goal = draw(2, 3, *trailing), draw(2, 1, *trailing, seed=1)
  cost = planning.DISTANCES[name]({}, latent, None, goal)
  for b in range(2):
    for n in range(3):
      expected = ORACLES[name](latent[b, n].ravel(), goal[b, 0].ravel())
      np.testing.assert_allclose(cost[b, n], expected, rtol=1e-5)


@pytest.mark.parametrize('name', ORACLES)
def test_distances_of_half_precision_latents_are_float32(name):
  latent, goal = draw(1, 2, 300), draw(1, 1, 300, seed=1)
  half = [jnp.asarray(x, jnp.bfloat16) for x in (latent, goal)]
  cost = planning.DISTANCES[name]({}, half[0], None, half[1])
  assert cost.dtype == jnp.float32
  rounded = [np.asarray(x, np.float32) for x in half]
  expected = ORACLES[name](rounded[0][0, 1], rounded[1][0, 0])
  np.testing.assert_allclose(cost[0, 1], expected, rtol=1e-4)


@pytest.mark.parametrize('name', ORACLES)
def test_distances_refuse_a_goal_of_another_size(name):
  with pytest.raises(ValueError, match=r'\[5\] after .* got \[1\]'):
    planning.DISTANCES[name](
      {}, jnp.zeros((2, 3, 5)), None, jnp.zeros((2, 1, 1))
    )


@pytest.mark.parametrize('name', ORACLES)
def test_distances_have_a_finite_gradient_where_they_have_a_kink(name):
  def total(latent, goal):
    return jnp.sum(planning.DISTANCES[name]({}, latent, None, goal))

  ones, zeros = jnp.ones((1, 1, 4)), jnp.zeros((1, 1, 4))
  for latent, goal in ((ones, ones), (zeros, zeros), (zeros, ones)):
    assert np.all(np.isfinite(jax.grad(total)(latent, goal)))
  np.testing.assert_allclose(total(ones, ones), 0.0, atol=1e-6)


def test_nothing_points_nowhere():
  zeros, ones = jnp.zeros((1, 1, 4)), jnp.ones((1, 1, 4))
  np.testing.assert_array_equal(
    planning.cosine_distance({}, zeros, None, ones), 1.0
  )


def test_reading_picks_from_state_and_goal():
  latent, goal = draw(2, 3, 4), draw(2, 1, 4, seed=1)
  state = {'window': np.stack([0 * latent, latent], axis=2)}
  expected = planning.l1_distance({}, latent, None, goal)

  def newest(tree):
    return tree['window'][:, :, -1]

  alone = planning.reading(newest, planning.l1_distance)
  np.testing.assert_array_equal(alone({}, state, None, goal), expected)
  both = planning.reading(newest, planning.l1_distance, read_goal_fn=newest)
  goals = {'window': np.stack([0 * goal, goal], axis=2)}
  np.testing.assert_array_equal(both({}, state, None, goals), expected)


def test_terms_of_a_sum_see_the_same_and_count_as_they_weigh():
  def effort(params, state, action, goal):
    del state, goal
    return params * jnp.sum(action**2, axis=-1)

  cost_fn = planning.weighted_sum((2.0, planning.l2_distance), (0.5, effort))
  latent, goal, action = draw(2, 3, 4), draw(2, 1, 4, seed=1), draw(2, 3, 2)
  expected = 2.0 * np.linalg.norm(latent - goal, axis=-1)
  expected += 0.5 * 3.0 * np.sum(action**2, axis=-1)
  np.testing.assert_allclose(
    cost_fn(3.0, latent, action, goal), expected, rtol=1e-5
  )
  with pytest.raises(ValueError, match='at least one'):
    planning.weighted_sum()


def test_latent_and_proprioception_are_priced_part_by_part():
  cost_fn = planning.per_part(
    {'latent': planning.squared_distance, 'proprio': planning.l1_distance},
    {'proprio': 0.1},
  )
  state = {'latent': draw(2, 3, 4), 'proprio': draw(2, 3, 2), 'more': None}
  goal = {'latent': draw(2, 1, 4, seed=1), 'proprio': draw(2, 1, 2, seed=1)}
  expected = np.sum((state['latent'] - goal['latent']) ** 2, -1)
  expected += 0.1 * np.sum(np.abs(state['proprio'] - goal['proprio']), -1)
  np.testing.assert_allclose(
    cost_fn({}, state, None, goal), expected, rtol=1e-5
  )
  with pytest.raises(ValueError, match=r"goal must hold .*got \['latent'\]"):
    cost_fn({}, state, None, {'latent': goal['latent']})
  with pytest.raises(ValueError, match=r'state must hold .* got ndarray'):
    cost_fn({}, state['latent'], None, goal)


def test_parts_that_make_no_sense():
  with pytest.raises(ValueError, match='at least one part'):
    planning.per_part({})
  with pytest.raises(ValueError, match=r"one for \['propio'\]"):
    planning.per_part({'proprio': planning.l1_distance}, {'propio': 1.0})


@pytest.mark.parametrize(
  ('wrap', 'reduce'),
  [(planning.nearest_goal, np.min), (planning.mean_over_goals, np.mean)],
)
def test_of_several_goals(wrap, reduce):
  latent, goals = draw(2, 3, 4), draw(2, 1, 5, 4, seed=1)
  cost = wrap(planning.l2_distance)({}, latent, None, goals)
  expected = reduce(np.linalg.norm(latent[:, :, None] - goals, axis=-1), axis=2)
  np.testing.assert_allclose(cost, expected, rtol=1e-5)
  # Goals may be pytrees, and what wraps may be wrapped.
  parts = planning.per_part({'latent': planning.l2_distance})
  wrapped = wrap(parts)({}, {'latent': latent}, None, {'latent': goals})
  np.testing.assert_array_equal(wrapped, cost)


def test_several_goals_must_be_equally_many():
  cost_fn = planning.nearest_goal(planning.squared_distance)
  for goal in (draw(2, 1), {'a': draw(2, 1, 5, 4), 'b': draw(2, 1, 3, 4)}):
    with pytest.raises(ValueError, match=r'must be \[B, 1, M, ...\]'):
      cost_fn({}, draw(2, 3, 4), None, goal)


def test_step_weights_sum_to_one():
  np.testing.assert_array_equal(planning.step_weights(4), [0, 0, 0, 1])
  np.testing.assert_array_equal(planning.step_weights(4, 'all'), [0.25] * 4)
  np.testing.assert_allclose(
    planning.step_weights(4, 'linear'), [0.1, 0.2, 0.3, 0.4]
  )
  for kind in planning.STEP_WEIGHTS:
    weights = costs.step_weights(1, kind)
    np.testing.assert_array_equal(weights, [1.0])
    assert weights.dtype == np.float32


def test_step_weights_of_no_known_kind():
  with pytest.raises(ValueError, match="'last', 'all', 'linear', got 'first'"):
    planning.step_weights(4, 'first')
  with pytest.raises(ValueError, match='horizon must be at least 1, got 0'):
    planning.step_weights(0)
