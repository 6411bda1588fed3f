"""Two Room against the peer's recorded behaviour, closed forms, and misuse."""

import dataclasses
import re

import golden_files
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm.envs import painting, two_room, two_room_expert

_GOLDEN, _META = golden_files.load('two_room')
_SLOTS = {
  'door_positions': 'door_position',
  'door_sizes': 'door_half_size',
}
_SAME_NAME = [
  *('wall_axis', 'wall_thickness', 'agent_radius', 'agent_speed'),
  *('target_radius', 'agent_color', 'target_color', 'wall_color'),
  *('door_color', 'background_color'),
]


def _world(name, **changes):
  meta = _META[name]
  fields = {field: np.float32(meta[field]) for field in _SAME_NAME}
  fields['num_doors'] = np.int32(meta['n_doors'])
  for field, key in _SLOTS.items():
    slots = np.zeros(3, np.float32)
    slots[: meta['n_doors']] = meta[key]
    fields[field] = slots
  fields['render_target'] = np.bool_(meta['render_target'])
  fields['image_size'] = _META['constants']['image_size']
  return two_room.TwoRoom(**{**fields, **changes})


def _stack(*worlds):
  return jax.tree.map(lambda *leaves: jnp.stack(leaves), *worlds)


@pytest.fixture(scope='module')
def sampled():
  """300 different worlds of 48 pixels."""
  sample = lambda key: two_room.TwoRoom.sample_variation(key, image_size=48)
  return jax.jit(jax.vmap(sample))(jax.random.split(jax.random.key(4), 300))


@jax.jit
def _render(world, state):
  return world.render(state)


@jax.jit
def _step(world, state, action):
  return world.step(state, action)


_step_all = jax.jit(jax.vmap(two_room.TwoRoom.step, in_axes=(None, 0, 0)))
_reset_all = jax.jit(jax.vmap(two_room.TwoRoom.reset, in_axes=(None, 0)))
_render_all = jax.jit(jax.vmap(two_room.TwoRoom.render, in_axes=(None, 0)))


@jax.jit
def _roll(world, start, actions):
  def step(state, action):
    state = world.step(state, action)
    return state, world.proprio(state)

  return jax.lax.scan(step, start, actions)[1]


@jax.jit
def _play_expert(expert, start):
  def step(state, _):
    action, _ = expert(jax.random.key(0), state, ())
    state = expert.world.step(state, action)
    return state, state.position

  return jax.lax.scan(step, start, length=60)[1]


@jax.jit
def _reached_by_expert(expert, key):
  """Whether the target is reached within 100 steps."""
  world = expert.world
  reset_key, key = jax.random.split(key)
  start = world.reset(reset_key)
  goal = two_room.TwoRoomState(start.target, start.target)

  def step(state, step_key):
    action, _ = expert(step_key, state, ())
    state = world.step(state, action)
    return state, world.success(state, goal)

  keys = jax.random.split(key, 100)
  return jnp.any(jax.lax.scan(step, start, keys)[1])


def _average(picture, matrix):
  return np.einsum('hwc,hi,wj->ijc', picture, matrix, matrix, optimize=True)


def _at(x, y, target=(164.0, 112.0)):
  return two_room.TwoRoomState(jnp.array([x, y]), jnp.array(target))


@pytest.mark.parametrize('name', ['default', 'varied'])
def test_transitions_and_rollout_are_the_peers(name):
  world = _world(name)
  get = lambda key: _GOLDEN[f'{name}/{key}']
  state = two_room.TwoRoomState(get('state'), get('target'))
  after = _step_all(world, state, get('action'))
  np.testing.assert_allclose(after.position, get('next_state'), atol=1e-6)
  goal = two_room.TwoRoomState(state.target, state.target)
  np.testing.assert_array_equal(
    jax.vmap(world.success)(after, goal), get('terminated')
  )
  np.testing.assert_allclose(
    jax.vmap(world.distance)(after, goal),
    get('distance_to_target'),
    rtol=1e-6,
    atol=1e-4,
  )

  path = get('rollout_states')
  rolled = _roll(world, _at(*path[0].tolist()), get('rollout_actions'))
  np.testing.assert_allclose(rolled, path[1:], atol=1e-4)


