import collections
import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm.objectives import mask_buckets, masking

GRID = 8, 14, 14
SHORT = masking.short_range(GRID)
LONG = masking.long_range(GRID)
# Small enough for hundreds of batches, large enough for several shapes.
TINY = masking.short_range((4, 8, 8)), masking.long_range((4, 8, 8))
IMAGE = masking.ImageMaskSpec((14, 14))


def rng(*seed):
  return np.random.default_rng(seed)


def drawn_lengths(spec, batch_size, *seed):
  """Lengths of context and target `[B]` before they are cut."""
  draws = rng(*seed)
  sets = spec.place(spec.draw_size(draws), draws, batch_size)
  return [x.sum(-1) for x in sets]


@pytest.mark.parametrize('truncate', mask_buckets.TRUNCATIONS)
@pytest.mark.parametrize('specs', [TINY, [IMAGE]], ids=['video', 'image'])
def test_masks_are_sorted_disjoint_and_in_a_bucket(specs, truncate):
  buckets = mask_buckets.plan_buckets(
    specs, 6, truncate=truncate, num_buckets=3, num_trials=40
  )
  assert len(set(buckets)) == len(buckets) == 3
  for step in range(20):
    all_masks = mask_buckets.sample(
      specs, rng(9, step), 6, buckets=buckets, truncate=truncate
    )
    lengths = []
    for spec, masks in zip(specs, all_masks):
      lengths.append((masks.context_ids.shape[-1], masks.target_ids.shape[-1]))
      for ids, valid in (masks[:2], masks[2:]):
        assert ids.dtype == np.int32
        assert valid.shape == ids.shape
        assert valid.all() or truncate == 'none'
        assert valid.any(-1).all()
        assert not ids[~valid].any()
        order = np.where(valid, ids, np.arange(ids.shape[-1]) + 10**6)
        assert (np.diff(order, axis=-1) > 0).all()
        assert ids.max() < np.prod(spec.grid)
      for sample in range(6):
        context = masks.context_ids[sample][masks.context_valid[sample]]
        target = masks.target_ids[sample][masks.target_valid[sample]]
        assert not np.isin(context, target).any()
        if truncate == 'none' and spec in TINY:
          assert len(context) + len(target) == np.prod(spec.grid)
    assert tuple(lengths) in buckets


def test_random_truncation_prefers_no_token():
  members = rng(10).random((1, 30)) < 0.6
  repeated = np.broadcast_to(members, (4000, 30))
  ids, valid = mask_buckets.pack(repeated, 6, rng(11), truncate='random')
  assert valid.all()
  assert (np.diff(ids, axis=-1) > 0).all()
  frequency = np.bincount(ids.ravel(), minlength=30) / 4000
  expected = members[0] * 6 / members.sum()
  np.testing.assert_allclose(frequency, expected, atol=0.04)


def test_random_truncation_keeps_late_frames():
  kept = collections.defaultdict(list)
  for truncate in ('raster', 'random'):
    for step in range(40):
      (masks,) = mask_buckets.sample(
        [SHORT], rng(step), 24, buckets=[((160, 520),)], truncate=truncate
      )
      frames = masks.context_ids // (14 * 14)
      kept[truncate].append(np.bincount(frames.ravel(), minlength=8) / 24)
  raster, unbiased = (np.mean(kept[name], 0) for name in kept)
  np.testing.assert_allclose(unbiased, 20, atol=0.6)
  assert raster[0] > 60
  assert raster[-1] < 1


def test_a_step_is_compiled_once_a_bucket():
  num_traces = 0

  @jax.jit
  def loss(tokens, short, long):
    nonlocal num_traces
    num_traces += 1
    return sum(
      mask_buckets.take(tokens, masks.context_ids).mean()
      + mask_buckets.take(tokens, masks.target_ids).mean()
      for masks in (short, long)
    )

  buckets = mask_buckets.plan_buckets(TINY, 4, num_buckets=4, num_trials=100)
  tokens = jnp.ones((4, 256, 2))
  drawn, used = set(), set()
  for step in range(200):
    masks = mask_buckets.sample(TINY, rng(12, step), 4, buckets=buckets)
    assert loss(tokens, *masks) == pytest.approx(4)
    used.add(tuple(x.shape for pair in masks for x in pair))
    exact = [drawn_lengths(spec, 4, step) for spec in TINY]
    drawn.add(tuple(int(x.min()) for pair in exact for x in pair))
  assert num_traces == len(used) == len(buckets) == 4
  # Cut to the shortest, as released: what would be compiled without buckets.
  assert len(drawn) > 50


def test_more_buckets_lose_fewer_tokens():
  kept = []
  for num_buckets in (1, 3, 8):
    buckets = mask_buckets.plan_buckets(
      [SHORT], 24, num_buckets=num_buckets, num_trials=150
    )
    draws = [
      mask_buckets.sample([SHORT], rng(13, step), 24, buckets=buckets)[0]
      for step in range(60)
    ]
    lengths = [(x.context_ids.shape[1], x.target_ids.shape[1]) for x in draws]
    kept.append(np.mean(lengths, 0))
  exact = [
    [x.min() for x in drawn_lengths(SHORT, 24, step)] for step in range(200)
  ]
  shares = np.array(kept) / np.mean(exact, 0)
  assert (np.diff(shares, axis=0) > 0.03).all()
  assert (shares[-1] > 0.85).all()
  assert (shares[-1] < 1).all()


