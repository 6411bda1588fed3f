import functools

import golden_files
import numpy as np
import pytest

from jepa_wm.objectives import mask_buckets, masking

GOLDEN, META = golden_files.load('masks')
SETTINGS = META['config']['masks']
GRID = 8, 14, 14
CAUSAL = masking.VideoMaskSpec(
  GRID,
  num_blocks=4,
  spatial_scale=(0.2, 0.2),
  temporal_scale=(0.5, 1.0),
  max_temporal_keep=0.75,
)
VIDEO = {
  'short': masking.short_range(GRID),
  'long': masking.long_range(GRID),
  'causal': CAUSAL,
}
IMAGE = masking.ImageMaskSpec((14, 14))


def published(name):
  """The masks of one of the golden groups."""
  settings = SETTINGS[name]
  return masking.VideoMaskSpec(
    tuple(settings['grid_thw']),
    num_blocks=settings['num_blocks'],
    spatial_scale=tuple(settings['spatial_scale']),
    temporal_scale=tuple(settings['temporal_scale']),
    aspect_ratio=tuple(settings['aspect_ratio']),
    max_temporal_keep=settings['max_temporal_keep'],
  )


def rng(*seed):
  return np.random.default_rng(seed)


def cut(members):
  """The released truncation: every set as long as the shortest, last go."""
  length = int(members.sum(-1).min())
  ids, valid = mask_buckets.pack(members, length, rng(0))
  assert valid.all()
  return ids


@functools.cache
def batches(name, num=200):
  """Contexts, and both sets as they are cut, of batches like the golden's."""
  spec, draws = published(name), rng(1)
  batch_size = SETTINGS[name]['batch_size']
  pairs = [
    spec.place(spec.draw_size(draws), draws, batch_size) for _ in range(num)
  ]
  return [(context, cut(context), cut(target)) for context, target in pairs]


def per_frame(ids, grid):
  """Ids `[B, K]` to how many a sample has in each frame, `[T]`."""
  frames = ids // (grid[1] * grid[2])
  return np.bincount(frames.ravel(), minlength=grid[0]) / len(ids)


def assert_same_mean(values, mean, error):
  """Whether the mean of `values` `[batches, ...]` is within 5 errors."""
  values = np.asarray(values)
  own = values.std(0) / np.sqrt(len(values))
  tolerance = 5 * np.hypot(own, error) + 1e-6
  np.testing.assert_array_less(np.abs(values.mean(0) - mean), tolerance)


def assert_same_deviation(values, deviation, num_stored):
  """Whether that of `values` `[batches, ...]` is within 5 errors."""
  values = np.asarray(values, np.float64)
  squares = np.square(values - values.mean()).reshape(len(values), -1).mean(1)
  # A deviation errs by half as much, relative to itself, as its square.
  error = 0.5 * squares.std() / max(squares.mean(), 1e-12)
  tolerance = 5 * error * np.hypot(len(values) ** -0.5, num_stored**-0.5)
  assert values.std() == pytest.approx(deviation, rel=tolerance, abs=1e-6)


@pytest.mark.parametrize('name', SETTINGS)
def test_lengths_are_distributed_as_v_jepas(name):
  drawn = batches(name)
  counts = np.stack([context.sum(-1) for context, _, _ in drawn])
  errors = GOLDEN[f'{name}/se_of_mean']
  mean, deviation, *_ = GOLDEN[f'{name}/pre_context_stats']
  assert_same_mean(counts.mean(1), mean, errors[0])
  num_stored = SETTINGS[name]['batches']
  assert_same_deviation(counts, deviation, num_stored)
  for i, part in enumerate(['context', 'target'], 1):
    mean, deviation, *_ = GOLDEN[f'{name}/post_{part}_stats']
    lengths = [sets[i].shape[1] for sets in drawn]
    assert_same_mean(lengths, mean, errors[i])
    assert_same_deviation(lengths, deviation, num_stored)


