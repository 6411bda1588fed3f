"""Waypoints in a world of latents that move by what their actions add up to."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jepa_wm import planning
from jepa_wm.evaluation.planning import levels
from jepa_wm.models import heads
from jepa_wm.types import Root

D, A, STRIDE, COUNT = 2, 2, 3, 2
SIZES = heads.Sizes(latent_dim=D, action_dim=A)
SETTINGS = {
  'name': 'waypoints',
  'width': 32,
  'depth': 1,
  'macro_dim': 4,
  'stride': STRIDE,
  'min_stride': 1,
  'num_waypoints': COUNT,
  'num_recorded': 64,
}


def make_batch(seed, size=64):
  rng = np.random.default_rng(seed)
  # Blocks of a window lean the same way, as players do.
  lean = rng.uniform(-1, 1, (size, 1, A))
  action = lean + 0.1 * rng.normal(size=(size, STRIDE * COUNT, A))
  start = rng.normal(size=(size, 1, D))
  moved = np.concatenate([np.zeros_like(start), np.cumsum(action, 1)], axis=1)
  latents = (start + moved).astype(np.float32)
  return {'latents': latents, 'action': action.astype(np.float32)}


@pytest.fixture(scope='module')
def head():
  return heads.from_config(SETTINGS, SIZES)


@pytest.fixture(scope='module')
def trained(head):
  """Variables after 300 steps, and the share of the way that is left to err."""
  optimizer = optax.adam(3e-3)

  def update(carry, batch):
    variables, state = carry
    rng_key = jax.random.key(jnp.int32(1e6 * batch['action'][0, 0, 0]))

    def loss(params):
      found = head.losses({**variables, 'params': params}, batch, rng_key)
      return found.loss, found

    grads, found = jax.grad(loss, has_aux=True)(variables['params'])
    updates, state = optimizer.update(grads, state)
    params = optax.apply_updates(variables['params'], updates)
    kept = {'params': params, 'batch_stats': found.batch_stats}
    return (kept, state), found.metrics['share_of_moved']

  variables = head.init(jax.random.key(0))
  batches = jax.tree.map(
    lambda *x: np.stack(x), *[make_batch(number) for number in range(300)]
  )
  start = variables, optimizer.init(variables['params'])
  (variables, _), shares = jax.jit(
    lambda start, batches: jax.lax.scan(update, start, batches)
  )(start, batches)
  return variables, shares[-1]


def test_it_learns_where_macro_actions_lead(head, trained):
  variables, share = trained
  assert share < 0.25
  # A macro-action that is a block long leads as far as the block.
  blocks = jnp.zeros((1, STRIDE, A)).at[:, 0].set(0.7)
  for number, moved in ((1, 0.7), (STRIDE, 0.7)):
    macro = head.encode(variables, blocks, jnp.array([number]))
    led_to = head.step(variables, macro, jnp.zeros((1, D)))
    np.testing.assert_allclose(led_to, [[moved] * D], atol=0.5)


def test_blocks_beyond_the_number_count_nothing(head, trained):
  variables, _ = trained
  blocks = jax.random.normal(jax.random.key(1), (5, STRIDE, A))
  other = blocks.at[:, 1:].set(9.0)
  one = head.encode(variables, blocks, jnp.ones(5))
  np.testing.assert_array_equal(one, head.encode(variables, other, jnp.ones(5)))
  assert np.abs(one - head.encode(variables, other, jnp.full(5, 2))).max() > 0.1
  # LayerNorm without a scale: all are of one length.
  np.testing.assert_allclose(jnp.square(one).mean(-1), 1.0, rtol=1e-3)


def test_it_keeps_what_was_played_last(head, trained):
  variables, _ = trained
  batch = make_batch(299)
  kept = variables['batch_stats']['blocks']
  wanted = batch['action'].reshape(-1, COUNT, STRIDE, A)
  np.testing.assert_array_equal(kept, wanted)
  number = jnp.full(kept.shape[:2], STRIDE)
  np.testing.assert_array_equal(
    head.recorded(variables), head.encode(variables, kept, number)
  )
  saved = head.for_inference(variables)
  assert set(saved) == {'params', 'batch_stats'}


def test_a_planner_below_goes_where_it_says(head, trained):
  variables, _ = trained
  level = head.roles.level
  upper = levels.Upper(
    'toy',
    lambda *x: level.step(variables, *x),
    lambda: level.recorded(variables),
    level.macro_dim,
    level.stride,
    horizon=COUNT,
  )
  low = planning.BoundPlanner(
    planner=planning.CEM(num_samples=32, num_elites=4, num_iterations=3),
    dynamics_fn=lambda params, rng_key, action, state: state + action,
    cost_fn=planning.squared_distance,
    horizon=2,
    action_dim=A,
  )
  price = lambda latents, goal: jnp.sum(jnp.square(latents - goal), axis=-1)
  both = upper.over(low, price_fn=price, read_fn=lambda x: x, latent_dim=D)
  root = Root(jnp.zeros((4, D)), 5.0 * jnp.ones((4, D)))
  plan, _ = jax.jit(
    lambda: both.plan(
      {},
      jax.random.split(jax.random.key(0), 4),
      root,
      both.first(4),
      planning.Clock(0, 9),
    )
  )()
  # On the way, as far as three blocks lead.
  assert ((plan.subgoal.goal > 1.0) & (plan.subgoal.goal < 4.5)).all()
  np.testing.assert_allclose(plan.actions.sum(1), plan.subgoal.goal, atol=0.8)


@pytest.mark.parametrize(
  ('given', 'message'),
  [
    ({'min_stride': 9}, 'min_stride must be at most'),
    ({'macro_dim': 0}, 'macro_dim'),
  ],
)
def test_settings_out_of_range_are_refused(given, message):
  with pytest.raises(ValueError, match=message):
    heads.from_config({**SETTINGS, **given}, SIZES)
  with pytest.raises(ValueError, match='without any'):
    heads.from_config(SETTINGS, heads.Sizes(latent_dim=D))
