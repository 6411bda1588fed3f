"""Frames, and later ones of their episodes."""

import numpy as np
import pytest

from jepa_wm.data import goals, table

LENGTHS = np.array([4, 12, 30])


@pytest.fixture
def walks():
  """Three episodes whose actions and latents tell the frame."""
  offsets = np.cumsum(LENGTHS) - LENGTHS
  frames = np.arange(LENGTHS.sum(), dtype=np.float32)
  action = frames[:, None].copy()
  action[offsets + LENGTHS - 1] = np.nan
  walks = table.Table(
    where='here', columns={'action': action}, offsets=offsets, lengths=LENGTHS
  )
  return walks, frames[:, None]


def pairs(walks, **changes):
  settings = {'stride': 5, 'max_steps': 20, 'batch_size': 500, 'seed': 0}
  return goals.hindsight_pairs(walks[0], latents=walks[1], **settings | changes)


def test_goals_lie_ahead_in_the_episode(walks):
  batch = next(pairs(walks))
  first, goal = batch['latents'][:, 0, 0], batch['latents'][:, 1, 0]
  np.testing.assert_array_equal(goal - first, batch['steps'])
  assert batch['steps'].min() == 5 and batch['steps'].max() == 20
  episode = lambda frame: np.searchsorted([4, 16, 46], frame, side='right')
  np.testing.assert_array_equal(episode(first), episode(goal))
  assert set(episode(first)) == {1, 2}  # The first is shorter than a block.
  np.testing.assert_array_equal(
    batch['action'][:, 0], first[:, None] + np.arange(5)
  )


def test_a_position_brings_the_same_batches(walks):
  batches = pairs(walks)
  next(batches)
  position = batches.get_state()
  expected = next(batches)
  again = pairs(walks)
  again.set_state(position)
  np.testing.assert_array_equal(next(again)['latents'], expected['latents'])


@pytest.mark.parametrize(
  'changes, message',
  [
    ({'stride': 40, 'max_steps': 50}, 'No episode at here is as long'),
    ({'max_steps': 4}, 'max_steps must be at least 5'),
  ],
)
def test_what_cannot_be_is_refused(walks, changes, message):
  with pytest.raises(ValueError, match=message):
    pairs(walks, **changes)
