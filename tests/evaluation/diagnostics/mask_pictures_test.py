import io

import matplotlib.colors
import numpy as np
import PIL.Image
import pytest

from jepa_wm import models
from jepa_wm.evaluation.diagnostics import mask_pictures
from jepa_wm.evaluation.report import figures
from jepa_wm.objectives import mask_buckets


def test_targets_are_painted_over_and_cut_tokens_faded():
  frames = np.full((4, 4, 6, 3), 51, np.uint8)
  context, target = np.zeros((2, 2, 2, 3), bool)
  context[0, 0, 0] = target[1, 1, 2] = True
  images = mask_pictures.masked_frames(frames, context, target)
  assert images.shape == frames.shape
  paint = matplotlib.colors.to_rgb(figures.LIGHT.first)
  # Tokens are of 2 frames, 2 rows and 2 columns.
  np.testing.assert_allclose(images[:2, :2, :2], 0.2)
  np.testing.assert_allclose(
    images[2:, 2:, 4:], np.broadcast_to(paint, (2, 2, 2, 3))
  )
  np.testing.assert_allclose(images[2:, :2], 0.8)  # 3/4 of the way to white.
  np.testing.assert_allclose(images[:2, 2:], 0.8)


def _figure(model, frames):
  masks = model.draw(np.random.default_rng(0), 4)['masks']
  picture = mask_pictures.draw(frames, masks, model.grid)
  with PIL.Image.open(io.BytesIO(picture)) as image:
    assert image.format == 'PNG'
    return image.size


def test_every_kind_of_mask_of_a_model_is_a_row():
  def build(name, masks, **encoder):
    return models.from_config(
      {
        'name': name,
        'encoder': {
          'image_size': 32,
          'patch_size': 4,
          'width': 24,
          'num_heads': 2,
          **encoder,
        },
        'predictor': {'width': 24, 'num_heads': 2},
        'masks': {'num_buckets': 1, 'min_context': 4, **masks},
      }
    )

  clip = np.zeros((4, 32, 32, 3), np.uint8)
  two_kinds = build('vjepa', {'truncate': 'none'}, num_frames=4)
  width, height = _figure(two_kinds, clip)
  one_kind = {'blocks': (4,), 'percent': (15,)}
  found = _figure(build('vjepa', one_kind, num_frames=4), clip)
  assert found == (width, pytest.approx(0.68 * height, abs=9))
  assert _figure(build('ijepa', {}), clip[:1])[0] < width


def test_padding_is_not_painted(monkeypatch):
  shown = []
  monkeypatch.setattr(
    mask_pictures,
    'masked_frames',
    lambda frames, *sets: shown.append(sets) or frames / 255,
  )
  masks = mask_buckets.Masks(
    np.array([[3, 0]]), np.array([[True, False]]),
    np.array([[[1, 2], [2, 0]]]), np.array([[[True, True], [True, False]]]),
  )  # fmt: skip
  mask_pictures.draw(np.zeros((1, 4, 4, 3), np.uint8), [masks], (1, 2, 2))
  ((context, target, _),) = shown
  np.testing.assert_array_equal(context, [[[False, False], [False, True]]])
  np.testing.assert_array_equal(target, [[[False, True], [True, False]]])


def test_a_grid_that_does_not_divide_the_frames_is_named():
  frames = np.zeros((4, 32, 32, 3), np.uint8)
  sets = np.zeros((2, 3, 3, 3), bool)
  with pytest.raises(ValueError, match=r'multiples, got \[3, 3, 3\]'):
    mask_pictures.masked_frames(frames, *sets)
