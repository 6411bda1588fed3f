import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm.networks import conv, sizes, vit


def count(tree):
  return sum(x.size for x in jax.tree.leaves(tree))


@pytest.mark.parametrize('preset', sizes.VIT)
def test_vit_sizes(preset):
  size = sizes.VIT[preset]
  module = vit.ViT(patch_size=14, image_size=224, **size)
  params = jax.eval_shape(
    module.init, jax.random.key(0), jnp.zeros((1, 224, 224, 3))
  )
  w, m = size['width'], size['mlp_dim']
  attention, mlp, norms = 4 * (w * w + w), 2 * w * m + w + m, 4 * w
  patches, tokens = 14 * 14 * 3 * w + w, (1 + 1 + 256) * w
  blocks = size['depth'] * (attention + mlp + norms)
  assert count(params) == blocks + patches + tokens + 2 * w
  if preset == 'tiny':
    assert count(params) == 5_501_376  # what the published model counts


def test_vit_leading_axes_and_other_sizes(draw, fill):
  module = vit.ViT(
    width=8, depth=1, num_heads=2, mlp_dim=16, patch_size=4, image_size=8
  )
  pixels = draw(2, 3, 8, 8, 3)
  variables = fill(module, pixels)
  apply = jax.jit(lambda x: module.apply(variables, x))
  features, intermediates = apply(pixels)
  assert features.shape == (2, 3, 8)
  assert intermediates['tokens'].shape == (2, 3, 5, 8)
  one, _ = apply(pixels[1, 2])
  np.testing.assert_allclose(one, features[1, 2], atol=1e-5)
  wide, intermediates = apply(jnp.zeros((2, 8, 12, 3)))
  assert wide.shape == (2, 8)
  assert intermediates['tokens'].shape == (2, 7, 8)


def test_impala_is_the_published_network(rng_key):
  module = conv.ConvEncoder()
  pixels = jnp.zeros((1, 64, 64, 3))
  (features, intermediates), variables = jax.eval_shape(
    module.init_with_output, rng_key, pixels
  )
  assert features.shape == (1, 256)
  assert intermediates['feature_map'].shape == (1, 8, 8, 32)
  convolutions, previous = 0, 3
  for channels in (16, 32, 32):
    convolutions += 9 * previous * channels + channels
    convolutions += 4 * (9 * channels * channels + channels)
    previous = channels
  assert count(variables) == convolutions + 8 * 8 * 32 * 256 + 256


@pytest.mark.parametrize('pooling', [True, False])
def test_conv_stages(draw, fill, pooling):
  module = conv.ConvEncoder(
    features=5, channels=(4, 6), strides=(4, 2), blocks=(0, 1), pooling=pooling
  )
  pixels = draw(2, 3, 16, 16, 3)
  variables = fill(module, pixels)
  apply = jax.jit(lambda x: module.apply(variables, x))
  features, intermediates = apply(pixels)
  assert features.shape == (2, 3, 5)
  assert intermediates['feature_map'].shape == (2, 3, 2, 2, 6)
  one, _ = apply(pixels[1, 2])
  np.testing.assert_allclose(one, features[1, 2], rtol=1e-4)


def test_strided_stages_alternate_with_relu(draw, fill):
  module = conv.ConvEncoder(
    features=5, channels=(4, 6), strides=(2, 4), blocks=(0, 0), pooling=False
  )
  pixels = draw(2, 16, 16, 3)
  variables = fill(module, pixels)
  _, intermediates = module.apply(variables, pixels)
  maps = pixels
  for stage, stride in enumerate((2, 4)):
    params = variables['params'][f'stage_{stage}_conv']
    assert params['kernel'].shape[:2] == ((3, 3), (4, 4))[stage]
    maps = jax.lax.conv_general_dilated(
      maps,
      params['kernel'],
      (stride, stride),
      'SAME',
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    )
    maps = np.maximum(maps + params['bias'][None, None, None], 0)
  np.testing.assert_allclose(
    intermediates['feature_map'], maps, rtol=1e-4, atol=1e-4
  )


def test_keypoints_are_where_the_softmax_of_a_map_is(draw, fill):
  module = conv.ConvEncoder(
    features=5,
    channels=(4, 3),
    strides=(2, 1),
    blocks=(0, 0),
    pooling=False,
    keypoints=True,
  )
  pixels = draw(2, 3, 8, 12, 3)
  variables = fill(module, pixels)
  features, found = module.apply(variables, pixels)
  assert features.shape == (2, 3, 5)
  maps = np.asarray(found['feature_map'], np.float64)
  assert maps.shape == (2, 3, 4, 6, 3)
  sharpness = np.asarray(variables['params']['sharpness'], np.float64)
  scores = np.exp(maps * sharpness.reshape(1, 1, 1, 1, 3))
  shares = scores / scores.sum((-3, -2), keepdims=True)
  x, y = np.linspace(-1, 1, 6), np.linspace(-1, 1, 4)
  np.testing.assert_allclose(
    found['keypoints'][..., 0],
    np.einsum('btijc,j->btc', shares, x),
    rtol=1e-3,
    atol=1e-5,
  )
  np.testing.assert_allclose(
    found['keypoints'][..., 1],
    np.einsum('btijc,i->btc', shares, y),
    rtol=1e-3,
    atol=1e-5,
  )
