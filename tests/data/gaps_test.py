"""Pairs of frames of an episode, near and far ones alike."""

import numpy as np
import pytest

from jepa_wm.data import gaps, table

LENGTHS = np.array([4, 11, 1, 6])


def walks(lengths=LENGTHS):
  """Episodes whose latents tell the frame."""
  frames = np.arange(lengths.sum(), dtype=np.float32)[:, None]
  offsets = np.cumsum(lengths) - lengths
  return frames, table.Table(
    where='here', columns={'action': frames}, offsets=offsets, lengths=lengths
  )


def pairs(max_steps=0, batch_size=4000, **changes):
  latents, episodes = walks(**changes)
  return gaps.gap_pairs(
    episodes,
    latents=latents,
    max_steps=max_steps,
    batch_size=batch_size,
    seed=0,
  )


def test_every_gap_is_as_likely_and_stays_in_its_episode():
  batch = next(pairs())
  first, later = batch['latents'][..., 0].T.astype(int)
  np.testing.assert_array_equal(later - first, batch['steps'])
  episode = np.repeat(np.arange(4), LENGTHS)
  np.testing.assert_array_equal(episode[first], episode[later])
  counts = np.bincount(batch['steps'].astype(int), minlength=11)
  np.testing.assert_allclose(counts, 4000 / 11, rtol=0.25)
  # Five steps fit into one episode from six frames, into one from its first.
  five = first[batch['steps'] == 5]
  assert set(five) == {4, 5, 6, 7, 8, 9, 16}


def test_max_steps_bounds_the_gap_and_a_position_brings_the_same():
  batches = pairs(max_steps=3, batch_size=100)
  next(batches)
  position = batches.get_state()
  expected = next(batches)
  assert expected['steps'].max() == 3
  again = pairs(max_steps=3, batch_size=100)
  again.set_state(position)
  np.testing.assert_array_equal(next(again)['latents'], expected['latents'])


def test_episodes_of_one_frame_are_refused():
  with pytest.raises(ValueError, match='No episode at here has two frames'):
    pairs(lengths=np.array([1, 1]))
