import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy

from jepa_wm import sharding
from jepa_wm.training import optimizers
from jepa_wm.training import state as state_lib
from jepa_wm.training import step as step_lib

SETTINGS = optimizers.AdamW(
  num_steps=200, learning_rate=1e-2, warmup_fraction=0.0
)
OPTIMIZER = SETTINGS.transformation()


@functools.cache
def _compiled(model, num_devices):
  mesh = sharding.make_mesh(num_devices)
  state = state_lib.create(
    model,
    OPTIMIZER,
    jax.random.key(3),
    sharding=sharding.replicated(mesh),
  )
  train_step = step_lib.make_train_step(
    model,
    OPTIMIZER,
    mesh,
    action_statistics=toy.STATISTICS,
    schedule_fn=SETTINGS.metrics,
  )
  return mesh, state, train_step


def _start(model, num_devices=1):
  """The mesh, a fresh state that may be donated, and the step."""
  mesh, state, train_step = _compiled(model, num_devices)
  return mesh, jax.tree.map(jnp.copy, state), train_step


def test_one_step_is_gradient_of_the_normalised_batch():
  model = toy.ToyModel()
  mesh, state, train_step = _start(model)
  batch = next(toy.ToyBatches())
  before = jax.device_get((state.variables, state.opt_state))
  key = state.step_key()
  after, metrics = train_step(state, sharding.shard_batch(batch, mesh))

  # Blocks of two raw actions of two numbers.
  actions = (batch['action'] - [0.5, -1.0] * 2) / ([2.0, 0.25] * 2)
  batch = {**batch, 'action': jnp.asarray(actions, jnp.float32)}

  def loss_fn(params):
    losses = model.losses({**before[0], 'params': params}, batch, key)
    return losses.loss, losses.batch_stats

  (loss, batch_stats), gradient = jax.jit(
    jax.value_and_grad(loss_fn, has_aux=True)
  )(before[0]['params'])
  updates, _ = OPTIMIZER.update(gradient, before[1], before[0]['params'])
  expected = jax.tree.map(jnp.add, before[0]['params'], updates)
  close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
  jax.tree.map(close, after.variables['params'], expected)
  jax.tree.map(close, after.variables['batch_stats'], batch_stats)
  close(metrics['loss'], loss)
  norm = np.sqrt(sum(np.sum(np.square(g)) for g in jax.tree.leaves(gradient)))
  close(metrics['grad_norm'], norm)
  close(metrics['learning_rate'], 1e-2)
  assert metrics['finite'] and int(after.step) == 1


def test_state_is_donated_and_traced_once():
  traces = []

  class Counted(toy.ToyModel):
    def losses(self, *args):
      traces.append(args)
      return super().losses(*args)

  model = Counted(target='ema')
  mesh, state, train_step = _start(model, 8)
  batches = toy.ToyBatches()
  first = state
  for _ in range(3):
    state, _ = train_step(state, sharding.shard_batch(next(batches), mesh))
  assert all(leaf.is_deleted() for leaf in jax.tree.leaves(first))
  assert len(traces) == 1


def test_moving_average_follows_the_updated_encoder():
  model = toy.ToyModel(target='ema')
  mesh, state, train_step = _start(model)
  old = jax.device_get(state.variables['target']['kernel'])
  batch = sharding.shard_batch(next(toy.ToyBatches()), mesh)
  state, _ = train_step(state, batch)
  new = state.variables['params']['encoder']['kernel']
  np.testing.assert_allclose(
    state.variables['target']['kernel'], 0.9 * old + 0.1 * new, atol=1e-6
  )


def test_eight_devices_step_like_one():
  results = []
  for num_devices in (1, 8):
    mesh, state, train_step = _start(toy.ToyModel(target='ema'), num_devices)
    batches = toy.ToyBatches(batch_size=16)
    for _ in range(3):
      batch = sharding.shard_batch(next(batches), mesh)
      state, metrics = train_step(state, batch)
    results.append(jax.device_get((metrics, state.replace(rng_key=None))))
  one, eight = results
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5),
    one,
    eight,
  )


def test_loss_falls():
  mesh, state, train_step = _start(toy.ToyModel())
  batch = sharding.shard_batch(next(toy.ToyBatches()), mesh)
  losses = []
  for _ in range(200):
    state, metrics = train_step(state, batch)
    losses.append(float(metrics['loss']))
  assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize('where', ['action', 'params', 'batch_stats'])
def test_what_is_not_finite_is_flagged(where):
  mesh, state, train_step = _start(toy.ToyModel())
  batch = next(toy.ToyBatches())
  if where == 'action':
    batch['action'][0, 0, 0] = np.nan
  elif where == 'params':
    kernel = state.variables['params']['encoder']['kernel']
    state.variables['params']['encoder']['kernel'] = kernel.at[0, 0].set(np.inf)
  else:
    # The loss does not see it; evaluation would.
    mean = state.variables['batch_stats']['mean']
    state.variables['batch_stats']['mean'] = mean.at[0].set(np.nan)
  _, metrics = train_step(state, sharding.shard_batch(batch, mesh))
  assert not metrics['finite']


def test_pixels_are_augmented_by_a_key_of_their_own():
  model = toy.ToyModel()
  mesh, state, plain_step = _start(model)

  def augment_fn(rng_key, pixels):
    return jax.random.permutation(rng_key, pixels.reshape(-1)).reshape(
      pixels.shape
    )

  augmented_step = step_lib.make_train_step(
    model,
    OPTIMIZER,
    mesh,
    action_statistics=toy.STATISTICS,
    augment_fn=augment_fn,
  )
  batch = next(toy.ToyBatches())
  sharded = sharding.shard_batch(batch, mesh)
  augment_key, loss_key = jax.random.split(state.step_key())
  actions = toy.STATISTICS.normalize(jnp.asarray(batch['action']))
  pixels = augment_fn(augment_key, jnp.asarray(batch['observation']['pixels']))
  expected = jax.jit(model.losses)(
    state.variables,
    {'observation': {'pixels': pixels}, 'action': actions},
    loss_key,
  )
  copy = jax.tree.map(jnp.copy, state)
  _, metrics = augmented_step(copy, sharded)
  np.testing.assert_allclose(metrics['loss'], expected.loss, rtol=1e-5)
  _, plain = plain_step(state, sharded)
  assert abs(plain['loss'] - metrics['loss']) > 1e-3