@pytest.mark.parametrize('name', SETTINGS)
@pytest.mark.parametrize('part', ['context', 'target'])
def test_frames_lose_tokens_as_in_v_jepa(name, part):
  # Late frames lose most: the bias that `random` and `none` are without.
  index = 1 + (part == 'target')
  grid = published(name).grid
  drawn = [per_frame(sets[index], grid) for sets in batches(name)]
  stored = GOLDEN[f'{name}/post_{part}_per_slot_stats'][:, 0]
  assert_same_mean(drawn, stored, GOLDEN[f'{name}/se_of_mean_{part}_per_slot'])


@pytest.mark.parametrize('name', SETTINGS)
def test_given_the_released_sizes_the_contexts_are_sharper(name):
  """One batch for each stored size: what is left is the noise of the places."""
  spec, draws = published(name), rng(2)
  gaps, supported = [], {*spec.sizes()}
  stored = GOLDEN[f'{name}/pre_context_count']
  for size, counts in zip(GOLDEN[f'{name}/block_size_thw'].tolist(), stored):
    assert tuple(size) in supported
    context, _ = spec.place(tuple(size), draws, len(counts))
    gaps.append(context.sum(-1).mean() - counts.mean())
  assert abs(np.mean(gaps)) < 5 * np.std(gaps) / np.sqrt(len(gaps))


@pytest.mark.parametrize('name', VIDEO)
def test_sizes_drawn_are_the_supported(name):
  spec, draws = VIDEO[name], rng(3)
  drawn = {spec.draw_size(draws) for _ in range(2000)}
  assert drawn <= {*spec.sizes()}
  if name != 'causal':
    assert drawn == {*spec.sizes()}


@pytest.mark.parametrize('name', SETTINGS)
def test_cuts_the_released_example_to_its_ids(name):
  packed = GOLDEN[f'{name}/example_pre_truncation_context']
  num_tokens = SETTINGS[name]['tokens']
  context = np.unpackbits(packed, axis=-1, count=num_tokens).astype(bool)
  np.testing.assert_array_equal(
    cut(context), GOLDEN[f'{name}/example_context_ids']
  )
  np.testing.assert_array_equal(
    cut(~context), GOLDEN[f'{name}/example_target_ids']
  )


# vjepa.md 1.5, measured on the released sampler: context before the cut, in
# per cent, and tokens of context and target after it, in batches of 64.
@pytest.mark.parametrize(
  ('grid', 'share', 'num_context', 'num_target'),
  [((16, 16), 43, 72, 44), ((14, 14), 42, 53, 33)],
)
def test_lengths_are_distributed_as_i_jepas(
  grid, share, num_context, num_target
):
  spec, draws = masking.ImageMaskSpec(grid), rng(4)
  pairs = [spec.place(spec.draw_size(draws), draws, 64) for _ in range(300)]
  shares = [100 * context.mean() for context, _ in pairs]
  assert_same_mean(shares, share, 0.2)
  assert_same_mean([cut(x).shape[-1] for x, _ in pairs], num_context, 0.3)
  assert_same_mean([cut(x).shape[-1] for _, x in pairs], num_target, 0.3)


def opened(plane, height, width):
  """What blocks of this size, wholly inside `plane`, can cover of it."""
  covered = np.zeros_like(plane)
  for i in range(plane.shape[0] - height + 1):
    for j in range(plane.shape[1] - width + 1):
      block = np.s_[i : i + height, j : j + width]
      covered[block] |= plane[block].all()
  return covered


@pytest.mark.parametrize('name', ['short', 'long'])
def test_video_targets_are_tubes_of_the_drawn_blocks(name):
  spec, draws = VIDEO[name], rng(5)
  for _ in range(5):
    size = spec.draw_size(draws)
    context, target = spec.place(size, draws, 4)
    np.testing.assert_array_equal(context, ~target)
    for clip in target.reshape(-1, *GRID):
      np.testing.assert_array_equal(clip, np.broadcast_to(clip[:1], GRID))
      np.testing.assert_array_equal(clip[0], opened(clip[0], *size[1:]))


