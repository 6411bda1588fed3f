"""Kernels of accelerators mix as plain attention does, as far as a CPU can say.

Splash attention is played by Pallas' interpreter; cuDNN's is lowered alone.
"""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src.cudnn import fused_attention_stablehlo

from jepa_wm import sharding
from jepa_wm.networks import attention, attention_kernels, plain_attention

CUDNN, SPLASH = '__cudnn$fmha', 'tpu_custom_call'


def given(num_queries, num_keys=130, dtype=np.float32):
  rng = np.random.default_rng(0)
  shapes = [(8, n, 2, 8) for n in (num_queries, num_keys, num_keys)]
  return [rng.normal(size=shape).astype(dtype) for shape in shapes]


def plain(query, keys, values, mask=None, *, causal):
  return plain_attention.attend(query, keys, values, mask, causal=causal)


def with_gradients(attend_fn, arguments, mask):
  """What is mixed, and the gradients of a sum of it."""

  @jax.jit
  def run(arguments, mask):
    def weighted(query, keys, values):
      mixed = attend_fn(query, keys, values, mask)
      return jnp.sum(jnp.sin(mixed)), mixed

    return jax.grad(weighted, (0, 1, 2), has_aux=True)(*arguments)

  return run(arguments, mask)


def close(found, wanted):
  assert_close = functools.partial(np.testing.assert_allclose, atol=1e-5)
  jax.tree.map(assert_close, found, wanted)


def test_splash_attention_is_the_plain_one_on_any_number_of_devices():
  mask = np.ones((8, 1, 1, 130), bool)
  mask[0, ..., 70:] = False
  arguments = given(130)
  wanted = with_gradients(
    functools.partial(plain, causal=False), arguments, mask
  )
  splash = functools.partial(
    attention_kernels.splash, causal=False, interpret=True
  )
  mesh = sharding.make_mesh(8)
  with jax.set_mesh(mesh):
    split = sharding.shard_batch((arguments, mask), mesh)
    close(with_gradients(splash, *split), wanted)


def test_the_last_queries_see_what_was_before_them():
  arguments = given(5)
  wanted = with_gradients(
    functools.partial(plain, causal=True), arguments, None
  )
  for attend_fn in (
    functools.partial(attention_kernels.splash, causal=True, interpret=True),
    functools.partial(attention_kernels._plain, causal=True),
  ):
    close(with_gradients(attend_fn, arguments, None), wanted)


def test_a_module_mixes_alike_by_any_of_them(draw, fill):
  module = attention.Attention(2, 8)
  tokens = draw(2, 130, 4)
  variables = fill(module, tokens)
  mix = jax.jit(module.apply)
  plainly = mix(variables, tokens)[0]
  with attention_kernels.use('auto'):
    np.testing.assert_allclose(mix(variables, tokens)[0], plainly, atol=1e-5)
  # It was traced for each.
  assert mix._cache_size() == 2


@pytest.fixture
def cudnn(monkeypatch):
  """As where JAX's plugin for CUDA is."""
  version = types.SimpleNamespace(cudnn_get_version=lambda: 91000)
  monkeypatch.setattr(fused_attention_stablehlo, 'cuda_versions', version)
  monkeypatch.setattr(attention_kernels, 'cudnn_is_there', lambda: True)


@pytest.mark.parametrize('masked', [False, True])
def test_each_chip_gets_its_own_kernel_and_its_gradient(cudnn, masked):
  mask = np.ones((8, 1, 1, 130), bool) if masked else None
  arguments = given(130, dtype=jnp.bfloat16)

  def loss(query, keys, values):
    mixed = attention_kernels.attend(query, keys, values, mask=mask)
    return jnp.sum(mixed.astype(jnp.float32))

  with attention_kernels.use('auto'):
    traced = jax.jit(jax.grad(loss, (0, 1, 2))).trace(*arguments)
  for platform, wanted in (
    ('cuda', {CUDNN}),
    ('tpu', {SPLASH}),
    ('cpu', set()),
  ):
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    assert {name for name in (CUDNN, SPLASH) if name in text} == wanted
    assert ('SoftmaxBackward' in text) == (CUDNN in wanted)


@pytest.mark.parametrize(
  'kernel, changes, why',
  [
    ('cudnn', {'dtype': np.float32}, 'dtype is float32'),
    ('cudnn', {'dropout': True}, 'dropout=0'),
    ('cudnn', {'head_dim': 136}, 'at most 128 wide'),
    ('cudnn', {'num_tokens': 129, 'mask': 129}, 'even number of tokens'),
    ('splash', {'dtype': np.float16}, 'dtype is float16'),
    ('splash', {'dropout': True}, 'dropout=0'),
    ('splash', {'mask': 130, 'causal_mask': True}, 'not the same for all'),
  ],
)
def test_what_a_kernel_cannot_do_is_refused_where_it_was_named(
  kernel, changes, why
):
  num_tokens = changes.get('num_tokens', 130)
  shape = 2, num_tokens, 2, changes.get('head_dim', 8)
  x = jax.ShapeDtypeStruct(shape, changes.get('dtype', jnp.bfloat16))
  mask = None
  if 'mask' in changes:
    queries = num_tokens if 'causal_mask' in changes else 1
    mask = jnp.ones((queries, num_tokens), bool)[None]
  attend = functools.partial(
    attention_kernels.attend,
    mask=mask,
    dropout=changes.get('dropout', False),
  )
  with (
    attention_kernels.use(kernel),
    pytest.raises(ValueError, match=f"attention='{kernel}'.*{why}"),
  ):
    jax.eval_shape(attend, x, x, x)


def test_few_keys_are_mixed_plainly_and_no_other_kernel_is_known():
  few = given(8, num_keys=attention_kernels.MANY - 1)
  with attention_kernels.use('splash'):
    assert attention_kernels.attend(*few) is None
  assert attention_kernels.attend(*given(130)) is None
  with pytest.raises(ValueError, match='attention'):
    attention_kernels.use('flash')