def test_buckets_merge_the_shapes_that_lose_least():
  """Against the rule written plainly: all waste, of every possible merge."""
  shapes = rng(16).integers(100, 1000, (14, 2))
  counts = rng(17).integers(0, 5, 14)
  mean = np.average(shapes, axis=0, weights=counts)

  def waste(clusters):
    return sum(
      (counts[i] * (shapes[i] - shapes[cluster].min(0)) / mean).sum()
      for cluster in clusters
      for i in cluster
    )

  clusters = [[i] for i in range(14)]
  while len(clusters) > 4:
    merges = [
      [c for c in clusters if c not in pair] + [[*pair[0], *pair[1]]]
      for pair in itertools.combinations(clusters, 2)
    ]
    clusters = min(merges, key=waste)
  expected = np.unique([shapes[c].min(0) for c in clusters], axis=0)
  merged = mask_buckets._merge(shapes, counts, 4)
  np.testing.assert_array_equal(merged, expected)


def test_blocks_of_all_specs_are_tall_together():
  # As in the released samplers; single blocks, whole, so that they show.
  specs = [dataclasses.replace(x, num_blocks=1) for x in (SHORT, LONG)]
  heights = []
  for step in range(60):
    all_masks = mask_buckets.sample(
      specs,
      rng(18, step),
      1,
      buckets=[((1568, 1568), (1568, 1568))],
      truncate='none',
    )
    targets = [x.target_ids[x.target_valid] for x in all_masks]
    heights.append([np.unique(ids // 14 % 14).size for ids in targets])
  assert len(np.unique(heights, axis=0)) > 4
  assert np.corrcoef(np.transpose(heights))[0, 1] > 0.7


def test_masks_depend_on_seed_and_step_alone():
  buckets = mask_buckets.plan_buckets(TINY, 4, num_buckets=2, num_trials=20)
  assert buckets == mask_buckets.plan_buckets(
    TINY, 4, num_buckets=2, num_trials=20
  )
  first, again, other = (
    mask_buckets.sample(
      TINY, rng(0, step), 4, buckets=buckets, truncate='random'
    )
    for step in (7, 7, 8)
  )
  jax.tree.map(np.testing.assert_array_equal, first, again)
  assert any(
    x.shape != y.shape or (x != y).any()
    for x, y in zip(jax.tree.leaves(first), jax.tree.leaves(other))
  )


def test_samples_beyond_every_bucket_are_drawn_again():
  # A bucket that about every second sample misses.
  median = int(np.median(drawn_lengths(SHORT, 200, 0)[0]))
  (masks,) = mask_buckets.sample(
    [SHORT], rng(14), 24, buckets=[((median, 600),)]
  )
  assert masks.context_ids.shape == (24, median)
  assert masks.context_valid.all()
  assert masks.target_valid.all()


def test_takes_the_tokens_of_each_sample():
  tokens = rng(15).normal(size=(2, 5, 3)).astype(np.float32)
  ids = np.array([[[0, 4], [1, 1]], [[3, 2], [4, 0]]], np.int32)
  expected = np.stack([tokens[b][ids[b]] for b in range(2)])
  np.testing.assert_array_equal(mask_buckets.take(tokens, ids), expected)
  taken = mask_buckets.take(jnp.asarray(tokens), ids[:, 0])
  np.testing.assert_array_equal(taken, expected[:, 0])


def test_a_context_that_is_never_left_is_refused_before_training(monkeypatch):
  monkeypatch.setattr(masking, '_MAX_REDRAWS', 20)
  spec = masking.VideoMaskSpec(
    (1, 8, 8), num_blocks=200, spatial_scale=(0.6, 0.6)
  )
  with pytest.raises(ValueError, match='fewer than min_context = 1 tokens'):
    mask_buckets.plan_buckets([spec], 2, num_trials=1)


def test_wrong_arguments_are_named(monkeypatch):
  monkeypatch.setattr(masking, '_MAX_REDRAWS', 20)
  buckets = [((16, 16), (8, 60))]
  sample = functools.partial(mask_buckets.sample, TINY, rng(0))
  with pytest.raises(ValueError, match="got 'late'"):
    sample(4, buckets=buckets, truncate='late')
  with pytest.raises(ValueError, match='batch_size must be at least 1'):
    sample(0, buckets=buckets)
  with pytest.raises(ValueError, match='pair of lengths for each of the 2'):
    sample(4, buckets=[((8, 8),)])
  with pytest.raises(ValueError, match='pair of lengths'):
    sample(4, buckets=[])
  with pytest.raises(ValueError, match="these specs and truncate='raster'"):
    sample(4, buckets=[((250, 250), (250, 250))])
  with pytest.raises(ValueError, match='num_buckets and num_trials'):
    mask_buckets.plan_buckets(TINY, 4, num_buckets=0)
  with pytest.raises(ValueError, match='at most the 3 tokens'):
    mask_buckets.pack(np.ones((1, 3), bool), 4, rng(0))
  with pytest.raises(ValueError, match=r'got shapes \(2, 3, 4\) and \(1, 2\)'):
    mask_buckets.take(jnp.ones((2, 3, 4)), jnp.ones((1, 2), int))