def test_different_worlds_step_in_one_vmap():
  names = ['default', 'varied']
  worlds = _stack(*(_world(name) for name in names))
  num = min(len(_GOLDEN[f'{name}/state']) for name in names)
  both = lambda key: np.stack(
    [_GOLDEN[f'{name}/{key}'][:num] for name in names]
  )
  states = two_room.TwoRoomState(both('state'), both('target'))
  step = lambda world, states, actions: jax.vmap(world.step)(states, actions)
  after = jax.jit(jax.vmap(step))(worlds, states, both('action'))
  np.testing.assert_allclose(after.position, both('next_state'), atol=1e-6)


@pytest.mark.parametrize(
  ('name', 'known'), [('default', True), ('default', False), ('varied', False)]
)
def test_frames_are_the_peers(name, known):
  # Known to the compiler or an argument: the target is left out or not.
  world = _world(name)
  states = two_room.TwoRoomState(
    _GOLDEN[f'{name}/frame_states'][:4], _GOLDEN[f'{name}/frame_targets'][:4]
  )
  if known:
    frames = jax.jit(jax.vmap(world.render))(states)
  else:
    frames = _render_all(world, states)
  assert frames.dtype == jnp.uint8
  difference = np.abs(
    np.asarray(frames, np.int32)
    - _GOLDEN[f'{name}/frames'][:4].astype(np.int32)
  )
  assert difference.max() <= 1
  assert (difference > 0).mean() <= 0.002


@pytest.mark.parametrize('name', ['default', 'varied'])
def test_expert_is_the_peers(name, rng_key):
  world = _world(name)
  expert = two_room_expert.TwoRoomExpert(world)
  get = lambda key: _GOLDEN[f'{name}/{key}']
  states = two_room.TwoRoomState(get('expert_state'), get('expert_goal'))
  act = jax.jit(jax.vmap(lambda state: expert(rng_key, state, ())[0]))
  np.testing.assert_allclose(act(states), get('expert_action'), atol=1e-5)
  episodes = re.findall(
    rf'{name}/(expert_episode\d+)_states', ' '.join(_GOLDEN)
  )
  assert episodes
  for episode in episodes:
    path, goal = get(f'{episode}_states'), get(f'{episode}_goal')
    played = _play_expert(expert, _at(*path[0].tolist(), goal.tolist()))
    np.testing.assert_allclose(
      played[: len(path) - 1], path[1:], atol=1e-4, rtol=0
    )


def test_expert_without_a_fitting_door_goes_level_with_the_target(rng_key):
  expert = two_room_expert.TwoRoomExpert(
    two_room.TwoRoom(door_sizes=np.full(3, 7.0, np.float32))
  )
  action, _ = expert(rng_key, _at(60.0, 100.0, (180.0, 100.0)), ())
  np.testing.assert_allclose(action, [1.0, 0.0], atol=1e-6)


def test_the_way_goes_through_the_best_door():
  world = two_room.TwoRoom(
    num_doors=3, door_positions=jnp.array([40.0, 180.0, 112.0]),
    door_sizes=jnp.array([14.0, 14.0, 7.0]),
  )  # fmt: skip
  at = lambda *place: world.from_vector(jnp.array(place))
  starts = [at(30.0, 40.0), at(82.0, 220.0), at(102.0, 112.0)]
  goals = [at(60.0, 80.0), at(142.0, 140.0), at(122.0, 112.0)]
  stack = lambda states: jax.tree.map(lambda *x: jnp.stack(x), *states)
  measure = jax.jit(jax.vmap(two_room_expert.path_length, (None, 0, 0)))
  lengths = measure(world, stack(starts), stack(goals))
  # In one room; by the second door; by it, as nobody fits the third.
  near = np.hypot(10, 68)
  np.testing.assert_allclose(lengths, [50.0, 100.0, 2 * near], rtol=1e-5)
  closed = dataclasses.replace(world, num_doors=0)
  assert measure(closed, stack(starts), stack(goals))[1] == np.inf


