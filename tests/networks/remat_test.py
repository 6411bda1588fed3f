import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm.networks import (
  dinov2,
  modulated_frames,
  remat,
  transformer,
  video_vit,
)

SIZES = {'num_heads': 2, 'mlp_dim': 16}
BLOCKS = {
  'plain': transformer.Block(**SIZES, dropout=0.2),
  'modulated': transformer.ModulatedBlock(**SIZES, head_dim=4, dropout=0.2),
  'frames': modulated_frames.ModulatedFrames(**SIZES, head_dim=4),
  'scaled': dinov2.ScaledBlock(**SIZES, epsilon=1e-6),
}


def _call(name, module, variables, tokens, condition):
  how = {'train': True, 'rngs': {'dropout': jax.random.key(3)}}
  if name == 'scaled':
    return module.apply(variables, tokens)
  if name == 'plain':
    mask = jnp.tril(jnp.ones((6, 6), bool))
    return module.apply(variables, tokens, mask=mask, **how)[0]
  if name == 'modulated':
    return module.apply(variables, tokens, condition, **how)[0]
  return module.apply(variables, tokens, condition=condition, **how)[0]


@functools.cache
def _started(name):
  tokens = jax.random.normal(jax.random.key(0), (3, 6, 8))
  condition = jax.random.normal(jax.random.key(1), (3, 6, 8))
  call = functools.partial(_call, name, BLOCKS[name])
  shapes = jax.eval_shape(
    lambda: BLOCKS[name].init(
      {'params': jax.random.key(2)},
      tokens,
      **({} if name != 'frames' else {'condition': condition}),
      **({} if name != 'modulated' else {'condition': condition}),
    )
  )
  draw = np.random.default_rng(0)
  variables = jax.tree.map(
    lambda x: jnp.asarray(draw.normal(0, 0.3, x.shape), x.dtype), shapes
  )
  return call, (variables, tokens, condition)


def _slopes(name, policy):
  call, args = _started(name)

  @jax.jit
  def run(*args):
    with remat.applied(policy):
      return jax.value_and_grad(
        lambda *args: jnp.sum(jnp.sin(call(*args))), argnums=(0, 1, 2)
      )(*args)

  return run(*args)


@pytest.mark.parametrize('name', BLOCKS)
def test_what_is_computed_again_is_the_same(name):
  expected = _slopes(name, 'none')
  found = _slopes(name, 'full')
  assert jax.tree.structure(found) == jax.tree.structure(expected)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6),
    found,
    expected,
  )


def test_less_is_kept_for_the_backward_pass():
  module = video_vit.VideoViTConfig(
    image_size=8,
    patch_size=2,
    num_frames=2,
    **vars(transformer.Sizes(12, 3)) | {'num_heads': 2, 'mlp_dim': 48},
  ).build(jnp.float32)
  pixels = jax.ShapeDtypeStruct((2, 2, 8, 8, 3), jnp.float32)
  variables = jax.eval_shape(module.init, jax.random.key(0), pixels)

  def kept(policy):
    def backward(variables, pixels):
      with remat.applied(policy):
        _, backward_fn = jax.vjp(
          lambda x: module.apply(x, pixels)[0], variables
        )
      return backward_fn

    found = jax.eval_shape(backward, variables, pixels)
    return sum(x.size for x in jax.tree.leaves(found))

  none, dots, linear, full = map(
    kept, ('none', 'dots', 'dots_with_no_batch_dims', 'full')
  )
  assert full < 0.5 * linear < linear < dots < none
  assert remat.paths(module.init, jax.random.key(0), pixels) == [
    (f'block_{index}',) for index in range(3)
  ]
