import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm.networks import resnet

TINY = resnet.ResNet18(channels=(4, 8, 8, 8), num_groups=2)


def test_it_is_the_published_network(rng_key):
  (features, intermediates), variables = jax.eval_shape(
    resnet.ResNet18().init_with_output, rng_key, jnp.zeros((1, 224, 224, 3))
  )
  # What the published one counts without its classifier of 513,000.
  assert sum(x.size for x in jax.tree.leaves(variables)) == 11_176_512
  assert features.shape == (1, 512)
  shapes = {name: x.shape for name, x in intermediates.items()}
  assert shapes == {
    'stage_0': (1, 56, 56, 64),
    'stage_1': (1, 28, 28, 128),
    'stage_2': (1, 14, 14, 256),
    'stage_3': (1, 7, 7, 512),
  }


def test_a_feature_is_of_its_image_alone(draw, fill):
  pixels = draw(2, 3, 32, 32, 3)
  variables = fill(TINY, pixels)
  apply = jax.jit(lambda x: TINY.apply(variables, x))
  features, intermediates = apply(pixels)
  assert features.shape == (2, 3, 8)
  assert intermediates['stage_3'].shape == (2, 3, 1, 1, 8)
  one, _ = apply(pixels[1, 2])
  np.testing.assert_allclose(one, features[1, 2], rtol=1e-4, atol=1e-4)
  np.testing.assert_allclose(
    features, intermediates['stage_3'].mean((-3, -2)), rtol=1e-5
  )
  # GroupNorm takes out a frame's contrast, but for epsilon.
  louder, _ = apply(100 * pixels)
  scale = np.abs(features).max()
  np.testing.assert_allclose(louder, apply(200 * pixels)[0], atol=0.02 * scale)


def test_a_block_adds_to_what_it_saw(draw, fill):
  pixels = draw(2, 32, 32, 3)
  variables = fill(TINY, pixels)
  # Without the second norms' scales and shifts, blocks of equal size are relu.
  params = dict(variables['params'])
  for block in range(2):
    name = f'stage_0_block_{block}_norm_1'
    params[name] = jax.tree.map(jnp.zeros_like, params[name])
  _, skipped = TINY.apply({'params': params}, pixels)
  params['stage_0_block_0_conv_0'] = {'kernel': jnp.zeros((3, 3, 4, 4))}
  _, again = TINY.apply({'params': params}, pixels)
  np.testing.assert_array_equal(skipped['stage_0'], again['stage_0'])
  assert (np.asarray(skipped['stage_0']) >= 0).all()
  assert np.asarray(skipped['stage_0']).max() > 0.1