@pytest.mark.parametrize(
  ('action_noise', 'low', 'high'), [(0.0, 1.0, 1.0), (2.0, 0.68, 0.88)]
)
def test_expert_reaches_the_target_as_often_as_the_peers(
  action_noise, low, high
):
  # The peer: 100 % and 78 % of 100 episodes of 100 steps.
  expert = two_room_expert.TwoRoomExpert(two_room.TwoRoom(), action_noise)
  keys = jax.random.split(jax.random.key(1), 400)
  reached = jax.vmap(_reached_by_expert, in_axes=(None, 0))(expert, keys)
  assert low <= float(jnp.mean(reached)) <= high


@pytest.mark.parametrize('wall_axis', [1, 0])
def test_reset_draws_what_the_peer_draws(wall_axis, rng_key):
  world = two_room.TwoRoom(wall_axis=wall_axis)
  state = _reset_all(world, jax.random.split(rng_key, 4000))
  drawn = np.concatenate([state.position, state.target], axis=1)
  assert drawn.min() >= 14.0 and drawn.max() <= 209.0
  assert (drawn.min(axis=0) < 15.0).all() and (drawn.max(axis=0) > 208.0).all()
  across = 1 - wall_axis
  assert (np.abs(drawn[:, across] - 112.0) >= 12.0).all()
  assert (np.abs(drawn[:, 1 - across] - 112.0) < 12.0).any()
  # Left of the wall: 86 of the 171 pixels that are free.
  assert abs((drawn[:, across] < 112).mean() - 86 / 171) < 0.03
  same_room = (drawn[:, across] < 112) == (drawn[:, 2 + across] < 112)
  assert 0.46 < same_room.mean() < 0.54
  if wall_axis == 1:
    reference = _GOLDEN['reset_samples']
    error = reference.std(axis=0) / np.sqrt(len(reference))
    assert (np.abs(drawn.mean(0) - reference.mean(0)) < 4 * error).all()


@pytest.mark.parametrize(
  ('start', 'action', 'end'),
  [
    # Through the wall: back to its face, from either side.
    ((98.0, 150.0), (1.0, 0.0), (99.5, 150.0)),
    ((126.0, 150.0), (-1.0, 0.0), (124.5, 150.0)),
    # Through the door, whose span ends at 33.25 and 64.75, inclusive.
    ((98.0, 49.0), (1.0, 0.0), (103.0, 49.0)),
    ((98.0, 64.75), (1.0, 0.0), (103.0, 64.75)),
    ((98.0, 64.76), (1.0, 0.0), (99.5, 64.76)),
    ((98.0, 33.25), (1.0, 0.0), (103.0, 33.25)),
    ((98.0, 33.24), (1.0, 0.0), (99.5, 33.24)),
    # Out of the doorway sideways; the centre line belongs to the right.
    ((111.0, 62.0), (0.0, 1.0), (99.5, 67.0)),
    ((112.0, 62.0), (0.0, 1.0), (124.5, 67.0)),
    # The border, and actions beyond the bounds.
    ((23.0, 201.0), (-1.0, 1.0), (21.0, 203.0)),
    ((60.0, 60.0), (3.0, -7.0), (65.0, 55.0)),
  ],
)
def test_walls_doors_and_borders(start, action, end):
  for wall_axis, order in ((1, [0, 1]), (0, [1, 0])):
    world = two_room.TwoRoom(wall_axis=wall_axis)
    state = _at(*np.take(start, order).tolist())
    after = _step(world, state, np.take(action, order))
    np.testing.assert_allclose(after.position, np.take(end, order), atol=1e-5)
    np.testing.assert_array_equal(after.target, state.target)


def test_closed_door_slots_let_nobody_pass():
  positions = np.array([49.0, 150.0, 190.0], np.float32)
  start, action = _at(98.0, 150.0), np.array([1.0, 0.0])
  ends = [
    _step(
      two_room.TwoRoom(num_doors=count, door_positions=positions), start, action
    ).position[0]
    for count in (1, 2)
  ]
  np.testing.assert_allclose(ends, [99.5, 103.0])


def test_success_is_strictly_within_16_pixels():
  world = two_room.TwoRoom()
  goal = _at(100.0, 50.0)
  for x, expected in ((116.0, False), (115.99, True), (100.0, True)):
    assert bool(world.success(_at(x, 50.0), goal)) is expected


