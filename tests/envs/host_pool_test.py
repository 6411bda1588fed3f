"""Rows of a pool are where they should be, whatever breaks beside them."""

import dataclasses

import counting_world
import numpy as np
import pytest

from jepa_wm.envs import host_play, host_pool, host_workers, policies

ROWS = np.arange(5)
ACTIONS = np.random.default_rng(0).uniform(-1, 1, (5, 6))


def open_pool(**changes):
  return host_pool.Pool(counting_world.make(), 5, **changes)


@pytest.fixture(scope='module')
def pool():
  """Two workers: rows 0, 2, 4 share one, 1 and 3 the other."""
  with open_pool(num_workers=2, timeout=2.0) as made:
    yield made


@pytest.fixture(params=['processes', 'here'])
def any_pool(request):
  if request.param == 'processes':
    yield request.getfixturevalue('pool')
  else:
    with open_pool(num_workers=0) as made:
      yield made


def truth():
  return np.stack([counting_world.walk(10 + i, ACTIONS[i]) for i in ROWS])


def test_rows_go_their_own_ways(any_pool):
  any_pool.reset(ROWS, 10 + ROWS)
  trail = any_pool.play(ROWS, ACTIONS[:, :4, None])
  # In another order, and not all of them.
  some = np.array([4, 1])
  more = any_pool.play(some, ACTIONS[some, 4:, None], look=True)
  np.testing.assert_array_equal(trail.vectors, truth()[:, 1:5])
  np.testing.assert_array_equal(more.vectors, truth()[some, 5:])
  np.testing.assert_array_equal(any_pool.vectors(some), truth()[some, 6])
  np.testing.assert_array_equal(any_pool.proprio([0]), truth()[0, 4:5, :1])
  assert np.all(any_pool.pixels(some) == 6)
  assert not any_pool.failures


def test_a_state_is_set(any_pool):
  vectors = np.array([[3.0, 7.0], [4.0, 8.0]])
  any_pool.place([3, 0], vectors, look=True)
  np.testing.assert_array_equal(any_pool.vectors([3, 0]), vectors)
  assert any_pool.pixels([3, 0])[:, 0, 0, 0].tolist() == [7, 8]


def break_row(pool, how, *, row=2, after=3):
  """Plays, breaks one row on the way, and goes on with the others."""
  pool.reset(ROWS, 10 + ROWS)
  pool.play(ROWS, ACTIONS[:, :after, None])
  actions = ACTIONS.copy()
  actions[row, after] = how
  trail = pool.play(ROWS, actions[:, after : after + 2, None])
  pool.play(ROWS, actions[:, after + 2 :, None])
  others = ROWS[row != ROWS]
  np.testing.assert_array_equal(pool.vectors(others), truth()[others, -1])
  # It stands where it was.
  np.testing.assert_array_equal(pool.vectors([row]), truth()[[row], after])
  assert np.all(trail.vectors[row] == truth()[row, after])
  assert pool.has_failed(ROWS).tolist() == (row == ROWS).tolist()
  reason = pool.failures[row]
  pool.reset([row], [10 + row])
  pool.play([row], ACTIONS[[row], :, None])
  np.testing.assert_array_equal(pool.vectors([row]), truth()[[row], -1])
  assert not pool.failures
  return reason


def test_a_world_that_raises_is_alone_with_it(any_pool):
  reason = break_row(any_pool, counting_world.RAISE)
  assert reason == 'RuntimeError: the motor is on fire'


def test_a_world_that_becomes_nan_has_failed(any_pool):
  assert 'became [nan' in break_row(any_pool, counting_world.NAN)


@pytest.mark.slow
def test_a_world_that_dies_takes_nobody_along(pool):
  # Rows 0 and 4 lose their process and are brought back.
  reason = break_row(pool, counting_world.DIE)
  assert reason == 'its process died with exit code 3'


