import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm.networks import probes


def _norm(x, p):
  x = x - x.mean(-1, keepdims=True)
  return x / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * p['scale'] + p['bias']


def _dense(x, p):
  return x @ p['kernel'] + p['bias']


def _gelu(x):
  return x / 2 * (1 + np.vectorize(math.erf)(x / np.sqrt(2)))


def _softmax(x):
  e = np.exp(x - x.max(-1, keepdims=True))
  return e / e.sum(-1, keepdims=True)


def _attend(q, k, v, heads):
  """One example, head by head."""
  size = q.shape[-1] // heads
  parts = []
  for h in range(heads):
    part = slice(h * size, (h + 1) * size)
    weights = _softmax(q[:, part] @ k[:, part].T / np.sqrt(size))
    parts.append(weights @ v[:, part])
  return np.concatenate(parts, -1)


def _mlp(x, p):
  return _dense(_gelu(_dense(x, p['hidden'])), p['out'])


def _expected(x, p, heads, depth):
  """V-JEPA's probe as its authors wrote it down, for one example."""
  for index in range(depth - 1):
    b = p[f'block_{index}']
    y, a = _norm(x, b['attention_norm']), b['attention']
    mixed = _attend(
      *(_dense(y, a[k]) for k in ('query', 'key', 'value')), heads
    )
    x = x + _dense(mixed, a['out'])
    x = x + _mlp(_norm(x, b['mlp_norm']), b['mlp'])
  y = _norm(x, p['cross_norm'])
  q = p['query']
  q = q + _attend(
    _dense(q, p['cross_query']),
    _dense(y, p['cross_key']),
    _dense(y, p['cross_value']),
    heads,
  )
  q = q + _mlp(_norm(q, p['mlp_norm']), p['mlp'])
  return _dense(q, p['head'])[0]


@pytest.mark.parametrize('depth', [1, 3])
def test_attentive_is_the_published_one(draw, fill, depth):
  tokens = draw(2, 5, 12)
  probe = probes.AttentiveProbe(features=3, num_heads=4, depth=depth)
  variables = fill(probe, tokens)
  params = jax.tree.map(
    lambda x: np.asarray(x, np.float64), variables['params']
  )
  expected = [_expected(x, params, 4, depth) for x in tokens]
  outputs = jax.jit(probe.apply)(variables, tokens)
  np.testing.assert_allclose(outputs, expected, rtol=2e-4, atol=2e-4)


def test_attentive_starts_as_published():
  probe = probes.AttentiveProbe(features=3, num_heads=8, width=64)
  params = probe.init(jax.random.key(0), jnp.zeros((1, 2, 5)))['params']
  assert params['embed']['kernel'].shape == (5, 64)
  assert params['query'].shape == (1, 64)
  assert 0.01 < params['query'].std() < 0.03
  assert params['mlp']['hidden']['kernel'].shape == (64, 256)
  assert 'out' not in params


def test_pooled_are_maps_of_the_mean(draw, fill):
  tokens = draw(2, 5, 12)
  linear = probes.PooledProbe(features=3)
  variables = fill(linear, tokens)
  head = variables['params']['head']
  np.testing.assert_allclose(
    linear.apply(variables, tokens),
    _dense(tokens.mean(1), jax.tree.map(np.asarray, head)),
    rtol=1e-4,
    atol=1e-5,
  )
  mlp = probes.PooledProbe(features=3, hidden_dim=7)
  params = fill(mlp, tokens)['params']
  hidden = _gelu(
    _dense(tokens.mean(1), jax.tree.map(np.asarray, params['hidden']))
  )
  np.testing.assert_allclose(
    mlp.apply({'params': params}, tokens),
    _dense(hidden, jax.tree.map(np.asarray, params['head'])),
    rtol=1e-4,
    atol=1e-4,
  )


@pytest.mark.parametrize(
  'probe',
  [
    probes.PooledProbe(features=3, hidden_dim=7),
    probes.AttentiveProbe(features=3, num_heads=4, depth=2),
  ],
)
def test_the_order_of_tokens_does_not_matter(draw, fill, probe):
  tokens = draw(2, 5, 12)
  variables = fill(probe, tokens)
  apply = jax.jit(probe.apply)
  np.testing.assert_allclose(
    apply(variables, tokens), apply(variables, tokens[:, ::-1]), rtol=1e-3,
    atol=1e-3,
  )  # fmt: skip


def test_heads_that_do_not_fit_are_refused():
  probe = probes.AttentiveProbe(features=3, num_heads=4)
  with pytest.raises(ValueError, match='4 heads on tokens of size 10'):
    probe.init(jax.random.key(0), jnp.zeros((1, 2, 10)))
