import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm import sharding
from jepa_wm.data import augmentation

Augmentation = augmentation.Augmentation
RNG = np.random.default_rng(0)
# Still clips: whatever differs between frames was drawn for each of them.
STILL = np.repeat(RNG.integers(0, 256, (8, 1, 12, 16, 3), np.uint8), 3, axis=1)
EVERYTHING = Augmentation(
  crop_scale=0.4, flip=0.5, shift=2, brightness=0.2, contrast=0.3,
  saturation=0.4, hue=0.1,
)  # fmt: skip


def apply(augment, pixels=STILL, seed=0):
  return np.asarray(jax.jit(augment)(jax.random.key(seed), pixels))


def test_nothing_is_done_by_default():
  assert Augmentation().is_identity and not EVERYTHING.is_identity
  np.testing.assert_array_equal(apply(Augmentation()), STILL)
  # A wide ratio alone crops nothing.
  np.testing.assert_array_equal(apply(Augmentation(crop_ratio=2)), STILL)


@pytest.mark.parametrize(
  'fields',
  [{'shift': 1e-6}, {'brightness': 1e-6, 'contrast': 1e-6, 'hue': 1e-6}],
)
def test_next_to_no_strength_is_next_to_nothing(fields):
  """All of the arithmetic, hue and resampling among it, is an identity."""
  change = apply(Augmentation(**fields)).astype(int) - STILL
  assert np.abs(change).max() <= 1


def test_one_draw_per_clip_and_a_key_decides():
  once = apply(EVERYTHING)
  assert once.shape == STILL.shape and once.dtype == np.uint8
  np.testing.assert_array_equal(once[:, 0], once[:, 2])
  np.testing.assert_array_equal(once, apply(EVERYTHING))
  assert np.abs(once.astype(int) - apply(EVERYTHING, seed=1)).mean() > 5
  same = np.repeat(STILL[:1], 8, axis=0)
  drawn = apply(EVERYTHING, same)
  assert len({clip.tobytes() for clip in drawn}) == 8


def test_flips():
  flipped = apply(Augmentation(flip=1.0))
  np.testing.assert_array_equal(flipped, STILL[:, :, :, ::-1])
  some = apply(Augmentation(flip=0.5), np.repeat(STILL, 25, axis=0))
  share = np.mean(
    np.all(some == np.repeat(STILL, 25, axis=0), axis=(1, 2, 3, 4))
  )
  assert 0.4 < share < 0.6


def _ramp(height=12, width=16):
  """A clip whose red is its column and whose green its row, times ten."""
  rows, columns = np.mgrid[:height, :width] * 10
  frame = np.stack([columns, rows, 0 * rows], -1).astype(np.uint8)
  return np.repeat(frame[None, None], 400, axis=0)


def test_shifts_move_by_pixels_and_repeat_edges():
  shifted = apply(Augmentation(shift=2), _ramp()).astype(float)[:, 0]
  # Away from the edges a ramp stays a ramp, moved.
  moved = (_ramp()[0, 0] - shifted)[:, 3:-3, 3:-3, :2] / 10
  assert np.ptp(moved, axis=(1, 2)).max() <= 0.1 + 1e-6
  moved = moved.mean((1, 2))
  for axis in (0, 1):
    assert -2 <= moved[:, axis].min() < -1.8 and 1.8 < moved[:, axis].max() <= 2
  assert shifted.max() == 150 and shifted.min() == 0


def test_crops_lie_in_the_frame_and_have_the_areas_and_shapes_asked_for():
  cropped = apply(Augmentation(crop_scale=0.3), _ramp()).astype(float)[:, 0]
  # Slopes of the ramps tell the sides of a crop.
  sides = np.stack(
    [
      np.median(np.diff(cropped[..., 1], axis=1), axis=(1, 2)) / 10,
      np.median(np.diff(cropped[..., 0], axis=2), axis=(1, 2)) / 10,
    ]
  )
  area, ratio = sides.prod(0), sides[1] / sides[0]
  assert 0.2 < area.min() < 0.45 and 0.85 < area.max() < 1.1
  assert ratio.min() > 0.6 and ratio.max() < 1.6
  assert cropped[..., 0].max() <= 150 and cropped[..., 1].max() <= 110


def test_colors_are_those_of_the_formulas():
  """Grey clips tell brightness and contrast; hue keeps the largest value."""
  grey = np.repeat(RNG.integers(80, 160, (64, 2, 6, 6, 1), np.uint8), 3, -1)
  brighter = apply(Augmentation(brightness=0.2), grey).astype(float)
  added = brighter - grey
  assert np.ptp(added, axis=(1, 2, 3, 4)).max() <= 1
  assert -51 <= added.min() < -40 and 40 < added.max() <= 51
  harder = apply(Augmentation(contrast=0.5), grey).astype(float)
  np.testing.assert_allclose(
    harder.mean((1, 2, 3, 4)), grey.mean((1, 2, 3, 4)), atol=0.5
  )
  factor = harder.std((1, 2, 3, 4)) / grey.std((1, 2, 3, 4))
  assert 0.48 < factor.min() < 0.6 and 1.4 < factor.max() < 1.52
  for fields in ({'hue': 0.5}, {'saturation': 0.5}):
    colored = apply(Augmentation(**fields)).astype(int)
    assert np.abs(colored.max(-1) - STILL.max(-1)).max() <= 1
    assert np.abs(colored - STILL).mean() > 5


def test_eight_devices_are_one():
  mesh = sharding.make_mesh()
  assert mesh.size == 8
  sharded = sharding.shard_batch({'pixels': STILL}, mesh)['pixels']
  np.testing.assert_array_equal(apply(EVERYTHING, sharded), apply(EVERYTHING))


def test_what_changes_the_meaning_of_actions():
  assert EVERYTHING.changes_actions == ('crop_scale', 'flip')
  assert Augmentation(shift=4, hue=0.1).changes_actions == ()


def test_doors():
  with pytest.raises(ValueError, match=r'augmentation.flip must be in 0..1'):
    Augmentation(flip=1.5)
  with pytest.raises(ValueError, match=r'hue must be in 0..0.5, got nan'):
    Augmentation(hue=float('nan'))
  with pytest.raises(ValueError, match=r'uint8 \[B, T, height, width, 3\]'):
    EVERYTHING(jax.random.key(0), jnp.zeros((2, 3, 4, 4, 3)))
