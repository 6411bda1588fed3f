import jax
import jax.numpy as jnp
import numpy as np
import pytest


@pytest.fixture(scope='session')
def draw():
  """Standard normal inputs of a shape; NumPy has nothing to compile."""

  def draw_inputs(*shape):
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)

  return draw_inputs


@pytest.fixture(scope='session')
def fill():
  """Variables of a module, all of them at work, drawn by NumPy.

  Compiling the initialiser of every parameter would cost more than the test.
  """

  def fill_module(module, *inputs):
    draw = np.random.default_rng(0)
    shapes = jax.eval_shape(module.init, jax.random.key(0), *inputs)

    def draw_like(path, leaf):
      if path[-1].key == 'var':
        return jnp.asarray(draw.uniform(0.5, 2, leaf.shape), leaf.dtype)
      return jnp.asarray(draw.normal(0, 0.5, leaf.shape), leaf.dtype)

    return jax.tree_util.tree_map_with_path(draw_like, shapes)

  return fill_module