def test_video_blocks_reach_every_place():
  context, _ = VIDEO['short'].place((8, 5, 6), rng(6), 500)
  assert not context.all(0).any()
  # Far from the border, 5 * 6 of a block's 10 * 9 places hide a token.
  hidden = (~context).mean(0).reshape(GRID)[0, 5:9, 5:9]
  expected = 1 - (1 - 30 / (10 * 9)) ** 8
  np.testing.assert_allclose(hidden, expected, atol=0.05)


def test_late_frames_are_no_context_where_it_ends_early():
  context, target = CAUSAL.place((5, 6, 7), rng(7), 16)
  context = context.reshape(-1, *GRID)
  assert not context[:, 6:].any()
  assert context[:, :6].any((0, 2, 3)).all()
  # A block shorter than the clip leaves its cells to the other frames.
  assert (context[:, :6] != context[:, :1]).any()
  np.testing.assert_array_equal(target.reshape(-1, *GRID), ~context)


def test_image_targets_are_blocks_the_context_keeps_out_of():
  draws = rng(8)
  reached = np.zeros(IMAGE.grid, bool)
  for _ in range(20):
    size = IMAGE.draw_size(draws)
    context, target = IMAGE.place(size, draws, 8)
    assert not (context & target.any(1)).any()
    assert (context.sum(-1) >= IMAGE.min_context).all()
    for block in target.reshape(-1, *IMAGE.grid):
      rows, columns = np.nonzero(block)
      sides = np.ptp(rows) + 1, np.ptp(columns) + 1
      assert sides == tuple(size[0])
      assert block.sum() == size[0].prod()
    whole = (context | target.any(1)).reshape(-1, *IMAGE.grid)
    for sample, plane in zip(context.reshape(-1, *IMAGE.grid), whole):
      assert sample.sum() <= opened(plane, *size[1]).sum()
      assert opened(plane, *size[1])[sample].all()
    reached |= whole.any(0)
  # The released sampler never draws the last place.
  assert reached[:-1, :-1].all()
  assert not reached[-1].any()
  assert not reached[:, -1].any()


def test_large_image_targets_are_the_tall_ones():
  draws = rng(19)
  sizes = np.array([IMAGE.draw_size(draws)[0] for _ in range(200)])
  assert np.corrcoef(sizes.prod(-1), sizes[:, 0])[0, 1] > 0.5


@pytest.mark.parametrize(
  ('fields', 'message'),
  [
    ({'grid': (8, 14)}, r'grid must be \(t, h, w\)'),
    ({'grid': (8, 0, 14)}, 'positive counts'),
    ({'num_blocks': 0}, 'num_blocks must be an integer above 0'),
    ({'spatial_scale': (0.5, 0.2)}, 'spatial_scale must be .* low <= high'),
    ({'temporal_scale': (0.5, 1.2)}, 'temporal_scale .* at most 1'),
    ({'aspect_ratio': (0, 1)}, 'aspect_ratio must be'),
    ({'max_temporal_keep': 0}, 'max_temporal_keep must be a share'),
    ({'grid': (2, 2, 2)}, 'block of no token on the grid'),
    (
      {'spatial_scale': (0.9, 1.0)},
      r'\(8, 14, 14\) tokens .* leaves at most 0',
    ),
    ({'min_context': 1500}, 'min_context is 1500'),
  ],
)
def test_impossible_video_masks_are_refused(fields, message):
  with pytest.raises(ValueError, match=message):
    masking.VideoMaskSpec(**{'grid': GRID} | fields)


@pytest.mark.parametrize(
  ('fields', 'message'),
  [
    ({'grid': (8, 14, 14)}, r'grid must be \(h, w\)'),
    ({'grid': (1, 14)}, 'block of no token on the grid'),
    ({'grid': (2, 2)}, 'block of no token on the grid'),
    ({'target_scale': (0.5, 1.5)}, 'target_scale .* at most 1'),
    ({'target_scale': (0.95, 1)}, 'may leave at most 0 tokens'),
    ({'context_scale': (0.02, 0.05)}, 'larger context_scale'),
  ],
)
def test_impossible_image_masks_are_refused(fields, message):
  with pytest.raises(ValueError, match=message):
    masking.ImageMaskSpec(**{'grid': (14, 14)} | fields)
