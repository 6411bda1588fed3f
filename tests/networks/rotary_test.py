import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm.networks import rotary


def oracle(x, position, style):
  """The published formula for one head, written plainly."""
  segment = 2 * ((len(x) // 3) // 2)
  out = np.array(x, np.float64)
  for axis, place in enumerate(position):
    first = axis * segment
    omega = 10000.0 ** (-np.arange(segment // 2) / (segment // 2))
    angles = [place * w for w in omega]
    if style == 'vjepa2':
      angles = angles + angles
    else:
      angles = [a for a in angles for _ in range(2)]
    for i in range(0, segment, 2):
      a, b = x[first + i], x[first + i + 1]
      out[first + i] = a * np.cos(angles[i]) - b * np.sin(angles[i])
      out[first + i + 1] = b * np.cos(angles[i + 1]) + a * np.sin(angles[i + 1])
  return out


def turn(x, positions, style):
  by = rotary.rotation(
    jnp.asarray(positions), head_dim=x.shape[-1], style=style
  )
  return np.asarray(rotary.rotate(jnp.asarray(x), by))


@pytest.mark.parametrize('style', rotary.STYLES)
# With channels that do not turn: none, two, and an odd one.
@pytest.mark.parametrize('head_dim', [12, 32, 25])
def test_equals_the_formula(draw, style, head_dim):
  x = draw(5, 2, head_dim)
  positions = np.array([(0, 0, 0), (1, 2, 3), (7, 0, 15), (0, 4, 0), (3, 3, 3)])
  turned = turn(x, positions, style)
  for t, h in np.ndindex(5, 2):
    expected = oracle(x[t, h], positions[t], style)
    np.testing.assert_allclose(turned[t, h], expected, rtol=0, atol=1e-5)


def test_only_interleaved_angles_see_differences_alone(draw):
  query, key = draw(2, 1, 1, 24)
  near, far = np.array([[1, 2, 3]]), np.array([[2, 0, 5]])
  shift = np.array([[4, 9, 1]])
  products = {
    style: [
      float(np.sum(turn(query, near + s, style) * turn(key, far + s, style)))
      for s in (0 * shift, shift)
    ]
    for style in rotary.STYLES
  }
  assert products['interleaved'][0] == pytest.approx(
    products['interleaved'][1], abs=1e-4
  )
  assert abs(products['vjepa2'][0] - products['vjepa2'][1]) > 0.1


@pytest.mark.slow
def test_positions_may_differ_by_sample(draw):
  x = draw(3, 4, 2, 12)
  positions = np.random.default_rng(0).integers(0, 9, (3, 4, 3))
  turned = turn(x, positions, 'vjepa2')
  for b in range(3):
    alone = turn(x[b], positions[b], 'vjepa2')
    np.testing.assert_allclose(turned[b], alone, rtol=0, atol=1e-6)


def test_the_last_tokens_turn_as_they_did_among_all(draw):
  x = draw(6, 2, 12)
  by = rotary.rotation(
    rotary.grid_positions(jnp.arange(6), (2, 1, 3)), head_dim=12
  )
  np.testing.assert_array_equal(
    rotary.rotate(x[-2:], rotary.Rotation(by.cos[-2:], by.sin[-2:])),
    rotary.rotate(x, by)[-2:],
  )


def test_ids_are_places_in_the_grid():
  grid = (3, 4, 5)
  ids = jnp.arange(60)
  expected = np.stack(np.unravel_index(np.arange(60), grid), axis=-1)
  np.testing.assert_array_equal(rotary.grid_positions(ids, grid), expected)


def test_angles_stay_float32_in_bfloat16(draw):
  x = jnp.asarray(draw(1, 1, 12), jnp.bfloat16)
  by = rotary.rotation(jnp.array([[31, 31, 31]]), head_dim=12)
  turned = rotary.rotate(x, by)
  assert turned.dtype == jnp.bfloat16
  expected = oracle(np.asarray(x, np.float64)[0, 0], (31, 31, 31), 'vjepa2')
  np.testing.assert_allclose(
    np.asarray(turned, np.float64)[0, 0], expected, rtol=1e-2, atol=1e-2
  )


def test_doors():
  positions = jnp.zeros((2, 3))
  with pytest.raises(ValueError, match=r'at least 6.*got 5'):
    rotary.rotation(positions, head_dim=5)
  with pytest.raises(ValueError, match="of vjepa2, interleaved, got 'tiled'"):
    rotary.rotation(positions, head_dim=12, style='tiled')
