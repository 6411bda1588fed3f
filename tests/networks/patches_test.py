import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm.networks import patches


def test_patchify_cuts_row_by_row():
  pixels = np.arange(2 * 4 * 6 * 3).reshape(2, 4, 6, 3)
  cut = patches.patchify(jnp.asarray(pixels), patch_size=2)
  assert cut.shape == (2, 2, 3, 12)
  for row in range(2):
    for column in range(3):
      expected = pixels[
        :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2
      ].reshape(2, -1)
      np.testing.assert_array_equal(cut[:, row, column], expected)


def test_embedding_is_a_convolution_with_stride(rng_key, draw):
  pixels = draw(2, 3, 8, 12, 3)
  module = patches.PatchEmbedding(features=5, patch_size=4)
  variables = module.init(rng_key, pixels)
  dense = variables['params']['projection']
  expected = jax.lax.conv_general_dilated(
    pixels.reshape(6, 8, 12, 3),
    dense['kernel'].reshape(4, 4, 3, 5),
    (4, 4),
    'VALID',
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  )
  np.testing.assert_allclose(
    module.apply(variables, pixels).reshape(expected.shape), expected, atol=1e-5
  )


def cubic(grid, row, column):
  """One bicubic sample, tap by tap, with edges repeated and a = -0.75."""

  def weight(x):
    x, a = abs(x), -0.75
    if x <= 1:
      return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0

  rows, columns = grid.shape
  total = 0
  for i in range(int(np.floor(row)) - 1, int(np.floor(row)) + 3):
    for j in range(int(np.floor(column)) - 1, int(np.floor(column)) + 3):
      tap = grid[min(max(i, 0), rows - 1), min(max(j, 0), columns - 1)]
      total += weight(row - i) * weight(column - j) * tap
  return total


@pytest.mark.parametrize('shape', [(6, 5), (2, 9)])
def test_resize_samples_the_cubic(draw, shape):
  grid = draw(4, 4)
  resized = patches.resize_positions(jnp.asarray(grid)[..., None], shape=shape)
  expected = [
    [
      cubic(
        grid, (i + 0.5) * 4 / shape[0] - 0.5, (j + 0.5) * 4 / shape[1] - 0.5
      )
      for j in range(shape[1])
    ]
    for i in range(shape[0])
  ]
  np.testing.assert_allclose(resized[..., 0], expected, atol=1e-5)


def test_native_grid_is_untouched(draw):
  grid = draw(3, 3, 2)
  assert patches.resize_positions(grid, shape=(3, 3)) is grid


def test_doors():
  with pytest.raises(ValueError, match=r'pixels of 5 x 4 .* patch_size=4'):
    patches.patchify(jnp.zeros((5, 4, 3)), patch_size=4)
  with pytest.raises(ValueError, match='pixels must be images'):
    patches.patchify(jnp.zeros((4, 4)), patch_size=4)
