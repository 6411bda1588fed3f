import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm.networks import recurrent


def sigmoid(x):
  return 1 / (1 + np.exp(-x))


def gru(params, hidden, inputs):
  """PyTorch's formula of the cell, plainly."""
  dense = lambda name, x: (
    x @ params[name]['kernel']
    + params[name].get('bias', np.zeros(1)).reshape(1, -1)
  )
  reset = sigmoid(dense('ir', inputs) + dense('hr', hidden))
  update = sigmoid(dense('iz', inputs) + dense('hz', hidden))
  fresh = np.tanh(dense('in', inputs) + reset * dense('hn', hidden))
  return (1 - update) * fresh + update * hidden


@pytest.fixture(scope='module')
def windows():
  rng = np.random.default_rng(3)
  return (
    rng.normal(size=(2, 6, 4)).astype(np.float32),
    rng.normal(size=(2, 6, 3)).astype(np.float32),
  )


@pytest.mark.parametrize('memory_dim', [0, 5])
def test_the_hidden_state_is_the_latent_and_what_is_carried(
  windows, fill, memory_dim
):
  latents, conditions = (x[:, :3] for x in windows)
  module = recurrent.RecurrentPredictor(history=3, memory_dim=memory_dim)
  variables = fill(module, latents, conditions)
  params = jax.tree.map(np.asarray, variables['params']['cell'])
  tokens, _ = jax.jit(module.apply)(variables, latents, conditions)
  assert tokens.shape == (2, 3, 4 + memory_dim)
  carried = np.zeros((2, memory_dim))
  for t in range(3):
    hidden = np.concatenate([latents[:, t], carried], axis=-1)
    hidden = gru(params, hidden, conditions[:, t])
    np.testing.assert_allclose(tokens[:, t], hidden, rtol=1e-4, atol=1e-5)
    carried = hidden[:, 4:]


def test_memory_alone_lets_the_past_in(windows, fill):
  latents, conditions = (x[:, :3] for x in windows)
  moved = latents.copy()
  moved[:, 0] += 1
  for memory_dim in (0, 5):
    module = recurrent.RecurrentPredictor(history=3, memory_dim=memory_dim)
    variables = fill(module, latents, conditions)
    before, _ = module.apply(variables, latents, conditions)
    after, _ = module.apply(variables, moved, conditions)
    change = np.abs(after - before).max((0, 2))
    assert change[0] > 1e-3
    assert (change[1:] > 1e-4).all() == (memory_dim > 0)


def test_what_is_carried_outlives_a_window(windows, fill):
  latents, conditions = windows
  module = recurrent.RecurrentPredictor(history=3, memory_dim=5)
  variables = fill(module, latents[:, :3], conditions[:, :3])
  params = jax.tree.map(np.asarray, variables['params']['cell'])
  method = lambda name: jax.jit(
    lambda *args: module.apply(variables, *args, method=name)
  )
  start, absorb = method('start'), method('absorb')
  state = start(latents[:, :1], conditions[:, :0])
  carried = np.zeros((2, 5))
  for t in range(1, 6):
    hidden = np.concatenate([latents[:, t - 1], carried], axis=-1)
    carried = gru(params, hidden, conditions[:, t - 1])[:, 4:]
    state = absorb(state, conditions[:, t - 1], latents[:, t])
    np.testing.assert_array_equal(module.read(state), latents[:, t])
    np.testing.assert_allclose(state.memory, carried, rtol=1e-4, atol=1e-5)
    if t == 2:
      fresh = start(latents[:, :3], conditions[:, :2])
      np.testing.assert_allclose(state.memory, fresh.memory, atol=1e-6)
  ended = module.apply(
    variables,
    state,
    conditions[:, 5],
    lambda newest, outputs: outputs[..., :4],
    method='advance',
  )
  hidden = np.concatenate([latents[:, 5], carried], axis=-1)
  hidden = gru(params, hidden, conditions[:, 5])
  np.testing.assert_allclose(ended.newest, hidden[:, :4], rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(ended.memory, hidden[:, 4:], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_any_leading_axes_and_low_precision(windows, fill):
  latents, conditions = (x[:, :2] for x in windows)
  module = recurrent.RecurrentPredictor(history=2, memory_dim=2)
  variables = fill(module, latents, conditions)
  tokens, _ = module.apply(variables, latents, conditions)
  many, _ = module.apply(
    variables, latents[None, :, None], conditions[None, :, None]
  )
  np.testing.assert_allclose(many[0, :, 0], tokens, atol=1e-6)
  low = recurrent.RecurrentPredictor(2, memory_dim=2, dtype=jnp.bfloat16)
  rounded, _ = low.apply(variables, latents, conditions)
  assert rounded.dtype == jnp.bfloat16
  np.testing.assert_allclose(
    rounded.astype(jnp.float32), tokens, rtol=0.1, atol=0.05
  )


def test_doors(rng_key):
  module = recurrent.RecurrentPredictor(history=2)
  with pytest.raises(ValueError, match=r'a window of 3 .*history=2'):
    module.init(rng_key, jnp.zeros((1, 3, 4)), jnp.zeros((1, 3, 2)))
  with pytest.raises(ValueError, match='conditions must be as many as latents'):
    module.init(rng_key, jnp.zeros((1, 2, 4)), jnp.zeros((1, 1, 2)))
