import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm import planning
from jepa_wm.planning import constraints


def random_actions(*shape, scale=3.0):
  rng = np.random.default_rng(0)
  return scale * rng.normal(size=shape).astype(np.float32)


def test_a_box_moves_each_dimension_into_its_own_interval():
  bounds = planning.ActionBounds(np.array([-1.0, 2.0]), np.array([1.0, 3.0]))
  actions = jnp.array([[-5.0, 0.0], [0.5, 2.5], [5.0, 9.0]])
  expected = [[-1.0, 2.0], [0.5, 2.5], [1.0, 3.0]]
  np.testing.assert_array_equal(bounds.project(actions), expected)
  np.testing.assert_array_equal(bounds.project(actions[None])[0], expected)


@pytest.mark.parametrize('order', [2, float('inf')])
def test_a_ball_gives_the_nearest_action_in_it(order):
  center = np.float32([0.5, -1.0, 0.0])
  ball = planning.NormBall(1.5, center, order)
  actions = random_actions(64, 5, 3, scale=1.5)
  projected = np.asarray(ball.project(jnp.asarray(actions)))
  distance = np.linalg.norm(actions - center, order, axis=-1)
  assert 20 < np.sum(distance < 1.5) < 250
  inside = distance[..., None] <= 1.5
  np.testing.assert_array_equal(np.where(inside, actions, projected), projected)
  reached = np.linalg.norm(projected - center, order, axis=-1)
  assert np.all(reached <= 1.5 + 1e-6)
  # Nothing else in the ball is nearer: it is convex, so no angle is acute.
  others = center + random_actions(64, 5, 3, scale=0.3)
  others = np.asarray(ball.project(jnp.asarray(others)))
  angles = np.sum((actions - projected) * (others - projected), axis=-1)
  assert np.all(angles <= 1e-4)


def test_a_ball_has_a_gradient_everywhere():
  gradient = jax.grad(lambda a: jnp.sum(planning.NormBall(1.0).project(a)))
  assert np.all(np.isfinite(gradient(jnp.zeros((4, 2)))))


@pytest.mark.parametrize('previous', [None, np.nan, np.inf, 0.25])
def test_a_rate_limit_bounds_every_change_and_keeps_its_direction(previous):
  limit = np.float32([0.5, 1.0])
  actions = random_actions(2, 7, 6, 2)
  before = None if previous is None else np.full((2, 2), previous, np.float32)
  rate = planning.RateLimit(limit, before)
  limited = np.asarray(rate.project(jnp.asarray(actions)))
  assert np.all(np.abs(np.diff(limited, axis=2)) <= limit + 1e-5)
  if previous == 0.25:
    assert np.all(np.abs(limited[:, :, 0] - 0.25) <= limit + 1e-5)
  else:
    np.testing.assert_array_equal(limited[:, :, 0], actions[:, :, 0])
  moved, wanted = (
    np.diff(limited, axis=2),
    actions[:, :, 1:] - limited[:, :, :-1],
  )
  cross = moved[..., 0] * wanted[..., 1] - moved[..., 1] * wanted[..., 0]
  np.testing.assert_allclose(cross, 0.0, atol=1e-5)
  slow = 0.01 * np.cumsum(np.clip(actions, -1, 1), axis=2)
  if previous != 0.25:
    np.testing.assert_allclose(rate.project(jnp.asarray(slow)), slow, atol=1e-6)


def test_a_rate_limit_follows_what_was_played():
  rate = planning.RateLimit(0.5).following(jnp.array([[1.0, 1.0], [0.0, 0.0]]))
  limited = rate.project(jnp.zeros((2, 3, 4, 2)))
  np.testing.assert_allclose(limited[0, :, 0], 0.5)
  np.testing.assert_allclose(limited[0, :, 1:], 0.0)
  np.testing.assert_allclose(limited[1], 0.0)


