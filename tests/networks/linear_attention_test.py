import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm.networks import linear_attention

T, HEADS, SIZE = 11, 2, 4


def oracle(given, matrices):
  """The equations of the paper, one head and token at a time."""
  queries, keys, values, decays, rates = given
  outputs, matrices = np.zeros_like(values), matrices.copy()
  for row, head in np.ndindex(values.shape[0], HEADS):
    state = matrices[row, head]
    for t in range(values.shape[1]):
      at = row, t, head
      state = np.exp(decays[at]) * state
      error = values[at] - state @ keys[at]
      state = state + rates[at] * np.outer(error, keys[at])
      outputs[at] = state @ queries[at]
    matrices[row, head] = state
  return outputs, matrices


@pytest.fixture(scope='module')
def given():
  rng = np.random.default_rng(0)
  draw = lambda *shape: rng.normal(size=(3, T, HEADS, *shape))
  queries, keys, values = draw(SIZE), draw(SIZE), draw(SIZE)
  keys[0] = keys[0, :1]  # What does not move writes one key again and again.
  keys /= np.linalg.norm(keys, axis=-1, keepdims=True)
  rates = rng.uniform(size=(3, T, HEADS))
  rates[0] = 0.999
  given = linear_attention.Given(queries, keys, values, -np.abs(draw()), rates)
  return given, rng.normal(size=(3, HEADS, SIZE, SIZE))


def outputs_and_slopes(rule, given, matrices):
  """Of a function of all that comes out, by all that goes in."""

  @jax.jit
  def run(*args):
    def total(given, matrices):
      found = rule(given, matrices)
      return sum(jnp.sum(jnp.sin(x)) for x in found), found

    return jax.value_and_grad(total, argnums=(0, 1), has_aux=True)(*args)

  as_float32 = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), given)
  (_, found), slopes = run(as_float32, jnp.asarray(matrices, jnp.float32))
  return found, slopes


def close(found, expected, atol=1e-5):
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=atol), found, expected
  )


def test_token_by_token_and_in_chunks_it_is_the_rule(given):
  plain, slopes = outputs_and_slopes(linear_attention.recurrent, *given)
  close(plain, oracle(*given))
  # Chunks that divide the tokens, that do not, of one, and of more than all.
  for chunk in (1, 4, T, 64):
    rule = functools.partial(linear_attention.chunked, chunk=chunk)
    found, others = outputs_and_slopes(rule, *given)
    close(found, plain)
    close(others, slopes, 2e-5)


def test_what_was_written_is_read_and_corrected():
  """One key, two values: the second takes the place of the first."""
  key = jnp.array([[[[1.0, 0.0]], [[1.0, 0.0]]]])
  values = jnp.array([[[[3.0, 4.0]], [[5.0, 6.0]]]])
  still, full = jnp.zeros((1, 2, 1)), jnp.ones((1, 2, 1))
  given = linear_attention.Given(key, key, values, still, full)
  rule = jax.jit(functools.partial(linear_attention.chunked, chunk=2))
  outputs, _ = rule(given, jnp.zeros((1, 1, 2, 2)))
  np.testing.assert_allclose(outputs, values, atol=1e-6)


def test_a_layer_goes_on_where_it_was(fill, draw):
  layer = linear_attention.GatedDeltaNet(HEADS, SIZE, chunk=4)
  tokens = draw(2, 3, T, 6)
  variables = fill(layer, tokens)
  apply = jax.jit(layer.apply)
  whole, last = apply(variables, tokens)
  assert whole.shape == tokens.shape
  start, memory = apply(variables, tokens[..., :6, :])
  parts = [start]
  for t in range(6, T):
    part, memory = apply(variables, tokens[..., t : t + 1, :], memory)
    parts.append(part)
  close(jnp.concatenate(parts, axis=-2), whole)
  close(memory, last)
  low = linear_attention.GatedDeltaNet(HEADS, SIZE, chunk=4, dtype=jnp.bfloat16)
  rounded, memory = jax.jit(low.apply)(variables, tokens)
  assert rounded.dtype == jnp.bfloat16
  assert memory.matrices.dtype == jnp.float32
  close(rounded.astype(jnp.float32), whole, 0.1)


def test_heads_forget_at_different_paces():
  for number, kept in ((3, [0.999, 0.99, 0.905]), (1, [0.999])):
    steps = np.log1p(np.exp(linear_attention.step_bias(number)))
    np.testing.assert_allclose(np.exp(-steps), kept, rtol=1e-3)
