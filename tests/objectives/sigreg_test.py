import functools
import re

import golden_files
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sharded

from jepa_wm import sharding
from jepa_wm.objectives import sigreg

GOLDEN, META = golden_files.load('sigreg')
CASES = re.findall(r'sigreg/(\w+)/emb', ' '.join(GOLDEN))


@jax.jit
def mean_and_grad(latents, directions):
  def mean(latents):
    return sigreg.sigreg_statistic(
      latents, directions, num_knots=META['config']['knots']
    ).mean()

  return jax.value_and_grad(mean)(latents)


statistic = jax.jit(sigreg.sigreg_statistic)
# Few knots: they compile faster, and serve where the number does not matter.
drawn_statistic = jax.jit(
  functools.partial(sigreg.sigreg, num_knots=5),
  static_argnames='num_projections',
)


def knots(num_knots=17, t_min=0.0, t_max=3.0):
  """The grid of LeWM: frequencies, the normal's transform there, weights."""
  t = np.linspace(t_min, t_max, num_knots)
  phi = np.exp(-(t**2) / 2)
  weights = np.full(num_knots, 2 * (t[1] - t[0]))
  weights[[0, -1]] /= 2
  return t, phi, weights * phi


def direct(latents, directions, **grid):
  """The formula as published, every cosine at once."""
  t, phi, weights = (jnp.asarray(x, jnp.float32) for x in knots(**grid))
  phases = jnp.einsum('...bd,dp,k->...bpk', latents, directions, t)
  gap = jnp.cos(phases).mean(-3) - jnp.expand_dims(phi, range(latents.ndim - 1))
  sine = jnp.sin(phases).mean(-3)
  statistics = (gap**2 + sine**2) @ weights * latents.shape[-2]
  return statistics.mean(-1)


