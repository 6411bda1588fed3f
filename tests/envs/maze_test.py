"""Mazes: MuJoCo's recorded motion, walls, layouts, expert, pictures, misuse."""

import dataclasses
from collections import deque

import golden_files
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm.envs import maze, maze_expert, maze_layouts, worlds


def _clearance(walls, positions):
  """Distance of positions `[..., 2]` to the nearest wall, border included."""
  closed = np.pad(np.asarray(walls), 1, constant_values=True)
  nearest = np.full(positions.shape[:-1], np.inf)
  for row, column in np.argwhere(closed):
    beyond = np.abs(positions - [column - 0.5, row - 0.5]) - 0.5
    distance = np.linalg.norm(np.maximum(beyond, 0), axis=-1)
    nearest = np.minimum(nearest, distance)
  return nearest


def _lengths(walls, start):
  """Breadth-first search, written plainly."""
  queue, lengths = deque([start]), {start: 0}
  while queue:
    row, column = queue.popleft()
    for step in ((0, 1), (1, 0), (0, -1), (-1, 0)):
      cell = (row + step[0], column + step[1])
      inside = all(0 <= c < len(walls) for c in cell)
      if inside and not walls[cell] and cell not in lengths:
        lengths[cell] = lengths[row, column] + 1
        queue.append(cell)
  return lengths


@jax.jit(static_argnames='num_steps')
def _play(env, policy, rng_keys, *, num_steps):
  """Episodes to their targets: states, success per step, first states."""

  def play(key):
    first = env.reset(key)
    goal = env.from_vector(first.target)

    def step(carry, key):
      state, memory = carry
      action, memory = policy(key, state, memory)
      state = env.step(state, action)
      return (state, memory), (state, env.success(state, goal))

    carry = (first, policy.init(key, first))
    keys = jax.random.split(key, num_steps)
    return first, *jax.lax.scan(step, carry, keys)[1]

  return jax.vmap(play)(rng_keys)


def test_motion_is_mujocos():
  golden, _ = golden_files.load('point_maze')
  vectors, actions = golden['vectors'], golden['actions']
  world = maze.Maze()

  def step(vector, action):
    return world.vector(world.step(world.from_vector(vector), action))

  ours = jax.jit(jax.vmap(jax.vmap(step)))(vectors[:, :-1], actions)
  error = np.abs(ours - vectors[:, 1:])
  walls = world.from_vector(jnp.zeros(4)).walls
  clear = np.minimum(
    _clearance(walls, vectors[:, :-1, :2]),
    _clearance(walls, vectors[:, 1:, :2]),
  )
  # Farther from walls than a step and the radius.
  free = clear > 0.32
  assert free.sum() > 50
  assert error[free].max() < 1e-5
  # MuJoCo's walls give way, by 0.05 cells at full speed.
  assert np.median(error[~free][:, :2].max(-1)) < 2e-3
  assert error[..., :2].max() < 0.06


@pytest.mark.slow
def test_nothing_crosses_a_wall_at_full_speed():
  env = worlds.get('diverse_maze').make(image_size=8)
  # Corners from every side, and long pushes into walls.
  policy = worlds.get('diverse_maze').policy('smooth', env)
  keys = jax.random.split(jax.random.key(1), 64)
  first, states, success = _play(env, policy, keys, num_steps=100)
  speeds = np.abs(states.velocity)
  assert speeds.max() > 5
  # Which is no way to arrive.
  assert np.asarray(success).any(axis=1).mean() < 0.8
  for index in range(64):
    walls = np.asarray(first.walls[index])
    positions = np.asarray(states.position[index])
    assert _clearance(walls, positions).min() > 0.1 - 1e-4
    # And it stays in the same region, here all open cells.
    cells = {(int(y), int(x)) for x, y in positions}
    start = np.asarray(first.position[index])
    assert cells <= set(_lengths(walls, (int(start[1]), int(start[0]))))


def test_a_corner_deflects_and_a_wall_stops():
  world = maze.Maze(layouts=np.array([0b10_00], np.int32), size=2)
  coast = jax.jit(
    lambda vector: world.step(world.from_vector(vector), jnp.zeros(2))
  )
  # The lower right cell is a wall: its corner is at (1, 1).
  vector = jnp.array([0.88, 0.95, 3.0, 0.0])
  state = coast(vector)
  away = np.asarray(state.position) - 1.0
  assert np.linalg.norm(away) >= 0.1 - 1e-6
  assert state.velocity[1] < 0.0
  vector = jnp.array([0.5, 0.2, 0.0, -5.0])
  state = coast(vector)
  np.testing.assert_allclose(state.position, [0.5, 0.1], atol=1e-6)
  np.testing.assert_array_equal(state.velocity, [0.0, 0.0])


