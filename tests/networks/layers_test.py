import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm.networks import layers


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


def test_a_dense_map_has_products_of_two_matrices_both_ways(rng_key, draw):
  inputs = draw(3, 4, 5)
  module = layers.normal_dense(6, 5)
  variables = module.init(rng_key, inputs)
  plain = nn.Dense(6)

  def loss(apply_fn, variables):
    return jnp.sum(jnp.sin(apply_fn(variables, inputs)))

  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
    jax.grad(functools.partial(loss, module.apply))(variables),
    jax.grad(functools.partial(loss, plain.apply))(variables),
  )
  traced = jax.make_jaxpr(jax.grad(functools.partial(loss, module.apply)))
  products = [
    equation
    for equation in traced(variables).eqns
    if equation.primitive.name == 'dot_general'
  ]
  assert products
  for equation in products:
    assert all(x.aval.ndim == 2 for x in equation.invars)