def normal(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize('case', CASES)
def test_matches_lewm(case):
  value, grad = mean_and_grad(GOLDEN[f'sigreg/{case}/emb'], GOLDEN['sigreg/A'])
  expected = GOLDEN[f'sigreg/{case}/grad']
  np.testing.assert_allclose(value, GOLDEN[f'sigreg/{case}/value'], rtol=1e-5)
  np.testing.assert_allclose(
    grad, expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max()
  )


@pytest.mark.parametrize(
  'grid',
  [
    {'num_knots': 3},
    {'num_knots': 65},
    {'num_knots': 2},
    # LeWM's text, and an even number.
    {'num_knots': 17, 't_min': 0.2, 't_max': 4.0},
    {'num_knots': 8, 't_max': 5.0},
  ],
  ids=str,
)
def test_equals_the_direct_formula(grid):
  latents, directions = normal(2, 3, 12, 5), normal(5, 7, seed=1)
  # Off the unit sphere on purpose: phases up to some 20.
  cotangent = normal(2, 3, seed=2)

  def run(function):
    def weighted(latents, directions):
      statistics = function(latents, directions)
      return (statistics * cotangent).sum(), statistics

    program = jax.value_and_grad(weighted, argnums=(0, 1), has_aux=True)
    return jax.jit(program)(latents, directions)

  (_, ours), grads = run(lambda *x: sigreg.sigreg_statistic(*x, **grid))
  (_, theirs), expected = run(lambda *x: direct(*x, **grid))
  assert ours.shape == (2, 3)
  np.testing.assert_allclose(ours, theirs, rtol=1e-4)
  for grad, expected_grad in zip(grads, expected):
    scale = np.abs(expected_grad).max()
    np.testing.assert_allclose(grad, expected_grad, rtol=0, atol=1e-4 * scale)


@pytest.mark.parametrize('num_samples', [4, 64])
@pytest.mark.parametrize('sigma', [1.0, 1.5])
def test_expectation_of_gaussian_samples(num_samples, sigma):
  # Each empirical transform is unbiased around phi_s = exp(-s^2 t^2 / 2), with
  # variance (1 - phi_s^2) / B; its distance from phi adds B (phi_s - phi)^2.
  _, phi, weights = knots()
  phi_s = phi ** (sigma**2)
  bias = num_samples * (phi_s - phi) ** 2
  expected = weights @ (1 - phi_s**2 + bias)
  latents = sigma * normal(500, num_samples, 4)
  statistics = np.asarray(statistic(latents, np.eye(4)))
  error = statistics.std() / np.sqrt(statistics.size)
  assert error < 0.05 * expected
  assert abs(statistics.mean() - expected) < 4 * error
  if sigma == 1:
    np.testing.assert_allclose(expected, 1.05, atol=0.005)


@pytest.mark.parametrize('point', [0.0, 0.7])
def test_a_collapsed_batch_costs_as_much_as_it_has_samples(point):
  t, phi, weights = knots()
  per_sample = weights @ (1 - 2 * np.cos(t * point) * phi + phi**2)
  for num_samples in (2, 50):
    value = statistic(np.full((num_samples, 1), point), np.ones((1, 1)))
    np.testing.assert_allclose(value, num_samples * per_sample, rtol=1e-5)


def test_directions_are_fresh_and_of_unit_length(rng_key):
  # In one dimension there are two directions, and both see the same.
  latents = normal(20, 1)
  one_way = sigreg.sigreg_statistic(latents, np.ones((1, 1)), num_knots=5)
  drawn = drawn_statistic(latents, rng_key, num_projections=5)
  np.testing.assert_allclose(drawn, one_way, rtol=1e-5)
  # A batch on one line: directions see it with any sigma from 0 to 1.
  line = normal(200, 1) * np.eye(1, 6, dtype=np.float32)
  key, other_key = jax.random.split(rng_key)
  value = drawn_statistic(line, key, num_projections=400)
  again = drawn_statistic(line, key, num_projections=400)
  other = drawn_statistic(line, other_key, num_projections=400)
  assert value == again != other
  np.testing.assert_allclose(value, other, rtol=0.1)


def test_half_precision_has_statistics_in_single(rng_key):
  latents = normal(2, 16, 4).astype(jnp.bfloat16)

  @jax.jit
  @jax.value_and_grad
  def mean_and_grad(latents):
    return drawn_statistic(latents, rng_key, num_projections=8).mean()

  value, grad = mean_and_grad(latents)
  wide_value, wide_grad = mean_and_grad(latents.astype(np.float32))
  assert value.dtype == jnp.float32 and value == wide_value
  assert grad.dtype == jnp.bfloat16
  np.testing.assert_array_equal(grad, wide_grad.astype(jnp.bfloat16))


def test_eight_devices_see_one_batch(rng_key):
  frames = normal(16, 3, 5)  # [B, T, D], as it is on the way in training

  @jax.jit
  @jax.value_and_grad
  def step(frames, rng_key):
    latents = jnp.swapaxes(frames, 0, 1)
    return drawn_statistic(latents, rng_key, num_projections=32).mean()

  value, grad = step(frames, rng_key)
  mesh = sharding.make_mesh(8)
  split = sharding.shard_batch(frames, mesh)
  program = step.lower(split, rng_key).compile()
  split_value, split_grad = program(split, rng_key)
  np.testing.assert_allclose(split_value, value, rtol=1e-5)
  np.testing.assert_allclose(
    split_grad, grad, rtol=0, atol=1e-5 * np.abs(grad).max()
  )
  # Samples stay where they are; only sums over them travel.
  assert len(split_grad.addressable_shards) == 8
  assert split_grad.addressable_shards[0].data.shape == (2, 3, 5)
  assert sharded.collectives(program) == {'all-reduce'}


@pytest.mark.slow
def test_memory_does_not_grow_with_the_knots(rng_key):
  latents = jax.ShapeDtypeStruct((2, 256, 8), jnp.float32)
  num_projections = 128

  def peak(num_knots):
    def mean(latents):
      return sigreg.sigreg(
        latents, rng_key, num_projections=num_projections, num_knots=num_knots
      ).mean()

    program = jax.jit(jax.value_and_grad(mean)).lower(latents).compile()
    return program.memory_analysis().temp_size_in_bytes

  views = 2 * 256 * num_projections * 4
  assert peak(33) < peak(9) + views
  assert peak(9) < 9 * views


def test_a_nan_is_not_swallowed(rng_key):
  latents = jnp.zeros((2, 4, 3)).at[1, 2, 0].set(jnp.nan)
  value = drawn_statistic(latents, rng_key, num_projections=4)
  assert np.isfinite(value[0]) and np.isnan(value[1])


@pytest.mark.parametrize(
  ('shape', 'options', 'message'),
  [
    ((4,), {}, r'latents must be \[\.\.\., B, D\]'),
    ((3, 1, 4), {}, 'at least two samples'),
    ((8, 4), {'num_knots': 1}, 'num_knots must be at least 2, got 1'),
    ((8, 4), {'t_min': 3.0}, 't_min must be at least 0 and below t_max, got'),
    ((8, 4), {'t_max': float('nan')}, 't_max=nan'),
    ((8, 4), {'num_projections': 0}, 'num_projections must be at least 1'),
  ],
)
def test_doors(rng_key, shape, options, message):
  with pytest.raises(ValueError, match=message):
    sigreg.sigreg(jnp.zeros(shape), rng_key, **options)


@pytest.mark.parametrize('shape', [(4,), (3, 7)])
def test_directions_must_fit(shape):
  with pytest.raises(ValueError, match=r'directions must be .* D = 4'):
    sigreg.sigreg_statistic(jnp.zeros((8, 4)), jnp.zeros(shape))