@pytest.mark.parametrize('name', ['point_maze', 'diverse_maze_held_out'])
def test_the_expert_arrives(name):
  face = worlds.get(name)
  env = face.make(image_size=8)
  keys = jax.random.split(jax.random.key(2), 128)
  for noise in (0.0, face.action_noise):
    policy = face.policy('expert', env, noise)
    _, _, success = _play(env, policy, keys, num_steps=150)
    assert np.asarray(success).any(axis=1).mean() > 0.99
    assert np.asarray(success)[:, -1].mean() > 0.99


@pytest.mark.slow
def test_the_wanderer_keeps_walking():
  face = worlds.get('point_maze')
  env = face.make(image_size=8)
  keys = jax.random.split(jax.random.key(3), 32)
  policy = face.policy('wanderer', env)
  _, states, success = _play(env, policy, keys, num_steps=200)
  assert np.asarray(success).any(axis=1).mean() > 0.99
  speed = np.linalg.norm(states.velocity[:, -50:], axis=-1)
  assert (speed > 1.0).mean() > 0.8


def test_path_lengths_are_those_of_a_search():
  lengths_of = jax.jit(maze_expert.path_lengths)
  for layout in maze_layouts.diverse('train', 20):
    walls = maze_layouts.walls(layout, 4)
    start = tuple(int(i) for i in np.argwhere(~walls)[0])
    closed = maze_layouts.with_border(jnp.asarray(walls))
    ours = lengths_of(closed, start[0] + 1, start[1] + 1)[1:-1, 1:-1]
    expected = _lengths(walls, start)
    for cell in np.argwhere(~walls):
      assert ours[tuple(cell)] == expected[tuple(cell)]


def test_the_way_goes_round_walls_by_centres_of_cells():
  env, cell = maze.Maze(), lambda row, column: [column + 0.5, row + 0.5, 0, 0]
  place = lambda vector: env.from_vector(jnp.asarray(vector, jnp.float32))
  length = jax.jit(lambda a, b: maze_expert.path_length(env, a, b))
  expected = _lengths(maze_layouts.walls(maze_layouts.U_MAZE, 3), (0, 0))
  for to, steps in expected.items():
    assert length(place(cell(0, 0)), place(cell(*to))) == pytest.approx(steps)
  # From 0.2 cells before the first centre to 0.3 beyond the last.
  here, there = place([0.7, 0.5, 0, 0]), place([0.2, 2.5, 0, 0])
  assert length(here, there) == pytest.approx(0.8 + 4 + 1.3)
  # Straight to the cell beside, and nowhere in another layout.
  beside = place([1.0, 0.9, 0, 0])
  assert length(here, beside) == pytest.approx(0.5)
  walls = beside.walls.at[0, 2].set(True)
  assert np.isinf(length(here, dataclasses.replace(beside, walls=walls)))


def test_layouts_are_disjoint_connected_and_by_the_rules():
  train, held_out = (set(maze_layouts.diverse(s)) for s in maze_layouts.SPLITS)
  # Counted by a search of its own, over all 65,536.
  assert len(train) + len(held_out) == 5871
  assert len(held_out) > 1000
  assert not train & held_out
  for layout in list(train)[:200] + list(held_out)[:200]:
    walls = maze_layouts.walls(layout, 4)
    cells = [tuple(int(i) for i in cell) for cell in np.argwhere(~walls)]
    assert 8 <= len(cells) <= 12
    longest = 0
    for cell in cells:
      lengths = _lengths(walls, cell)
      assert len(lengths) == len(cells)
      longest = max(longest, *lengths.values())
    assert longest < 8


def test_no_held_out_layout_is_a_turned_training_layout():
  held_out = maze_layouts.walls(maze_layouts.diverse('held_out'), 4)
  seen = {tuple(walls.ravel()) for walls in held_out}
  for walls in maze_layouts.walls(maze_layouts.diverse('train', 200), 4):
    for grid in (walls, walls.T):
      for turns in range(4):
        assert tuple(np.rot90(grid, turns).ravel()) not in seen


def test_fewer_layouts_are_the_first_of_more():
  five = maze_layouts.diverse('train', 5)
  np.testing.assert_array_equal(five, maze_layouts.diverse('train', 40)[:5])
  assert len(set(maze_layouts.diverse('train'))) == len(
    maze_layouts.diverse('train')
  )


