import numpy as np
import pytest

from jepa_wm.networks import sincos


def axis(position, size):
  omega = [10000.0 ** (-i / (size / 2)) for i in range(size // 2)]
  return [np.sin(position * w) for w in omega] + [
    np.cos(position * w) for w in omega
  ]


# 16: three times 6 channels, of which two are cut; 12: exact.
@pytest.mark.parametrize('features', [12, 16])
def test_clips_encode_time_then_row_then_column(features):
  grid = (2, 3, 4)
  table = sincos.table(grid, features)
  share = 2 * -(-features // 6)
  for index, place in enumerate(np.ndindex(grid)):
    whole = np.concatenate([axis(x, share) for x in place])
    np.testing.assert_allclose(table[index], whole[:features], atol=1e-6)


@pytest.mark.parametrize(
  ('order', 'axes'), [('time_first', (0, 1)), ('column_first', (1, 0))]
)
def test_images_encode_one_axis_in_each_half(order, axes):
  table = sincos.table((1, 3, 4), 8, order=order)
  for index, place in enumerate(np.ndindex(3, 4)):
    whole = np.concatenate([axis(place[a], 4) for a in axes])
    np.testing.assert_allclose(table[index], whole, atol=1e-6)


def test_published_sizes_are_whole():
  # V-JEPA 1's ViT-L and ViT-H, where the shares are rounded up and cut.
  for features in (1024, 1280, 384):
    assert sincos.table((8, 14, 14), features).shape == (1568, features)


def test_another_grid_stretches_the_table():
  small = (2, 2, 2)
  table = sincos.table(small, 12)
  same = sincos.resized_table(small, 12, trained_grid=small)
  np.testing.assert_array_equal(same, table)
  longer = np.asarray(
    sincos.resized_table((4, 2, 2), 12, trained_grid=small)
  ).reshape(4, 2, 2, 12)
  first, last = table.reshape(2, 2, 2, 12)
  # Half-pixel centres: ends repeat, between them three quarters to one.
  np.testing.assert_allclose(longer[0], first, atol=1e-6)
  np.testing.assert_allclose(longer[1], 0.75 * first + 0.25 * last, atol=1e-6)
  np.testing.assert_allclose(longer[3], last, atol=1e-6)


def test_doors():
  with pytest.raises(ValueError, match='order must be one of'):
    sincos.table((1, 2, 2), 8, order='row')
  with pytest.raises(ValueError, match='single frames, got a grid of 2'):
    sincos.table((2, 2, 2), 8, order='column_first')
  with pytest.raises(ValueError, match='even size of 4 or more, got 7'):
    sincos.table((1, 2, 2), 7)
