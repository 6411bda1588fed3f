import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm.networks import action_encoders, causal
from jepa_wm.networks import windows as windows_lib


@pytest.fixture(scope='module')
def windows(draw):
  both = draw(2, 3, 14)
  return both[..., :8], both[..., 8:]


def make(**fields):
  sizes = {'width': 8, 'depth': 2, 'num_heads': 2, 'head_dim': 4}
  return causal.CausalPredictor(
    **{'history': 3, 'mlp_dim': 16, **sizes, **fields}
  )


@pytest.fixture(scope='module')
def trained(windows, fill):
  """A predictor with all its parameters at work."""
  module = make()
  apply = jax.jit(lambda *arguments: module.apply(*arguments)[0])
  return apply, fill(module, *windows)


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
  assert outputs[0].shape == (2, 3, 12)


def test_action_encoder_is_linear_before_its_mlp(draw, fill):
  module = action_encoders.ActionEncoder(
    features=6, smoothed_dim=3, hidden_dim=8
  )
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
  with pytest.raises(ValueError, match='conditions must be as many as latents'):
    module.init(rng_key, jnp.zeros((1, 2, 8)), jnp.zeros((1, 1, 8)))


@pytest.mark.slow
def test_a_step_does_less_than_a_window(windows, fill):
  """Products are what costs: those that are not needed are not there."""
  module = make(width=64, depth=3, num_heads=4, head_dim=16, mlp_dim=256)
  variables = fill(module, *windows)
  latents, conditions = windows

  def num_flops(latents, conditions, look=None):
    def apply(look):
      return module.apply(variables, latents, conditions, look=look)[0]

    return jax.jit(apply).lower(look).compile().cost_analysis()['flops']

  _, memory = module.apply(variables, latents[:, :2], conditions[:, :2])
  place = jnp.full(latents.shape[:1], 2)
  look = windows_lib.Look(memory, place)
  plain, newest = num_flops(latents, conditions), conditions[:, 2:]
  sliding = num_flops(
    latents, newest, look._replace(memory=memory._replace(past=None))
  )
  growing = num_flops(latents[:, 2:], newest, look)
  assert growing < 0.5 * plain
  assert growing < sliding < 0.85 * plain


def test_a_size_says_blocks_heads_and_mlp():
  assert causal.CausalConfig(size='small') == dataclasses.replace(
    causal.CausalConfig(), size='small'
  )
  base = causal.CausalConfig(size='base', dropout=0.0)
  assert (base.depth, base.num_heads, base.mlp_dim) == (12, 32, 4096)
  assert base.build((1, 1), jnp.float32).depth == 12
  # As a config has it that was written out.
  assert dataclasses.replace(base, dropout=0.0) == base
  with pytest.raises(ValueError, match=r"depth=4 would .* size='tiny'"):
    causal.CausalConfig(size='tiny', depth=4)
  with pytest.raises(ValueError, match=r"size must be one of .*'large'"):
    causal.CausalConfig(size='large')
