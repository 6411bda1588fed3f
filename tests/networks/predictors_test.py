import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm.networks import predictors


@pytest.fixture(scope='module')
def windows():
  keys = jax.random.split(jax.random.key(1))
  return (
    jax.random.normal(keys[0], (2, 3, 8)),
    jax.random.normal(keys[1], (2, 3, 6)),
  )


def make(**fields):
  defaults = {
    'width': 8,
    'history': 3,
    'depth': 2,
    'num_heads': 2,
    'head_dim': 4,
    'mlp_dim': 16,
  }
  return predictors.CausalPredictor(**{**defaults, **fields})


def shaken(module, windows):
  """Parameters none of which is zero, as after some training."""
  variables = jax.jit(module.init)(jax.random.key(0), *windows)
  leaves, treedef = jax.tree.flatten(variables)
  keys = jax.random.split(jax.random.key(2), len(leaves))
  return treedef.unflatten(
    [x + 0.3 * jax.random.normal(k, x.shape) for k, x in zip(keys, leaves)]
  )


def test_fresh_predictor_ignores_actions(rng_key, windows):
  latents, conditions = windows
  module = make()
  variables = jax.jit(module.init)(rng_key, *windows)
  inputs = latents + variables['params']['positions'][None]
  expected = inputs - inputs.mean(axis=-1, keepdims=True)
  expected /= jnp.sqrt(jnp.square(expected).mean(-1, keepdims=True) + 1e-5)
  for scale in (1, 100):
    np.testing.assert_allclose(
      module.apply(variables, latents, scale * conditions), expected, atol=1e-5
    )


def test_a_token_sees_the_past_alone(windows):
  latents, conditions = windows
  module = make()
  variables = shaken(module, windows)
  apply = jax.jit(module.apply)
  outputs = apply(variables, latents, conditions)
  for t in range(3):
    for which in range(2):
      changed = [latents, conditions]
      # One feature: LayerNorm would hide a shift of all of them.
      changed[which] = changed[which].at[:, t, 0].add(1)
      moved = np.abs(apply(variables, *changed) - outputs).max((0, 2))
      assert (moved[:t] < 1e-6).all() and (moved[t:] > 1e-3).all()
  for t in range(1, 3):
    shorter = apply(variables, latents[:, :t], conditions[:, :t])
    np.testing.assert_allclose(shorter, outputs[:, :t], atol=1e-5)


def test_any_leading_axes(windows):
  module = make()
  variables = shaken(module, windows)
  expected = module.apply(variables, *windows)
  one = module.apply(variables, *(x[1] for x in windows))
  np.testing.assert_allclose(one, expected[1], atol=1e-5)
  many = module.apply(variables, *(x[None, :, None] for x in windows))
  np.testing.assert_allclose(many[0, :, 0], expected, atol=1e-5)


def test_width_of_its_own(rng_key, windows):
  module = make(width=12)
  variables = jax.jit(module.init)(rng_key, *windows)
  assert variables['params']['input']['kernel'].shape == (8, 12)
  assert variables['params']['condition']['kernel'].shape == (6, 12)
  assert variables['params']['positions'].shape == (3, 8)
  assert module.apply(variables, *windows).shape == (2, 3, 12)


def test_action_encoder_is_linear_before_its_mlp(rng_key):
  module = predictors.ActionEncoder(features=6, smoothed_dim=3, hidden_dim=8)
  actions = jax.random.normal(rng_key, (2, 3, 4))
  variables = module.init(rng_key, actions)
  params = jax.tree.map(np.asarray, variables['params'])
  x = np.asarray(actions)
  for name in ('smoothing', 'hidden', 'out'):
    x = x @ params[name]['kernel'] + params[name]['bias'][None, None]
    if name == 'hidden':
      x = x / (1 + np.exp(-x))
  np.testing.assert_allclose(module.apply(variables, actions), x, atol=1e-5)


def test_doors(rng_key):
  module = make(history=2)
  with pytest.raises(ValueError, match='latents hold a window of 3 .*history=2'):
    module.init(rng_key, jnp.zeros((1, 3, 8)), jnp.zeros((1, 3, 8)))
  with pytest.raises(ValueError, match='latents and conditions must agree'):
    module.init(rng_key, jnp.zeros((1, 2, 8)), jnp.zeros((1, 1, 8)))
