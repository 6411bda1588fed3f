"""Both stages show the same world; what failed, is left out or rewarded."""

import host_two_room
import jax
import numpy as np
import pytest

from jepa_wm.envs import device_stage, host_stage, stage, two_room, worlds

ROWS = np.array([0, 2, 3])
STARTS = np.float32([[40, 60], [150, 100], [60, 180]])
GOALS = np.float32([[60, 60], [150, 180], [100, 180]])
ACTIONS = np.random.default_rng(0).uniform(-1, 1, (3, 4, 2)).astype(np.float32)


def progress(world, state, action, after):
  del world, action
  return after.position[0] - state.position[0]


@pytest.fixture(scope='module')
def device():
  entry = worlds.get('two_room')
  env = two_room.TwoRoom(image_size=28)
  return device_stage.DeviceStage(
    env, entry.policy, reward_fn=progress, teleport=entry.teleport
  )


@pytest.fixture(scope='module')
def host():
  with host_stage.HostStage(
    host_two_room.make(), worlds.get('two_room').policy, num_workers=0
  ) as opened:
    yield opened


def begin(on):
  on.place(ROWS, stage.Problems(on.states(STARTS), on.states(GOALS)))
  return on.play(ROWS, ACTIONS)


@pytest.mark.slow
def test_both_show_the_same_world(device, host):
  one, other = begin(device), begin(host)
  np.testing.assert_allclose(one.vectors, other.vectors, atol=1e-4)
  np.testing.assert_allclose(one.distances, other.distances, atol=1e-4)
  np.testing.assert_array_equal(one.reached, other.reached)
  for name, seen in device.observe(ROWS).items():
    np.testing.assert_allclose(seen, host.observe(ROWS)[name], atol=1)
  for on in (device, host):
    np.testing.assert_array_equal(on.vectors(on.states(STARTS)), STARTS)
    survey = on.survey(on.states(STARTS), on.states(GOALS))
    np.testing.assert_allclose(survey.distances, [20, 80, 40], rtol=1e-6)
    assert on.are_solved(STARTS, STARTS + 1.0).all()
    assert on.proprio_dim == on.action_dim == 2
    assert on.pictures(STARTS).shape == on.scenes(STARTS)[:3].shape
  np.testing.assert_array_equal(device.pictures(STARTS), host.pictures(STARTS))


def test_rows_move_alone_and_a_preview_moves_none(device):
  before = begin(device).vectors[:, -1]
  path = device.preview(ROWS, ACTIONS[:, None])
  np.testing.assert_array_equal(path[:, 0], before)
  trail = device.play(ROWS[1:], ACTIONS[1:])
  np.testing.assert_array_equal(trail.vectors, path[1:, 1:])
  now = device.preview(ROWS, ACTIONS[:, None, :0])[:, 0]
  np.testing.assert_array_equal(now[0], before[0])
  np.testing.assert_array_equal(now[1:], trail.vectors[:, -1])


def test_a_body_is_put_where_the_world_allows_and_its_goal_is_not(device, host):
  before = begin(device).vectors[:, -1]
  purpose = stage.Purpose.TELEPORTS
  moved = ROWS[1:]
  streams = device.streams(purpose, 0, np.array([7, 8]))
  after = device.teleport(moved, streams)
  now = device.preview(ROWS, ACTIONS[:, None, :0])[:, 0]
  np.testing.assert_array_equal(now[0], before[0])
  np.testing.assert_array_equal(now[1:], after)
  assert np.linalg.norm(after - before[1:], axis=-1).min() > 1.0
  states = device.states(after)
  assert jax.vmap(device.env.allows)(states).all()
  assert not device.are_solved(after, GOALS[1:]).any()
  # The same from anywhere, but for the goal.
  device.place(moved, stage.Problems(device.states(STARTS[1:]), states))
  again = device.teleport(moved, streams)
  assert np.linalg.norm(again - after, axis=-1).min() > 1.0
  begin(device)
  np.testing.assert_array_equal(device.teleport(moved, streams), after)
  with pytest.raises(ValueError, match='is stepped on the host'):
    host.teleport(ROWS, host.streams(purpose, 0, ROWS))


def test_a_world_may_give_rewards(device, host):
  trail = begin(device)
  ways = np.concatenate([STARTS[:, None], trail.vectors], axis=1)
  np.testing.assert_allclose(
    trail.rewards, np.diff(ways[..., 0], axis=1), atol=1e-4
  )
  assert begin(host).rewards is None


@pytest.mark.slow
def test_performances_are_functions_of_their_numbers(device):
  role = stage.Role(('expert', 'smooth'), 0.5, (1.0, 1.0))

  def play(numbers):
    rows = np.arange(len(numbers))
    streams = device.streams(stage.Purpose.EPISODES, 3, numbers)
    device.reset(rows, streams)
    played = device.perform(rows, role, streams, num_steps=6, look=True)
    return jax.tree.map(np.asarray, played)

  many, few = play(np.arange(12)), play(np.array([7, 2]))
  np.testing.assert_allclose(few.vectors, many.vectors[[7, 2]], atol=1e-4)
  np.testing.assert_array_equal(few.policies, many.policies[[7, 2]])
  assert set(many.policies) == {0, 1}
  assert few.rewards.shape == (2, 6)
  assert few.observations['pixels'].shape == (2, 7, 28, 28, 3)


def test_purposes_share_no_numbers(device, host):
  rows = np.arange(2)
  for on in (device, host):
    drawn = {
      tuple(on.draw_integers(on.streams(purpose, 0, rows), [10**8] * 2))
      for purpose in (stage.Purpose.EPISODES, stage.Purpose.PAIRS)
    }
    assert len(drawn) == 2


def test_waves_hold_everybody_once():
  assert [w.tolist() for w in stage.waves(5, 2)] == [[0, 1], [2, 3], [4]]
  assert [w.tolist() for w in stage.waves(2, 8)] == [[0, 1]]


def test_another_stage_of_the_same_world_finds_its_programs(device):
  wanted = device.survey(*map(device.states, (STARTS, GOALS)))
  assert device.compile_seconds > 0
  policy = device._policy_fn

  def look(**changes):
    given = {'reward_fn': progress, 'teleport': device._teleport} | changes
    other = device_stage.DeviceStage(
      two_room.TwoRoom(image_size=28), policy, **given
    )
    found = other.survey(*map(other.states, (STARTS, GOALS)))
    np.testing.assert_array_equal(found.distances, wanted.distances)
    return other.compile_seconds

  assert look() == 0
  assert look(reward_fn=None) > 0
