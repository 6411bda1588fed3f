import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm.networks import attention, layers, transformer


@pytest.mark.parametrize('causal', [False, True])
def test_attention_is_the_textbook_formula(draw, fill, causal):
  num_heads, head_dim = 2, 3
  tokens = draw(5, 4, 8)
  module = attention.Attention(num_heads, head_dim, causal=causal)
  variables = fill(module, tokens)
  params = jax.tree.map(np.asarray, variables['params'])
  x = np.asarray(tokens, np.float64)
  query, key, value = (
    (x @ params[name]['kernel'] + params[name]['bias'][None, None]).reshape(
      5, 4, num_heads, head_dim
    )
    for name in ('query', 'key', 'value')
  )
  mixed = np.zeros((5, 4, num_heads, head_dim))
  for b, t, h in np.ndindex(5, 4, num_heads):
    last = t + 1 if causal else 4
    logits = key[b, :last, h] @ query[b, t, h] / np.sqrt(head_dim)
    weights = np.exp(logits) / np.exp(logits).sum()
    mixed[b, t, h] = weights @ value[b, :last, h]
  expected = mixed.reshape(5, 4, -1) @ params['out']['kernel']
  expected += params['out']['bias'][None, None]
  np.testing.assert_allclose(
    jax.jit(module.apply)(variables, tokens)[0], expected, atol=1e-5
  )


def test_one_token_takes_the_short_way_exactly(draw, fill):
  # In a causal module the first of two tokens also sees itself alone.
  tokens = draw(3, 2, 8)
  module = attention.Attention(2, 4, causal=True)
  variables = fill(module, tokens[:, :1])
  alone, _ = module.apply(variables, tokens[:, :1])
  together, _ = module.apply(variables, tokens)
  np.testing.assert_allclose(alone, together[:, :1], atol=1e-6)

  def mix(tokens):
    return module.apply(variables, tokens)[0]

  short = jax.jit(mix).lower(tokens[:, :1]).compile().as_text()
  assert 'exponential' not in short
  assert len(re.findall(r' dot\(|custom_call_target=\S*matmul', short)) == 2


def test_dropout_is_on_in_training_only(rng_key, fill, draw):
  tokens = draw(2, 3, 8)
  module = attention.Attention(2, 4, dropout=0.5)
  variables = fill(module, tokens)

  @jax.jit
  def run(tokens):
    rngs = {'dropout': rng_key}
    return (
      module.apply(variables, tokens)[0],
      module.apply(variables, tokens, rngs=rngs)[0],
      module.apply(variables, tokens, train=True, rngs=rngs)[0],
    )

  for quiet, keyed, noisy in (run(tokens), run(tokens[:, :1])):
    np.testing.assert_array_equal(quiet, keyed)
    assert 0.2 < np.mean(np.asarray(noisy) == 0) < 0.8
    # What is left is not merely doubled: the weights are dropped from too.
    left = np.asarray(noisy) != 0
    assert np.abs(noisy - 2 * quiet)[left].max() > 0.1


def test_uniform_dense_starts_as_torch_does(rng_key):
  inputs = jnp.zeros((1, 400))
  params = layers.uniform_dense(300, 400).init(rng_key, inputs)['params']
  bound = 1 / 20
  for leaf in params.values():
    assert 0.95 * bound < np.abs(leaf).max() <= bound
    np.testing.assert_allclose(leaf.std(), bound / np.sqrt(3), rtol=0.1)


def test_layer_norm_of_tiny_features(rng_key, draw):
  features = 1e-5 * draw(4, 32) + 3e-3
  module = layers.layer_norm(1e-12)
  x = np.asarray(features, np.float64)
  x = x - x.mean(axis=-1, keepdims=True)
  expected = x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + 1e-12)
  outputs = module.apply(module.init(rng_key, features), features)
  np.testing.assert_allclose(outputs, expected, atol=1e-3)


def test_fresh_modulated_block_is_the_identity(rng_key, draw):
  tokens = draw(2, 3, 8)
  condition = 10 * tokens[..., :5]
  module = transformer.ModulatedBlock(num_heads=2, head_dim=4, mlp_dim=16)
  (outputs, _), _ = jax.jit(module.init_with_output)(rng_key, tokens, condition)
  np.testing.assert_array_equal(outputs, tokens)
