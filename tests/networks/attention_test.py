import re

import jax
import numpy as np
import pytest

from jepa_wm.networks import attention


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
