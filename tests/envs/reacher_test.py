"""Reacher is dm_control's, and its rule is about what a picture shows."""

import importlib.util

import numpy as np
import pytest

from jepa_wm.envs import host_play, host_pool, reacher, worlds


def test_a_whole_turn_is_no_difference():
  goal = np.array([3.1, 1.0, 0.0, 0.0])
  near = np.array([-3.15, 1.04, 9.0, 9.0])
  np.testing.assert_allclose(reacher.distance(near, goal), 0.04, atol=1e-6)
  assert reacher.success(near, goal)
  # Turns, a miss by either joint alone, a hit.
  offsets = np.zeros((4, 4))
  offsets[:, :2] = [4 * np.pi, 0], [0.051, 0], [0, -0.051], [-0.049, 0.049]
  solved = reacher.success(goal + offsets, goal)
  assert solved.tolist() == [True, False, False, True]


def test_many_at_once_are_judged_one_by_one():
  rng = np.random.default_rng(0)
  vectors, goal = rng.normal(size=(3, 5, 4)), rng.normal(size=4)
  many = reacher.distance(vectors, goal)
  assert many.shape == (3, 5)
  assert many[2, 1] == reacher.distance(vectors[2, 1], goal)


@pytest.fixture(scope='module')
def pool():
  # Not by importing it: what it draws with is settled then.
  if not all(map(importlib.util.find_spec, ('mujoco', 'dm_control'))):
    pytest.skip('needs the extra worlds')
  with host_pool.Pool(reacher.make(64), 16, num_workers=0) as made:
    yield made


@pytest.mark.filterwarnings('ignore')
def test_it_steps_as_dm_control(pool):
  from dm_control import suite

  env = suite.load('reacher', 'hard', task_kwargs={'random': 0})
  env.reset()
  physics = env.physics
  start = np.concatenate([physics.data.qpos, physics.data.qvel])
  actions = np.random.default_rng(0).uniform(-1.2, 1.2, (40, 2))
  pool.place([3], start[None])
  trail = pool.play([3], actions[None]).vectors[0]
  for action, state in zip(actions, trail):
    for _ in range(2):
      env.step(np.clip(action, -1, 1))
    there = np.concatenate([physics.data.qpos, physics.data.qvel])
    np.testing.assert_allclose(state, there, atol=1e-9)


def test_a_placed_state_goes_on_as_the_one_it_was_taken_from(pool):
  actions = np.random.default_rng(1).uniform(-1, 1, (2, 20, 2))
  actions[1] = actions[0]
  pool.reset([0], [7])
  pool.play([0], actions[:1])
  pool.place([1], pool.vectors([0]))
  trails = pool.play([0, 1], actions).vectors
  np.testing.assert_allclose(trails[0], trails[1], atol=1e-9)


def test_the_finger_is_drawn_where_place_says(pool):
  rows = np.arange(16)
  pool.reset(rows, rows, look=True)
  assert not pool.failures
  places = reacher.place(pool.vectors(rows))
  cells = (np.arange(64) + 0.5) / 64
  for picture, (x, y) in zip(pool.pixels(rows), places):
    # The finger's tip is red where the arm is yellow.
    redness = picture[..., 0].astype(float) - 1.3 * picture[..., 1]
    weight = np.maximum(redness - 20, 0) ** 2
    assert weight.sum() > 0
    seen = weight.sum(0) @ cells, weight.sum(1) @ cells
    np.testing.assert_allclose(
      np.array(seen) / weight.sum(), [x, y], atol=1.5 / 64
    )


def test_the_expert_arrives_and_the_wanderer_goes_on(pool):
  rows = np.arange(16)
  pool.reset(rows, rows)
  rngs = [host_play.stream(9, row) for row in rows]
  targets = np.stack(
    [reacher.draw_target(rng, v) for rng, v in zip(rngs, pool.vectors(rows))]
  )
  lengths, ends = [], []
  for name in ('expert', 'wanderer'):
    pool.reset(rows, rows)
    begin = worlds.get('reacher').policy(name, pool.world)
    acts = [begin(rng, t) for rng, t in zip(rngs, targets)]
    played = host_play.play(pool, rows, acts, num_steps=60)
    solved = reacher.success(played.vectors, targets[:, None])
    lengths.append(np.argmax(solved, axis=1))
    ends.append(solved[:, -1])
    assert np.all(np.any(solved, axis=1))
  np.testing.assert_array_equal(*lengths)
  assert np.all(ends[0]) and np.mean(ends[1]) < 0.5
