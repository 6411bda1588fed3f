import jax
import numpy as np
import pytest

from jepa_wm.networks import conv, states


def test_states_pass_through_the_mlp_as_written(draw, fill):
  module = states.StateEncoder(3, hidden_dims=(5,), scale=10.0)
  inputs = draw(2, 4, 2)
  variables = fill(module, inputs)
  features, intermediates = jax.jit(module.apply)(variables, inputs)
  params = jax.tree.map(np.asarray, variables['params'])
  rows = (inputs / 10).reshape(8, 2)
  x = rows @ params['hidden_0']['kernel'] + params['hidden_0']['bias'][None]
  x = x - x.mean(-1, keepdims=True)
  x = x / np.sqrt(np.square(x).mean(-1, keepdims=True) + 1e-5)
  x = x * params['norm_0']['scale'][None] + params['norm_0']['bias'][None]
  x = np.maximum(x, 0)
  np.testing.assert_allclose(
    intermediates['hidden_0'].reshape(8, 5), x, rtol=1e-4, atol=1e-5
  )
  x = x @ params['out']['kernel'] + params['out']['bias'][None]
  np.testing.assert_allclose(features.reshape(8, 3), x, rtol=1e-4, atol=1e-5)


def test_without_hidden_maps_it_is_linear(draw, fill):
  module = states.StateEncoder(3, hidden_dims=())
  inputs = draw(5, 2)
  variables = fill(module, inputs)
  features, intermediates = module.apply(variables, inputs)
  out = variables['params']['out']
  np.testing.assert_allclose(
    features, inputs @ out['kernel'] + out['bias'][None], rtol=1e-5
  )
  assert intermediates == {}


def test_fused_features_lie_side_by_side(draw, fill):
  pixels = conv.ConvEncoder(
    4, channels=(3,), strides=(4,), blocks=(0,), pooling=False
  )
  proprio = states.StateEncoder(2, hidden_dims=(6,))
  module = states.FusedEncoder(pixels, proprio)
  observation = draw(2, 3, 8, 8, 3), draw(2, 3, 5)
  variables = fill(module, observation)
  features, intermediates = jax.jit(module.apply)(variables, observation)
  params = variables['params']
  frame, _ = pixels.apply({'params': params['pixels']}, observation[0])
  state, _ = proprio.apply({'params': params['proprio']}, observation[1])
  np.testing.assert_allclose(features[..., :4], frame, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(features[..., 4:], state, rtol=1e-5, atol=1e-6)
  assert intermediates.keys() == {'feature_map', 'proprio_hidden_0'}
  with pytest.raises(ValueError, match='pixels and proprio must agree'):
    module.apply(variables, (observation[0], observation[1][:, :2]))