@pytest.mark.slow
def test_opening_a_world_may_take_longer_than_an_answer():
  world = dataclasses.replace(
    counting_world.make(), open=counting_world.SlowToOpen
  )
  with host_pool.Pool(world, 1, num_workers=1, timeout=0.5) as pool:
    pool.place([0], np.array([[3.0, 7.0]]))
    assert not pool.failures
    pool.play([0], np.array([[[counting_world.HANG]]]))
    assert pool.failures == {0: 'it did not answer within 0.5 s'}


@pytest.mark.slow
def test_a_world_that_hangs_is_given_up(pool):
  reason = break_row(pool, counting_world.HANG, row=1)
  assert reason == 'it did not answer within 2 s'


def test_the_number_of_workers_changes_nothing(pool):
  def play(pool):
    policy = policies.host_uniform(pool.world)
    acts = [policy(host_play.stream(row), np.zeros(2)) for row in ROWS]
    pool.reset(ROWS, ROWS, look=True)
    return host_play.play(pool, ROWS, acts, num_steps=5, look=True)

  with open_pool(num_workers=0) as here:
    one, other = play(pool), play(here)
  np.testing.assert_array_equal(one.vectors, other.vectors)
  np.testing.assert_array_equal(one.actions, other.actions)
  np.testing.assert_array_equal(one.pixels, other.pixels)


def test_play_stops_rows_that_are_done_or_broken():
  acts = [lambda v, p: np.zeros(1)] * 3
  acts[1] = lambda v, p: np.full(1, counting_world.RAISE if v[1] == 2 else 0.0)
  with open_pool(num_workers=0) as pool:
    pool.reset(ROWS[:3], ROWS[:3], look=True)
    played = host_play.play(
      pool,
      ROWS[:3],
      acts,
      num_steps=5,
      look=True,
      done_fn=lambda vectors, rows: (rows == 2) & (vectors[:, 1] == 3),
    )
  assert played.length.tolist() == [6, 3, 4]
  assert played.is_done.tolist() == [False, False, True]
  assert list(played.failures) == [1]
  assert played.vectors[:, -1, 1].tolist() == [5, 2, 3]
  assert played.pixels[0, :, 0, 0, 0].tolist() == [0, 1, 2, 3, 4, 5]


def test_pictures_are_averaged_over_areas():
  picture = np.zeros((4, 4, 3), np.uint8)
  picture[:2, :2] = [[[0, 10, 20], [40, 50, 60]]] * 2
  half = host_workers.resize(picture, 2)
  np.testing.assert_array_equal(half[0, 0], [20, 30, 40])
  # What lies on the edge of two pixels is shared between them.
  stripes = np.uint8([0, 90, 210])[None, :, None].repeat(3, 0).repeat(3, 2)
  for turn in ((0, 1, 2), (1, 0, 2)):
    two = host_workers.resize(stripes.transpose(turn), 2).transpose(turn)
    assert two[..., 0].tolist() == [[30, 170]] * 2
  assert host_workers.resize(picture, 4) is picture


@pytest.mark.parametrize(
  ('picture', 'message'),
  [
    (None, 'gave no picture'),
    (np.zeros((4, 4), np.uint8), r'must give uint8 .*got uint8 \[4, 4\]'),
    (np.zeros((4, 4, 3)), 'got float64'),
  ],
)
def test_what_is_no_picture(picture, message):
  with pytest.raises(ValueError, match=message):
    host_workers.resize(picture, 2)


def test_doors():
  with pytest.raises(ValueError, match='num_rows must be at least 1, got 0'):
    host_pool.Pool(counting_world.make(), 0)
  with pytest.raises(ValueError, match='image_size must be a positive'):
    counting_world.make(image_size=0)
  with open_pool(num_workers=0) as pool:
    pool.reset(ROWS, ROWS)
    with pytest.raises(ValueError, match=r'\[5, steps, 1\], got \[5, 1\]'):
      pool.play(ROWS, np.zeros((5, 1)))
  with pytest.raises(ValueError, match='this pool is closed'):
    pool.look(ROWS)


@pytest.mark.slow
def test_a_row_that_was_never_reset_says_so():
  with open_pool(num_workers=0) as pool:
    pool.play([0], np.zeros((1, 1, 1)))
    assert 'never reset' in pool.failures[0]
