import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm.networks import predictors


@pytest.fixture(scope='module')
def windows(draw):
  both = draw(2, 3, 14)
  return both[..., :8], both[..., 8:]


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


@pytest.fixture(scope='module')
def trained(windows, fill):
  """A predictor with all its parameters at work."""
  module = make()
  return jax.jit(module.apply), fill(module, *windows)


def test_without_modulation_actions_do_nothing(windows, trained):
  latents, conditions = windows
  apply, variables = trained
  # As at the start of training, see transformer_test.
  variables = jax.tree_util.tree_map_with_path(
    lambda path, x: np.zeros_like(x) if 'modulation' in str(path) else x,
    variables,
  )
  params = jax.tree.map(np.asarray, variables['params'])
  x = np.asarray(latents) + params['positions']
  x = x - x.mean(axis=-1, keepdims=True)
  x /= np.sqrt(np.square(x).mean(-1, keepdims=True) + 1e-5)
  x = x * params['norm']['scale'] + params['norm']['bias']
  np.testing.assert_allclose(
    apply(variables, latents, conditions), x, atol=1e-5
  )


def test_a_token_sees_the_past_alone(windows, trained):
  apply, variables = trained
  outputs = apply(variables, *windows)
  for t in range(3):
    for which in range(2):
      changed = [x.copy() for x in windows]
      # One feature: LayerNorm would hide a shift of all of them.
      changed[which][:, t, 0] += 1
      moved = np.abs(apply(variables, *changed) - outputs).max((0, 2))
      assert (moved[:t] < 1e-6).all() and (moved[t:] > 1e-3).all()


def test_a_shorter_window_gives_the_same_start(windows, trained):
  apply, variables = trained
  outputs = apply(variables, *windows)
  for t in (1, 2):
    shorter = apply(variables, *(x[:, :t] for x in windows))
    np.testing.assert_allclose(shorter, outputs[:, :t], atol=1e-5)


def test_any_leading_axes(windows, trained):
  apply, variables = trained
  outputs = apply(variables, *windows)
  one = apply(variables, *(x[1] for x in windows))
  np.testing.assert_allclose(one, outputs[1], atol=1e-5)
  many = apply(variables, *(x[None, :, None] for x in windows))
  np.testing.assert_allclose(many[0, :, 0], outputs, atol=1e-5)


def test_width_of_its_own(rng_key, windows):
  module = make(width=12)
  outputs, variables = jax.eval_shape(
    module.init_with_output, rng_key, *windows
  )
  assert variables['params']['input']['kernel'].shape == (8, 12)
  assert variables['params']['condition']['kernel'].shape == (6, 12)
  assert variables['params']['positions'].shape == (3, 8)
  assert outputs.shape == (2, 3, 12)


def test_action_encoder_is_linear_before_its_mlp(draw, fill):
  module = predictors.ActionEncoder(features=6, smoothed_dim=3, hidden_dim=8)
  actions = draw(2, 3, 4)
  variables = fill(module, actions)
  params = jax.tree.map(np.asarray, variables['params'])
  x = np.asarray(actions)
  for name in ('smoothing', 'hidden', 'out'):
    x = x @ params[name]['kernel'] + params[name]['bias'][None, None]
    if name == 'hidden':
      x = x / (1 + np.exp(-x))
  outputs = jax.jit(module.apply)(variables, actions)
  np.testing.assert_allclose(outputs, x, rtol=1e-4, atol=1e-5)


def test_doors(rng_key):
  module = make(history=2)
  with pytest.raises(
    ValueError, match=r'latents hold a window of 3 .*history=2'
  ):
    module.init(rng_key, jnp.zeros((1, 3, 8)), jnp.zeros((1, 3, 8)))
  with pytest.raises(ValueError, match='latents and conditions must agree'):
    module.init(rng_key, jnp.zeros((1, 2, 8)), jnp.zeros((1, 1, 8)))