def test_several_constraints_hold_together():
  several = (
    planning.ActionBounds(np.float32([0.6, -2.0]), np.float32([2.0, 2.0])),
    planning.RateLimit(0.2),
    planning.NormBall(1.0),
  )
  constraints.as_tuple(several, 2)
  actions = np.asarray(
    constraints.project(several, jnp.asarray(random_actions(3, 50, 6, 2)))
  )
  assert np.all(np.linalg.norm(actions, axis=-1) <= 1.0 + 1e-5)
  assert np.all(actions[..., 0] >= 0.6 - 5e-3)
  assert np.all(np.abs(np.diff(actions, axis=2)) <= 0.2 + 5e-3)


def test_raw_units_constrain_the_actions_within_a_block():
  block, raw_dim = 3, 2
  raw = planning.RawUnits(
    planning.RateLimit(0.5),
    to_raw=lambda a: 2.0 * a.reshape(*a.shape[:-1], block, raw_dim) + 1.0,
    from_raw=lambda a: (a.reshape(*a.shape[:-2], block * raw_dim) - 1.0) / 2.0,
    raw_dim=raw_dim,
  )
  (raw,) = constraints.as_tuple(raw, block * raw_dim)
  actions = jnp.asarray(random_actions(2, 4, 3, block * raw_dim))
  played = jnp.full((2, block * raw_dim), 3.0)
  projected = raw.following(played).project(actions)
  steps = 2.0 * np.asarray(projected).reshape(2, 4, 3 * block, raw_dim) + 1.0
  assert np.all(np.abs(np.diff(steps, axis=2)) <= 0.5 + 1e-5)
  assert np.all(np.abs(steps[:, :, 0] - 7.0) <= 0.5 + 1e-5)
  free = raw.project(actions)
  np.testing.assert_allclose(free[..., 0, :2], actions[..., 0, :2], atol=1e-6)


@pytest.mark.parametrize(
  ('constraint', 'message'),
  [
    (([-1.0], [1.0, 1.0]), r'low of ActionBounds .* 2 action .* shape \[1\]'),
    (([-1.0, -1.0], 1.0), r'high of ActionBounds .* shape \[\]'),
    (([-1.0, 1.0], [1.0, 1.0]), 'dimension 1 they are 1.0 and 1.0'),
    (([-1.0, np.nan], [1.0, 1.0]), 'dimension 1 they are nan'),
    (planning.NormBall(0.0), 'radius of NormBall must be positive, got 0.0'),
    (planning.NormBall(np.nan), 'radius of NormBall must be positive'),
    (planning.NormBall(1.0, order=1), r"must be 2 or float\('inf'\), got 1"),
    (planning.NormBall(1.0, np.zeros(3)), r'center of NormBall .* shape \[3\]'),
    (planning.RateLimit(-1.0), 'limit of RateLimit must be positive, got -1'),
    (planning.RateLimit(np.ones(3)), r'limit of RateLimit .* shape \[3\]'),
    ([0.5], 'must be an ActionBounds, .* got a float'),
    (
      [
        planning.ActionBounds(np.full(2, 2.0), np.full(2, 3.0)),
        planning.NormBall(1.0),
      ],
      'leave no action that satisfies all of them: ActionBounds is still',
    ),
  ],
)
def test_refuses_what_cannot_be_met(constraint, message):
  if isinstance(constraint, tuple):
    constraint = planning.ActionBounds(*map(np.asarray, constraint))
  with pytest.raises(ValueError, match=message):
    constraints.as_tuple(constraint, 2)
  with pytest.raises(ValueError, match=message):  # Also while tracing.
    jax.eval_shape(functools.partial(constraints.as_tuple, constraint, 2))


def test_bounds_may_be_computed_inside_a_program():
  @jax.jit
  def clip(low, high, actions):
    bounds = constraints.as_tuple(planning.ActionBounds(low, high), 2)
    return constraints.project(bounds, actions)

  clipped = clip(jnp.zeros(2), jnp.ones(2), jnp.array([[-1.0, 0.5]]))
  np.testing.assert_array_equal(clipped, [[0.0, 0.5]])
