import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm import units


@pytest.fixture
def statistics():
  return units.ActionStatistics(
    mean=np.array([1.0, -2.0], np.float32), std=np.array([0.5, 4.0], np.float32)
  )


def test_fit_equals_numpy_and_ignores_rows_with_nan():
  rng = np.random.default_rng(0)
  actions = rng.normal([3.0, -1.0], [0.1, 5.0], (50, 2)).astype(np.float32)
  with_nan = actions.copy()
  with_nan[[4, 20], [0, 1]] = np.nan
  rows = np.delete(actions, [4, 20], axis=0).astype(np.float64)
  got = units.fit(with_nan.reshape(5, 10, 2))
  np.testing.assert_allclose(got.mean, rows.mean(0), rtol=1e-6)
  np.testing.assert_allclose(
    got.std, np.sqrt(((rows - rows.mean(0)) ** 2).mean(0)), rtol=1e-6
  )


def test_fit_gives_a_constant_dimension_unit_std():
  actions = np.stack([np.arange(4.0), np.full(4, 0.3)], axis=-1)
  got = units.fit(actions)
  assert got.std[1] == 1.0
  normalized = got.normalize(jnp.asarray(actions, jnp.float32))
  np.testing.assert_allclose(normalized[:, 1], 0.0, atol=1e-7)


@pytest.mark.parametrize('block', [1, 5])
def test_normalize_treats_every_raw_action_of_a_block_alike(statistics, block):
  actions = np.random.default_rng(0).normal(size=(3, 4, block, 2))
  actions = actions.astype(np.float32)
  expected = (actions - statistics.mean) / statistics.std
  blocks = jnp.asarray(actions.reshape(3, 4, block * 2))
  got = jax.jit(lambda s, a: s.normalize(a))(statistics, blocks)
  np.testing.assert_allclose(got, expected.reshape(3, 4, -1), rtol=1e-6)
  np.testing.assert_allclose(statistics.denormalize(got), blocks, atol=1e-6)


def test_json_keeps_every_bit():
  fitted = units.fit(np.random.default_rng(1).normal(size=(9, 3)))
  text = json.dumps(fitted.to_dict())
  again = units.ActionStatistics.from_dict(json.loads(text))
  np.testing.assert_array_equal(again.mean, fitted.mean)
  np.testing.assert_array_equal(again.std, fitted.std)
  assert again.std.dtype == np.float32


@pytest.mark.parametrize('shape', [(3,), (2, 5), (), (4, 0)])
def test_normalize_refuses_half_an_action(statistics, shape):
  with pytest.raises(ValueError, match='actions must end in a multiple of 2'):
    statistics.normalize(jnp.zeros(shape))


@pytest.mark.parametrize(
  ('fields', 'message'),
  [
    ({'mean': [0.0]}, 'numbers inside'),
    ({'mean': ['x'], 'std': [1.0]}, 'numbers inside'),
    ({'mean': [0.0], 'std': [1.0, 1.0]}, 'one mean and one std'),
    ({'mean': [0.0], 'std': [0.0]}, 'positive std'),
    ({'mean': [float('nan')], 'std': [1.0]}, 'finite'),
  ],
)
def test_from_dict_refuses(fields, message):
  with pytest.raises(ValueError, match=message):
    units.ActionStatistics.from_dict(fields)


def test_fit_refuses_what_has_no_rows():
  with pytest.raises(ValueError, match='no row without NaN'):
    units.fit(np.full((3, 2), np.nan))
  with pytest.raises(ValueError, match=r'\[\.\.\., raw_dim\]'):
    units.fit(np.zeros(3))


@pytest.mark.parametrize('leading', [(), (2, 3)])
def test_normalize_pixels_equals_the_published_formula(leading):
  pixels = np.random.default_rng(0).integers(0, 256, (*leading, 4, 5, 3))
  pixels = pixels.astype(np.uint8)
  mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
  expected = (pixels / 255.0 - mean) / std
  got = units.normalize_pixels(jnp.asarray(pixels))
  assert got.dtype == jnp.float32
  np.testing.assert_allclose(got, expected, atol=1e-6)
  half = units.normalize_pixels(jnp.asarray(pixels), dtype=jnp.bfloat16)
  np.testing.assert_array_equal(half, got.astype(jnp.bfloat16))


def test_normalize_pixels_refuses_floats_and_other_channels():
  with pytest.raises(ValueError, match='pixels must be uint8'):
    units.normalize_pixels(jnp.zeros((4, 4, 3)))
  with pytest.raises(ValueError, match=r'pixels must be \[\.\.\., height'):
    units.normalize_pixels(jnp.zeros((4, 4, 1), jnp.uint8))


def test_one_hot_rows_are_left_as_they_are():
  rows = np.eye(3, dtype=np.float32)[[0, 0, 2, 0]]
  found = units.fit(rows)
  np.testing.assert_array_equal(found.mean, np.zeros(3))
  np.testing.assert_array_equal(found.std, np.ones(3))
  # Two bits are no choice.
  assert np.any(units.fit(rows[:, :2]).mean != 0)
