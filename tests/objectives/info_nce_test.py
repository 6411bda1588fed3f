import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm import sharding
from jepa_wm.objectives import info_nce

loss = jax.jit(info_nce.info_nce)


def normal(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def by_loops(latents):
  """The docstring's formula, one neighbour after another, in float64."""
  latents = latents.astype(np.float64)
  num_sequences, num_frames, _ = latents.shape
  terms = []
  for sequence in range(num_sequences):
    others = np.delete(latents, sequence, axis=0).reshape(-1, latents.shape[-1])
    for frame in range(num_frames):
      anchor = latents[sequence, frame]
      against = np.exp(-((others - anchor) ** 2).sum(-1) / 2).sum()
      for neighbour in (frame - 1, frame + 1):
        if 0 <= neighbour < num_frames:
          away = ((latents[sequence, neighbour] - anchor) ** 2).sum()
          own = np.exp(-away / 2)
          terms.append(-np.log(own / (own + against)))
  return np.mean(terms)


@pytest.mark.parametrize('shape', [(2, 2, 1), (5, 4, 3), (16, 3, 8)])
def test_equals_its_formula(shape):
  for scale in (0.1, 1.0, 3.0):
    latents = scale * normal(*shape)
    np.testing.assert_allclose(loss(latents), by_loops(latents), rtol=1e-5)


def test_what_collapse_and_separation_cost():
  collapsed = np.full((6, 4, 3), 0.7, np.float32)
  np.testing.assert_allclose(loss(collapsed), np.log(1 + 4 * 5), rtol=1e-6)
  # One place for each sequence, far from all others.
  apart = np.broadcast_to(100 * np.eye(6)[:, None], (6, 4, 6))
  np.testing.assert_allclose(loss(apart.astype(np.float32)), 0.0, atol=1e-6)


def test_where_latents_are_and_the_order_of_time_do_not_matter():
  latents = normal(6, 4, 3)
  np.testing.assert_allclose(loss(latents + 50), loss(latents), rtol=1e-4)
  np.testing.assert_allclose(loss(latents[:, ::-1]), loss(latents), rtol=1e-5)


def test_downhill_sequences_draw_apart_more_than_they_spread():
  latents = 0.1 * normal(6, 2, 3)
  slope = jax.jit(jax.grad(info_nce.info_nce))
  step = latents - 0.1 * slope(latents)

  def ratio(x):
    within = ((x[:, 1] - x[:, 0]) ** 2).mean()
    return ((x[:, None, 0] - x[None, :, 0]) ** 2).mean() / within

  assert ratio(step) > 1.01 * ratio(latents)
  # Collapsed latents have a slope of zero and not of NaN.
  flat = slope(jnp.zeros((6, 2, 3)))
  np.testing.assert_array_equal(flat, 0)


def test_precision_is_single():
  half = jnp.asarray(normal(4, 3, 2), jnp.bfloat16)
  assert loss(half).dtype == jnp.float32
  assert loss(half) == loss(half.astype(jnp.float32))


def test_eight_devices_see_one_batch():
  latents = normal(16, 3, 5)
  step = jax.jit(jax.value_and_grad(info_nce.info_nce))
  value, grad = step(latents)
  split_value, split_grad = step(
    sharding.shard_batch(latents, sharding.make_mesh(8))
  )
  np.testing.assert_allclose(split_value, value, rtol=1e-5)
  np.testing.assert_allclose(split_grad, grad, atol=1e-6)


@pytest.mark.parametrize('shape', [(4, 3), (1, 3, 2), (3, 1, 2), (2, 3, 4, 5)])
def test_doors(shape):
  with pytest.raises(ValueError, match='at least two sequences B and two fram'):
    info_nce.info_nce(jnp.zeros(shape))