@pytest.mark.slow
def test_a_vector_says_all_of_a_state():
  for name in ('point_maze', 'diverse_maze'):
    face = worlds.get(name)
    env = face.make(image_size=16)
    state = jax.jit(env.reset)(jax.random.key(5))
    state = jax.jit(env.step)(state, jnp.array([1.0, -0.5]))
    vector = jax.jit(env.vector)(state)
    assert vector.shape == (len(face.state_names),)
    assert vector.dtype == jnp.float32
    again = jax.jit(env.from_vector)(vector)
    expected = dataclasses.replace(state, target=vector)
    jax.tree.map(np.testing.assert_array_equal, again, expected)
    render = jax.jit(env.render)
    np.testing.assert_array_equal(render(again), render(state))


@pytest.mark.slow
def test_resets_are_in_open_cells_of_all_layouts():
  env = maze.Maze.diverse(num_layouts=5, image_size=8)
  keys = jax.random.split(jax.random.key(6), 400)
  states = jax.jit(jax.vmap(env.reset))(keys)
  drawn = {tuple(walls.ravel()) for walls in np.asarray(states.walls)}
  assert len(drawn) == 5
  allows = jax.jit(jax.vmap(env.allows))
  assert np.all(allows(states))
  targets = jax.jit(jax.vmap(env.from_vector))(states.target)
  assert np.all(allows(targets))
  in_wall = env.from_vector(states.target[0]).replace(
    position=jnp.argwhere(states.walls[0])[0][::-1] + 0.5
  )
  assert not env.allows(in_wall)
  outside = in_wall.replace(position=jnp.array([-0.5, 1.0]))
  assert not env.allows(outside)
  cells = np.floor([states.position, targets.position])
  assert np.all(np.any(cells[0] != cells[1], axis=-1))


def test_pictures_show_walls_agent_and_target():
  env = maze.Maze(image_size=100, render_target=True)
  state = env.from_vector(jnp.array([0.5, 0.5, 0.0, 0.0]))
  state = dataclasses.replace(state, target=jnp.array([2.5, 2.5, 0.0, 0.0]))
  picture = np.asarray(jax.jit(env.render)(state))
  assert picture.shape == (100, 100, 3)
  # 20 pixels a cell, one cell of wall around.
  expected = {
    (10, 10): (60, 60, 70),
    (30, 30): (255, 0, 0),
    (50, 30): (60, 60, 70),
    (50, 70): (255, 255, 255),
    (70, 70): (0, 255, 0),
  }
  for pixel, color in expected.items():
    np.testing.assert_array_equal(picture[pixel], color)
  red = 255.0 - picture[20:40, 20:40, 1]
  np.testing.assert_allclose(red.sum() / 255, np.pi * 4**2, rtol=0.02)
  place = worlds.get('point_maze').place(np.array([0.5, 2.5, 0.0, 0.0]))
  np.testing.assert_allclose(place, [0.3, 0.7])


def test_small_pictures_average_large_ones():
  env = maze.Maze.diverse(image_size=192)
  state = jax.jit(env.reset)(jax.random.key(8))
  large = np.asarray(jax.jit(env.render)(state), float)
  average = large.reshape(32, 6, 32, 6, 3).mean(axis=(1, 3))
  small = jax.jit(dataclasses.replace(env, image_size=32).render)(state)
  assert np.abs(small - average).mean() < 0.5


def test_misuse_is_one_sentence():
  world = maze.Maze(image_size=8)
  with pytest.raises(ValueError, match=r'action must have shape \(2,\)'):
    world.step(world.from_vector(jnp.zeros(4)), jnp.zeros(3))
  with pytest.raises(ValueError, match=r'vector must have shape \(4,\), x, y'):
    world.from_vector(jnp.zeros(20))
  with pytest.raises(ValueError, match='image_size must be a positive'):
    maze.Maze(image_size=0)
  with pytest.raises(ValueError, match='size must be 2 to 5'):
    maze.Maze(size=9)
  with pytest.raises(ValueError, match='layout 56 has open cells that no way'):
    maze.Maze(layouts=np.array([maze_layouts.U_MAZE, 0b000_111_000]))
  with pytest.raises(ValueError, match='layout 510 has fewer than two open'):
    maze.Maze(layouts=np.array([0b111_111_110]))
  with pytest.raises(ValueError, match='layouts must be numbers of 9 bits'):
    maze.Maze(layouts=np.array([1 << 9]))
  with pytest.raises(ValueError, match='must be a row of whole numbers, bit'):
    maze.Maze(layouts=np.array(3.0))
  with pytest.raises(ValueError, match=r"layouts must be one of.*got 'test'"):
    maze.Maze.diverse(layouts='test')
  with pytest.raises(ValueError, match='num_layouts must be 1 to 4645'):
    maze.Maze.diverse(num_layouts=10000)
