"""Attention written out, its gradients and its dropout."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm.networks import plain_attention

SEEN = np.tril(np.ones((6, 6), bool))[-5:]


def textbook(query, keys, values, mask=None, kept=None):
  """Of `[..., Q, h, d]`, heads last but one, in the order of the formula."""
  logits = jnp.einsum('...qhd,...khd->...hqk', query, keys)
  if mask is not None:
    logits = jnp.where(mask, logits, -jnp.inf)
  weights = jnp.exp(logits - logits.max(-1, keepdims=True))
  weights /= weights.sum(-1, keepdims=True)
  weights = weights if kept is None else weights * kept
  return jnp.einsum('...hqk,...khd->...qhd', weights, values)


def given(num_keys=6, dtype=np.float32):
  rng = np.random.default_rng(0)
  shapes = [(2, 3, n, 2, 8) for n in (5, num_keys, num_keys)]
  return [jnp.asarray(rng.normal(size=shape), dtype) for shape in shapes]


def gradients(fn, arguments):
  def weighted(*arguments):
    return jnp.sum(jnp.sin(fn(*arguments).astype(jnp.float32)))

  return jax.jit(jax.grad(weighted, (0, 1, 2)))(*arguments)


@pytest.mark.parametrize('seen', ['all', 'masked', 'causal'])
@pytest.mark.parametrize('dropped', [False, True])
def test_what_is_mixed_and_its_gradients_are_the_textbooks(seen, dropped):
  kept = None
  if dropped:
    rng = np.random.default_rng(1)
    kept = rng.integers(0, 2, (2, 3, 2, 5, 6)).astype(np.float32) / 0.5
  mask = None if seen == 'all' else SEEN.reshape(1, 1, 1, 5, 6)
  mine = lambda *x: plain_attention.attend(
    *x,
    None if seen == 'causal' else mask,
    kept=kept,
    causal=seen == 'causal',
    train=True,
  )
  right = lambda *x: textbook(*x, mask, kept)
  arguments = given()
  np.testing.assert_allclose(mine(*arguments), right(*arguments), atol=2e-6)
  for found, wanted in zip(
    gradients(mine, arguments), gradients(right, arguments)
  ):
    np.testing.assert_allclose(found, wanted, atol=5e-6)


@pytest.mark.parametrize('num_keys', [plain_attention.FEW_KEYS, 6])
def test_training_changes_no_value_and_few_keys_none(num_keys):
  arguments = given(num_keys)
  plain = plain_attention.attend(*arguments)
  trained = plain_attention.attend(*arguments, train=True)
  np.testing.assert_allclose(plain, trained, atol=2e-6)
  np.testing.assert_allclose(plain, textbook(*arguments), atol=2e-6)


def test_bfloat16_has_gradients_of_its_own_rounding():
  mine = lambda *x: plain_attention.attend(*x, train=True)
  found = gradients(mine, given(dtype=jnp.bfloat16))
  for one, wanted in zip(found, gradients(textbook, given())):
    assert one.dtype == jnp.bfloat16
    np.testing.assert_allclose(
      one.astype(np.float32), wanted, rtol=0.02, atol=0.03
    )


def test_what_is_not_trained_has_forward_derivatives():
  arguments = given()
  tangents = [jnp.ones_like(x) for x in arguments]
  _, found = jax.jvp(plain_attention.attend, arguments, tangents)
  _, wanted = jax.jvp(textbook, arguments, tangents)
  np.testing.assert_allclose(found, wanted, atol=5e-6)
