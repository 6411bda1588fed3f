import numpy as np
import pytest

from jepa_wm.data import resizing


def areas(frame, size):
  """Mean of what each new pixel covers: blown up, then averaged in blocks."""
  height, width, _ = frame.shape
  large = frame.repeat(size, axis=0).repeat(size, axis=1).astype(float)
  return large.reshape(size, height, size, width, 3).mean(axis=(1, 3))


@pytest.mark.parametrize('shape', [(12, 12), (12, 20), (13, 8)])
def test_smaller_is_by_area(shape):
  rng = np.random.default_rng(0)
  pixels = rng.integers(0, 256, (2, *shape, 3), np.uint8)
  got = resizing.resize_frames(pixels, size=8)
  assert got.dtype == np.uint8 and got.flags.c_contiguous
  for frame, expected in zip(got, pixels, strict=True):
    assert np.abs(frame - areas(expected, 8)).max() <= 0.501


def test_crop_takes_the_middle():
  pixels = np.zeros((1, 4, 10, 3), np.uint8)
  pixels[:, :, 3:7] = 200
  np.testing.assert_array_equal(
    resizing.resize_frames(pixels, size=2, fit='crop'), 200
  )
  assert resizing.resize_frames(pixels, size=2).min() < 200


def test_the_same_size_is_the_same_frames():
  pixels = np.random.default_rng(0).integers(0, 256, (3, 5, 5, 3), np.uint8)
  np.testing.assert_array_equal(resizing.resize_frames(pixels, size=5), pixels)


def test_larger_stays_between_its_neighbours():
  pixels = np.array([[[[0] * 3, [90] * 3], [[0] * 3, [90] * 3]]], np.uint8)
  got = resizing.resize_frames(pixels, size=6)
  assert got.shape == (1, 6, 6, 3)
  assert (np.diff(got[0, 0, :, 0].astype(int)) >= 0).all()
  assert got[0, 0, 0, 0] == 0 and got[0, 0, -1, 0] == 90


@pytest.mark.parametrize(
  'options, message',
  [
    ({'size': 0}, 'size must be at least 1'),
    ({'size': 2, 'fit': 'crob'}, "one of stretch, crop, got .* mean 'crop'"),
  ],
)
def test_what_cannot_be_is_refused(options, message):
  with pytest.raises(ValueError, match=message):
    resizing.resize_frames(np.zeros((1, 4, 4, 3), np.uint8), **options)
