import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm.data import digits


def clips(split='train', seed=0, num_frames=12, batch_size=4, **fields):
  options = {'num_frames': num_frames, 'batch_size': batch_size}
  return digits.moving_digits(
    digits.MovingDigits(**{'image_size': 32} | fields),
    seed=seed,
    split=split,
    **options,
  )


def test_splits_are_all_the_scans_once_and_every_digit_is_in_each():
  cuts = sorted(digits.SPLITS.values())
  assert [0] + [end for _, end in cuts] == [start for start, _ in cuts] + [1797]
  for split, (start, end) in digits.SPLITS.items():
    images, labels = digits.scans(split)
    assert images.shape == (end - start, 8, 8)
    assert images.min() == 0 and images.max() == 1
    assert np.bincount(labels, minlength=10).min() > 15
  # The first scan of the set is a zero, with its hole.
  images, labels = digits.scans('train')
  assert labels[0] == 0 and images[0, 4, 3] == 0 and images[0, 4, 5] > 0.4


def test_each_process_draws_its_rows(shared_out):
  look = digits.MovingDigits(image_size=8)
  given = {'num_frames': 2, 'batch_size': 4, 'seed': 0}
  shared_out(lambda **own: digits.moving_digits(look, **given, **own), 4)


def test_a_clip_is_what_it_says():
  batch = next(clips(num_digits=2, batch_size=16))
  assert jax.tree.map(lambda a: (a.shape, str(a.dtype)), batch) == {
    'observation': {'pixels': ((16, 12, 32, 32, 3), 'uint8')},
    'state': ((16, 12, 4), 'float32'),
    'label': ((16,), 'int32'),
  }
  assert all(isinstance(array, jax.Array) for array in jax.tree.leaves(batch))
  assert digits.MovingDigits(num_digits=2).state_names == (
    'x0', 'y0', 'x1', 'y1',
  )  # fmt: skip


def test_ink_is_the_scan_enlarged_around_its_centre():
  """At twice the size every 2x2 pixels are near their point, by hand."""
  config = digits.MovingDigits(image_size=32, digit_scale=0.5)
  images, _ = digits.scans('train')
  ink = digits.render_ink(
    config, jnp.asarray(images[:1]), jnp.full((1, 1, 2), 16.0)
  )[0, 0]
  assert ink.shape == (32, 32)
  inside = np.asarray(ink[8:24, 8:24])
  np.testing.assert_array_equal(ink[:7], 0)
  np.testing.assert_array_equal(ink[:, 25:], 0)
  # Half a point off in both directions: weights 3/4 and 1/4, squared.
  padded = np.pad(images[0], 1)
  corner = (
    9 * padded[1:9, 1:9] + 3 * padded[:8, 1:9] + 3 * padded[1:9, :8]
    + padded[:8, :8]
  ) / 16  # fmt: skip
  np.testing.assert_allclose(inside[::2, ::2], corner, atol=1e-6)
  # All ink is there, four pixels to a point.
  np.testing.assert_allclose(ink.sum(), 4 * images[0].sum(), rtol=1e-5)


def test_state_is_where_the_ink_is():
  """The ink's own centre, which the scans keep within a fifth of the middle."""
  batch = next(clips(image_size=64, batch_size=32))
  ink = np.asarray(batch['observation']['pixels'][..., 0], np.float64)
  places = np.arange(64) + 0.5
  total = ink.sum((2, 3))
  centre = np.stack(
    [(ink.sum(2) * places).sum(-1), (ink.sum(3) * places).sum(-1)], -1
  )
  offset = centre / total[..., None] - np.asarray(batch['state'])
  assert np.abs(offset).max() < 28 / 5
  # The same in all frames of a clip, but for a fading rim cut off by an edge.
  assert np.ptp(offset, axis=1).max() < 0.5


def test_digits_move_straight_and_bounce_off_every_edge():
  batch = next(clips(num_frames=200, batch_size=8, speed=0.06))
  centres = np.asarray(batch['state'])
  half = 0.4375 * 32 / 2
  assert centres.min() >= half - 1e-3 and centres.max() <= 32 - half + 1e-3
  moves = np.diff(centres, axis=1)
  # Between bounces a coordinate moves by the same amount, this way or that.
  usual = np.median(np.abs(moves), axis=1, keepdims=True)
  assert np.mean(np.abs(np.abs(moves) - usual) < 1e-3) > 0.8
  assert (np.abs(moves) <= usual + 1e-3).all()
  speed = np.sqrt((usual**2).sum(-1)) / 32
  assert speed.min() > 0.03 - 1e-4 and speed.max() < 0.06 + 1e-4
  assert (np.sign(moves).min(axis=1) < 0).all()
  assert (np.sign(moves).max(axis=1) > 0).all()


def test_resumed_is_uninterrupted_and_compiled_once(resumed):
  digits._draw.clear_cache()
  first, second = resumed(clips)
  assert not np.array_equal(first['state'], second['state'])
  assert not np.array_equal(first['state'], next(clips(seed=1))['state'])
  assert digits._draw._cache_size() == 1
  held_out = next(clips('held_out'))
  assert not np.array_equal(first['state'], held_out['state'])


def test_backgrounds():
  plain = next(clips())['observation']['pixels']
  noise = next(clips(background='noise'))['observation']['pixels']
  texture = next(clips(background='texture'))['observation']['pixels']
  np.testing.assert_array_equal(plain[..., :1], plain[..., 2:])
  where = np.asarray(plain) == 0
  for behind in (noise, texture):
    behind = np.asarray(behind).astype(int)
    assert behind[where].max() <= round(0.6 * 255) and behind[where].std() > 20
    # Where there is ink it covers what is behind it.
    np.testing.assert_array_equal(behind[np.asarray(plain) == 255], 255)
  change = lambda x: np.abs(np.diff(np.asarray(x).astype(int), axis=1))
  still = np.repeat(np.all(where, axis=1, keepdims=True), 11, axis=1)
  # One grey level: ink too faint to be seen on black.
  assert change(texture)[still].max() <= 1
  assert change(noise)[still].mean() > 20


@pytest.mark.parametrize(
  ('fields', 'sentence'),
  [
    ({'image_size': 4}, 'image_size must be at least 8, got 4'),
    ({'num_digits': 0}, 'num_digits must be at least 1'),
    ({'digit_scale': 1.0}, 'digit_scale must be between 0 and 1'),
    ({'speed': float('nan')}, 'speed must be in 0..1, got nan'),
    ({'background_strength': 2.0}, 'background_strength must be in 0..1'),
    ({'background': 'stars'}, "background must be one of .* got 'stars'"),
    ({'num_frames': 0}, 'num_frames and batch_size must be at least 1'),
    ({'split': 'test'}, "split must be one of .* got 'test'"),
  ],
)
def test_doors(fields, sentence):
  with pytest.raises(ValueError, match=sentence):
    clips(**fields)
