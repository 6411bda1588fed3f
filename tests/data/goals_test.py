"""Frames, and later ones of their episodes."""

import dataclasses

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


def test_what_comes_next_lies_no_farther_than_the_goal(walks):
  batch = next(pairs(walks, ahead=10))
  steps = batch['after'][:, 0] - batch['latents'][:, 0, 0]
  np.testing.assert_array_equal(steps, np.minimum(batch['steps'], 10))
  assert 'after' not in next(pairs(walks))


def test_the_frame_a_block_on_is_one_of_the_episode(walks):
  after = goals.after(walks[0], 5)
  rows = np.arange(len(after))
  is_last = after == rows
  np.testing.assert_array_equal(after[~is_last], rows[~is_last] + 5)
  episode = lambda frame: np.searchsorted([4, 16, 46], frame, side='right')
  np.testing.assert_array_equal(episode(after), episode(rows))
  assert is_last.sum() == 4 + 5 + 5


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


def drawn(walks, size=4000, **changes):
  odds = goals.GoalOdds(**changes)
  return next(
    goals.transitions(
      walks[0],
      latents=walks[1],
      stride=5,
      odds={'value': odds},
      batch_size=size,
      seed=0,
    )
  )


def episode_of(frame):
  return np.searchsorted([4, 16, 46], frame, side='right')


def test_blocks_stay_in_their_episode_and_hold_no_nan(walks):
  batch = drawn(walks)
  first, after = batch['latents'][:, 0, 0], batch['latents'][:, 1, 0]
  np.testing.assert_array_equal(after, first + 5)
  np.testing.assert_array_equal(episode_of(first), episode_of(after))
  assert np.isfinite(batch['action']).all()
  np.testing.assert_array_equal(
    batch['action'][:, 0], first[:, None] + np.arange(5)
  )
  # Every block of both episodes that are long enough.
  assert set(first) == {*range(4, 11), *range(16, 41)}


def test_goals_are_as_frequent_as_was_asked_for(walks):
  batch = drawn(walks, p_curgoal=0.2, p_trajgoal=0.5, p_randomgoal=0.3)
  first, goal = batch['latents'][:, 0, 0], batch['value']['goal'][:, 0]
  is_here = goal == first
  # A random goal is the frame itself once in 46.
  assert abs(is_here.mean() - 0.2 - 0.3 / 46) < 0.03
  np.testing.assert_array_equal(batch['value']['reward'], is_here - 1.0)
  np.testing.assert_array_equal(batch['value']['mask'], 1.0 - is_here)
  is_behind = goal < first
  assert abs(is_behind.mean() - 0.3 * (first / 46).mean()) < 0.03
  # Random goals are in episodes too that no block fits in.
  assert set(episode_of(goal)) == {0, 1, 2}


@pytest.mark.parametrize('geom_sample', [True, False])
def test_later_goals_are_blocks_away_within_the_episode(walks, geom_sample):
  batch = drawn(
    walks,
    p_curgoal=0.0,
    p_trajgoal=1.0,
    p_randomgoal=0.0,
    geom_sample=geom_sample,
    discount=0.5,
  )
  first, goal = batch['latents'][:, 0, 0], batch['value']['goal'][:, 0]
  np.testing.assert_array_equal(episode_of(first), episode_of(goal))
  ahead = (goal - first)[first == 16] / 5
  # Frame 16 has 29 steps ahead, five blocks.
  shares = [np.mean(ahead == n) for n in range(1, 6)]
  expected = [0.5, 0.25, 0.125, 0.0625, 0.0625] if geom_sample else [0.2] * 5
  np.testing.assert_allclose(shares, expected, atol=0.12)
  assert sum(shares) == 1


def test_an_end_of_an_episode_is_none_of_the_task(walks):
  ended = walks[0].columns['action'][:, 0] != walks[0].columns['action'][:, 0]
  columns = {**walks[0].columns, 'is_terminal': ended}
  end = dataclasses.replace(walks[0], columns=columns), walks[1]
  goals_of = lambda x: drawn(x, p_curgoal=0.0, p_trajgoal=1.0, p_randomgoal=0.0)
  with_end, without = goals_of(end), goals_of(walks)
  assert np.isin(with_end['latents'][:, 1, 0], [15, 45]).any()
  for name in ('goal', 'reward', 'mask'):
    np.testing.assert_array_equal(
      with_end['value'][name], without['value'][name]
    )


def test_episodes_of_one_block_have_no_goals_beyond_it(walks):
  short = dataclasses.replace(walks[0], lengths=np.array([4, 6, 10]))
  with pytest.raises(
    ValueError, match=r'as two action blocks of 5, .* of 10 st'
  ):
    drawn((short, walks[1]))
  assert drawn(
    (dataclasses.replace(short, lengths=np.array([4, 6, 11])), walks[1])
  )


def test_of_fewer_episodes_no_other_frame_is_a_goal(walks):
  few = walks[0].episodes(slice(1, 2)), walks[1]
  batch = drawn(few, p_curgoal=0.0, p_trajgoal=0.0, p_randomgoal=1.0)
  assert set(batch['value']['goal'][:, 0]) == set(range(4, 16))


@pytest.mark.parametrize(
  'changes, message',
  [
    ({'p_curgoal': 0.5}, 'sum to 1, got 0.5, 0.5, 0.3'),
    ({'discount': 1.0}, r'discount must lie in \(0, 1\), got 1.0'),
  ],
)
def test_odds_that_mean_nothing_are_refused(changes, message):
  with pytest.raises(ValueError, match=message):
    goals.GoalOdds(**changes)
