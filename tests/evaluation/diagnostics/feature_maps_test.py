import io

import numpy as np
import PIL.Image
import pytest

from jepa_wm.evaluation.diagnostics import feature_maps


def test_components_in_the_order_of_their_variance():
  """Three waves of falling size, mixed by a rotation, come back as colours."""
  rng = np.random.default_rng(0)
  # Skewed, so that their signs are known too.
  waves = rng.exponential(size=(4000, 3))
  rotation = np.linalg.qr(rng.normal(size=(5, 5)))[0]
  features = (waves * [9, 3, 1]) @ rotation[:3] + 100
  colors = feature_maps.principal_colors(features.reshape(40, 100, 5))
  assert colors.shape == (40, 100, 3)
  assert colors.min() == 0 and colors.max() == 1
  flat = colors.reshape(-1, 3)
  for index in range(3):
    low, high = np.percentile(waves[:, index], [2, 98])
    expected = np.clip((waves[:, index] - low) / (high - low), 0, 1)
    assert np.abs(flat[:, index] - expected).mean() < 0.03
  # A component's sign means nothing, so neither do those of the features.
  turned = feature_maps.principal_colors(-features)
  assert np.abs(turned - (1 - flat)).max() > 0.1


def test_missing_components_are_grey_and_a_rare_patch_is_seen():
  features = np.zeros((1, 10, 10, 4))
  features[0, 3, 4] = [1, 0, 0, 0]
  colors = feature_maps.principal_colors(features)
  assert colors[0, 3, 4, 0] == 1 and colors[..., 0].sum() == 1
  np.testing.assert_array_equal(colors[..., 1:], 0.5)


def test_the_picture_shows_frames_and_maps():
  frames = np.zeros((4, 8, 8, 3), np.uint8)
  maps = {'ours': np.random.default_rng(0).normal(size=(2, 2, 2, 5))}
  with PIL.Image.open(io.BytesIO(feature_maps.draw(frames, maps))) as image:
    assert image.format == 'PNG' and image.width > image.height > 100
  with pytest.raises(ValueError, match='a divisor of the 4 frames'):
    feature_maps.draw(frames, {'ours': np.zeros((3, 2, 2, 5))})
  with pytest.raises(ValueError, match='with NaN in it'):
    feature_maps.principal_colors(np.full((4, 2), np.nan))