def test_sampled_worlds_stay_in_range_and_have_a_door_that_fits(sampled):
  worlds = sampled
  for field, low, high in (
    ('wall_axis', 0, 1),
    ('wall_thickness', 7, 41),
    ('num_doors', 1, 3),
    ('door_positions', 0, 223),
    ('door_sizes', 1, 21),
    ('agent_radius', 7, 14),
    ('agent_speed', 1.75, 10.5),
    ('target_radius', 7, 14),
    ('agent_color', 0, 255),
    ('wall_color', 0, 255),
    ('render_target', 0, 1),
  ):
    values = np.asarray(getattr(worlds, field), np.float32)
    assert low <= values.min() and values.max() <= high, field
    assert values.max() - values.min() > 0.9 * (high - low), field
  is_open = np.arange(3)[None, :] < np.asarray(worlds.num_doors)[:, None]
  fits = (
    np.asarray(worlds.door_sizes)
    >= 1.1 * np.asarray(worlds.agent_radius).astype(np.float64)[:, None]
  )
  assert (is_open & fits).any(axis=1).all()
  assert not fits.all()
  assert not np.array_equal(worlds.agent_color, worlds.wall_color)


def test_a_small_picture_is_the_big_one_averaged():
  state = _at(40.3, 171.8, (150.2, 30.9))
  for name in ('default', 'varied'):
    big = np.asarray(_render(_world(name), state), np.float32)
    world = _world(name, image_size=64)
    small = np.asarray(_render(world, state), np.float32)
    assert small.shape == (64, 64, 3)
    matrix = painting.area_matrix(224, 64)
    averaged = _average(big, matrix)
    # Six levels: the dot is sampled at pixel centres, not averaged.
    np.testing.assert_allclose(small, averaged, atol=6.0)
    assert np.abs(small - averaged).mean() < 0.6
  # No dot within 60 pixels of these: walls and doors are exact but rounded.
  default = _world('default')
  big = np.asarray(_render(default, state), np.float32)
  averaged = _average(big, matrix)
  small = _render(default.replace(image_size=64), state)
  np.testing.assert_allclose(small[:, 29:], averaged[:, 29:], atol=0.51)


def test_different_worlds_render_in_one_vmap_as_one_by_one(sampled, rng_key):
  worlds = jax.tree.map(lambda leaf: leaf[:3], sampled)
  reset = lambda world, key: world.reset(key)
  states = jax.jit(jax.vmap(reset))(worlds, jax.random.split(rng_key, 3))
  together = jax.jit(jax.vmap(lambda world, state: world.render(state)))(
    worlds, states
  )
  assert together.shape == (3, 48, 48, 3)
  pick = lambda tree, index: jax.tree.map(lambda leaf: leaf[index], tree)
  for index in range(3):
    alone = _render(pick(worlds, index), pick(states, index))
    difference = together[index].astype(jnp.int32) - alone.astype(jnp.int32)
    assert np.abs(difference).max() <= 1
    assert (np.asarray(difference) != 0).mean() < 0.002


def test_the_same_key_gives_the_same_episode(rng_key):
  world = two_room.TwoRoom(image_size=32)

  def frames(key):
    state = world.reset(key)
    return world.render(world.step(state, jnp.ones(2)))

  once, again, other = (
    jax.jit(frames)(key) for key in (rng_key, rng_key, jax.random.key(9))
  )
  np.testing.assert_array_equal(once, again)
  assert not np.array_equal(once, other)


def test_wrong_shapes_and_sizes_are_named():
  world = two_room.TwoRoom()
  state = _at(60.0, 60.0)
  with pytest.raises(
    ValueError, match=r'action must have shape \(2,\).*\(3,\)'
  ):
    world.step(state, jnp.zeros(3))
  with pytest.raises(ValueError, match=r'action .*\(4, 2\).*jax\.vmap'):
    world.step(state, jnp.zeros([4, 2]))
  batch = two_room.TwoRoomState(jnp.zeros([4, 2]), jnp.zeros([4, 2]))
  with pytest.raises(ValueError, match=r'state\.position .*\(4, 2\)'):
    world.render(batch)
  for image_size in (0, 64.0):
    with pytest.raises(ValueError, match='image_size must be a positive'):
      two_room.TwoRoom(image_size=image_size)
