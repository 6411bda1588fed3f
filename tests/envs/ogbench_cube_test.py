"""Cube is OGBench's, drawn and stepped row by row in one environment."""

import importlib.util

import numpy as np
import pytest

from jepa_wm.envs import host_play, host_pool, ogbench_cube, worlds


def test_the_cube_alone_decides():
  goal = np.zeros(41)
  vector = np.ones(41)
  vector[14:17] = [0.0, 0.0, 0.0399]
  assert ogbench_cube.success(vector, goal)
  vector[14] = 0.01
  assert not ogbench_cube.success(vector, goal)
  assert ogbench_cube.distance(np.stack([vector] * 3), goal).shape == (3,)
  assert len(ogbench_cube.STATE_NAMES) == 41
  assert ogbench_cube.STATE_NAMES[14] == 'cube x'


@pytest.fixture(scope='module')
def pool():
  if not importlib.util.find_spec('ogbench'):
    pytest.skip('needs the extra worlds')
  with host_pool.Pool(ogbench_cube.make(64), 4, num_workers=0) as made:
    made.reset(np.arange(4), np.arange(4))
    assert not made.failures
    yield made


@pytest.mark.slow
def test_it_steps_as_ogbench_whoever_shares_the_environment(pool):
  from jepa_wm.envs import gymnasium

  env = gymnasium.open_unwrapped(
    'cube-single-v0', mode='data_collection', terminate_at_goal=False
  )
  _, info = env.reset(seed=2)
  actions = np.random.default_rng(0).uniform(-1, 1, (4, 15, 5))
  pool.reset(np.arange(4), np.arange(4))
  np.testing.assert_array_equal(pool.vectors([2])[0, :21], info['qpos'])
  for t in range(15):
    pool.play(np.arange(4), actions[:, t, None])
    _, _, _, _, info = env.step(actions[2, t])
    np.testing.assert_allclose(
      pool.vectors([2])[0],
      np.concatenate([info['qpos'], info['qvel']]),
      atol=1e-9,
    )
    # The tool's place, yaw and contact among it.
    proprio = [v for k, v in info.items() if k.startswith('proprio/')]
    np.testing.assert_allclose(
      pool.proprio([2])[0], np.concatenate(proprio), atol=1e-9
    )
  env.close()


@pytest.mark.slow
def test_the_cube_is_drawn_where_place_says(pool):
  pool.reset([0, 1], [0, 1])
  vectors = pool.vectors([0, 1])
  # Out of the arm's way.
  vectors[:, 14:17] = [[0.35, 0.25, 0.02], [0.5, -0.25, 0.02]]
  pool.place([0, 1], vectors, look=True)
  assert not pool.failures
  cells = (np.arange(64) + 0.5) / 64
  for picture, place in zip(pool.pixels([0, 1]), ogbench_cube.place(vectors)):
    red, green, blue = np.moveaxis(picture.astype(float), -1, 0)
    weight = np.maximum(red - 1.5 * np.maximum(green, blue) - 20, 0)
    seen = weight.sum(0) @ cells, weight.sum(1) @ cells
    np.testing.assert_allclose(
      np.array(seen) / weight.sum(), place, atol=2.0 / 64
    )


@pytest.mark.slow
def test_the_oracle_brings_the_cube(pool):
  rows = np.arange(4)
  pool.reset(rows, rows)
  rngs = [host_play.stream(9, row) for row in rows]
  targets = np.stack(
    [
      ogbench_cube.draw_target(rng, vector)
      for rng, vector in zip(rngs, pool.vectors(rows))
    ]
  )
  expert = worlds.get('cube').policy('expert', pool.world)
  played = host_play.play(
    pool,
    rows,
    [expert(rng, target) for rng, target in zip(rngs, targets)],
    num_steps=80,
  )
  far = ogbench_cube.distance(played.vectors, targets[:, None])
  assert np.all(far[:, 0] > 0.04) and np.all(far[:, -1] < 0.03)


def test_without_the_extra_it_says_what_to_install(monkeypatch):
  monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
  with pytest.raises(ValueError, match=r"pip install 'jepa-wm\[worlds\]'"):
    ogbench_cube.make(64)
