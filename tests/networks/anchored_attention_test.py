"""Attention from the first token against the plain one, with its variables."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm.networks import anchored_attention, attention, windows

SIZES = {'num_heads': 2, 'head_dim': 4}
PLAIN = attention.Attention(**SIZES, causal=True, qkv_bias=False)
ANCHORED = anchored_attention.AnchoredAttention(**SIZES)


# Too few windows for a product of two maps, and enough; few keys and many.
@pytest.mark.parametrize(('batch', 'number'), [(1, 1), (9, 3), (1, 7)])
def test_it_is_the_plain_one(draw, fill, batch, number):
  tokens = draw(batch, number, 8)
  variables = fill(PLAIN, tokens)
  mixed, memory = jax.jit(ANCHORED.apply)(variables, tokens)
  expected, _ = PLAIN.apply(variables, tokens)
  np.testing.assert_allclose(mixed, expected, atol=1e-5)
  assert memory.num_tokens == number

  # The last alone, of a window and of one with room.
  last, _ = ANCHORED.apply(variables, tokens, asked=attention.Asked(1))
  np.testing.assert_allclose(last, expected[:, -1:], atol=1e-5)
  place = np.arange(batch, dtype=np.int32) % number
  one, _ = ANCHORED.apply(
    variables,
    tokens,
    asked=attention.Asked(1, place),
    mask=windows.seen(place, number),
  )
  at_place = expected[np.arange(batch), place][:, None]
  np.testing.assert_allclose(one, at_place, atol=1e-5)


def test_it_goes_on_from_what_it_remembers(draw, fill):
  tokens = draw(9, 3, 8)
  variables = fill(PLAIN, tokens)
  expected, _ = PLAIN.apply(variables, tokens)
  _, memory = ANCHORED.apply(variables, tokens[:, :1])
  # What there is before the first token.
  past = jax.tree.map(lambda leaf: leaf[:, :0], memory)
  for t in range(3):
    mixed, own = ANCHORED.apply(variables, tokens[:, t : t + 1], past=past)
    np.testing.assert_allclose(mixed, expected[:, t : t + 1], atol=1e-5)
    join = lambda *parts: jnp.concatenate(parts, axis=1)
    past = jax.tree.map(join, past, own)
    assert past.num_tokens == t + 1


def test_the_first_token_asks_nothing_and_is_one_small_product(draw, fill):
  tokens = draw(9, 1, 8)
  variables = fill(PLAIN, tokens)
  traced = jax.make_jaxpr(lambda x: ANCHORED.apply(variables, x)[0])(tokens)
  text = str(traced)
  assert 'exp' not in text
  sizes = [
    equation.outvars[0].aval.shape
    for equation in traced.eqns
    if equation.primitive.name == 'dot_general'
    and equation.outvars[0].aval.size
  ]
  assert sizes == [(8, 8), (9, 1, 8)]
