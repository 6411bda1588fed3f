"""Masks of published ablations against samplers written plainly."""

import numpy as np
import pytest

from jepa_wm import fields
from jepa_wm.objectives import mask_settings, random_masks, rasterized_masks

CLIP = 8, 14, 14


def rng():
  return np.random.default_rng(0)


def released_tube(hidden, grid, draws):
  """V-JEPA's released random tube, token by token."""
  frames, height, width = grid
  keep = int(height * width * (1 - hidden))
  mask = np.zeros(height * width, bool)
  mask[:keep] = True
  draws.shuffle(mask)
  return np.concatenate([mask] * frames)


def test_random_tubes_are_those_of_the_released_sampler():
  spec = random_masks.RandomTubeSpec(CLIP, 0.9)
  context, target = spec.place(None, rng(), 500)
  released = released_tube(0.9, CLIP, rng())
  assert set(context.sum(-1)) == {released.sum()} == {8 * 19}
  np.testing.assert_array_equal(target, ~context)
  tubes = context.reshape(500, 8, 196)
  assert (tubes == tubes[:, :1]).all()
  # Every place as often: 19 of 196, within 5 deviations of a binomial.
  share = tubes[:, 0].mean(0)
  deviation = np.sqrt(19 / 196 * (1 - 19 / 196) / 500)
  assert np.abs(share - 19 / 196).max() < 5 * deviation


@pytest.mark.parametrize(
  ('grid', 'hidden', 'kept'),
  [((1, 14, 14), 0.6, 78), ((1, 10, 10), 0.9, 10), ((2, 6, 6), 0.9, 3)],
)
def test_random_masks_keep_whole_places(grid, hidden, kept):
  assert random_masks.RandomTubeSpec(grid, hidden).num_places == kept


@pytest.mark.parametrize('frames', [1, 2])
def test_rasterized_masks_are_quadrants(frames):
  spec = rasterized_masks.QuadrantSpec((frames, 4, 6))
  context, target = spec.place(None, rng(), 200)
  assert target.shape == (200, 3, frames * 24)
  # Each token is in one set, and each set is one quadrant of every frame.
  assert (context + target.sum(1) == 1).all()
  corners = {
    (0, 0): np.s_[:2, :3],
    (0, 3): np.s_[:2, 3:],
    (2, 0): np.s_[2:, :3],
    (2, 3): np.s_[2:, 3:],
  }
  seen = []
  for sets in np.concatenate([context[:, None], target], 1):
    for number, members in enumerate(sets.reshape(4, frames, 4, 6)):
      corner = tuple(np.argwhere(members[0])[0].tolist())
      wanted = np.zeros((frames, 4, 6), bool)
      wanted[:, *corners[corner]] = True
      np.testing.assert_array_equal(members, wanted)
      if number == 0:
        seen.append(corner)
  counts = [seen.count(corner) for corner in corners]
  assert min(counts) > 25  # 50 each, of which the deviation is 6.


@pytest.mark.parametrize(
  ('masks', 'grid'),
  [
    ({'name': 'random_tube'}, (2, 6, 6)),
    ({'name': 'random_tube', 'hidden_percent': 60}, (1, 8, 8)),
    ({'name': 'rasterized'}, (1, 8, 8)),
  ],
)
def test_they_are_drawn_in_one_shape(masks, grid):
  settings = fields.from_dict(mask_settings.MASKS, masks)
  (bucket,) = mask_settings.buckets(settings, grid, 4)
  (drawn,) = mask_settings.draw(settings, grid, rng(), 4)
  assert bucket == ((drawn.context_ids.shape[-1], drawn.target_ids.shape[-1]),)
  assert drawn.context_valid.all()
  assert drawn.target_valid.all()
  assert drawn.target_ids.ndim == (3 if masks['name'] == 'rasterized' else 2)


@pytest.mark.parametrize(('percent', 'kept'), [(37.5, 3), (75, 6), (100, 8)])
def test_causal_masks_keep_exact_frames(percent, kept):
  """Causal multi-block[6] and [12] of 16 frames, in tubelets of two."""
  settings = mask_settings.VideoMasks(context_temporal_percent=percent)
  for spec in settings.specs(CLIP):
    assert spec.num_kept_frames == kept
    context, _ = spec.place(spec.draw_size(rng()), rng(), 64)
    per_frame = context.reshape(64, 8, 196).any(-1).any(0)
    np.testing.assert_array_equal(per_frame, np.arange(8) < kept)


@pytest.mark.parametrize(
  ('make_fn', 'message'),
  [
    (
      lambda: mask_settings.VideoMasks(context_temporal_percent=37).specs(CLIP),
      'is 2.96 of the 8 frames of tokens .* take 25 or 37.5',
    ),
    (
      lambda: random_masks.RandomTubeMasks(hidden_percent=99.9).specs(CLIP),
      'leaves 0 of the 196 places',
    ),
    (
      lambda: random_masks.RandomTubeMasks(hidden_percent=0).specs(CLIP),
      'leaves 196 of the 196 places',
    ),
    (
      lambda: rasterized_masks.RasterizedMasks().specs((1, 7, 8)),
      'even number of tokens .* 7 x 8',
    ),
  ],
)
def test_masks_that_make_no_sense_are_refused(make_fn, message):
  with pytest.raises(ValueError, match=message):
    make_fn()


@pytest.mark.parametrize(
  ('target', 'sides'), [((7.5, 20.0), (3, 4)), ((12.5, 20.0), (4, 6))]
)
def test_shares_of_targets_are_as_fine_as_published(target, sides):
  """I-JEPA's Table 8: the smallest target of 196 tokens, at aspect 0.75."""
  settings = mask_settings.ImageMasks(target_percent=target)
  (spec,) = settings.specs((1, 14, 14))
  smallest = min(spec.sizes(), key=lambda size: size[0].prod())
  assert tuple(smallest[0]) == sides
