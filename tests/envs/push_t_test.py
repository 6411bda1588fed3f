"""Push-T against the peer's recorded episodes, closed forms, and misuse."""

import dataclasses
import functools

import compiler
import golden_files
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm.envs import contacts, push_t, push_t_shapes

_GOLDEN, _META = golden_files.load('push_t')
_FULL = (0, 1, 2, 3, 5, 6)  # All but the angle, of a full state.
_EPISODES, _STEPS, _ = np.maximum(_GOLDEN['actions'].shape, [32, 40, 2])


@functools.partial(jax.jit, compiler_options=compiler.AS_USERS_HAVE_IT)
def _play_padded(vectors, actions):
  world = push_t.PushT()

  def step(state, action):
    state = jax.vmap(world.step)(state, action)
    return state, state

  state = jax.vmap(world.from_vector)(vectors)
  return jax.lax.scan(step, state, actions)[1]


def _play(vectors, actions):
  """Plays actions `[P, T, 2]` from vectors `[P, 7]`; leaves `[T, P, ...]`.

  Always the same shapes, so that each precision is compiled once.
  """
  episodes, steps = actions.shape[:2]
  more = _EPISODES - episodes
  vectors = np.pad(np.asarray(vectors), [(0, more), (0, 0)], mode='edge')
  widths = [(0, _STEPS - steps), (0, more), (0, 0)]
  actions = np.pad(np.moveaxis(np.asarray(actions), 1, 0), widths)
  states = _play_padded(jnp.asarray(vectors), jnp.asarray(actions))
  return jax.tree.map(lambda leaf: np.asarray(leaf)[:steps, :episodes], states)


def _until(found):
  """Whether nothing has been found so far, of flags `[P, T]`; `[T, P]`."""
  return ~np.logical_or.accumulate(found, axis=1).T


# The peer does not clip what it is told to do.
_LEGAL = _until(np.abs(_GOLDEN['actions']).max(-1) > 1)
_CLEAR = _LEGAL & _until(_GOLDEN['block_touches_wall'][:, 1:])


def _errors(states):
  """Largest error of positions and velocity, and of the angle, `[T, P]`."""
  full = _GOLDEN['full_states'][:, 1:].swapaxes(0, 1)
  ours = np.concatenate(
    [states.agent_position, states.block_pose[..., :2], states.agent_velocity],
    axis=-1,
  )
  turned = push_t.angle_difference(states.block_pose[..., 2], full[..., 4])
  return np.abs(ours - full[..., _FULL]).max(-1), np.abs(turned)


@pytest.mark.slow
def test_golden_episodes_in_float64():
  with jax.enable_x64(True):
    states = _play(
      jnp.asarray(_GOLDEN['states'][:, 0], jnp.float64),
      jnp.asarray(_GOLDEN['actions'], jnp.float32),
    )
    assert states.block_pose.dtype == jnp.float64
    moved, turned = _errors(states)
  # Half of float32's spacing at 2,000 px/s is all that is left.
  assert moved[_CLEAR].max() < 1.3e-4
  assert turned[_CLEAR].max() < 5e-7
  # Between agent and walls a block is jammed, where the order in which
  # Chipmunk's tree happens to list the contacts decides.
  jammed = _LEGAL & ~_CLEAR
  assert np.percentile(moved[jammed], 90) < 2.0
  agents = _GOLDEN['full_states'][:, 1:, :2].swapaxes(0, 1)
  missed = np.abs(states.agent_position - agents)[_LEGAL]
  assert missed.max() < 1.3e-4


def test_golden_episodes_in_float32():
  states = _play(_GOLDEN['states'][:, 0], _GOLDEN['actions'])
  assert states.block_pose.dtype == jnp.float32
  moved, turned = _errors(states)
  assert moved[_CLEAR].max() < 2e-3
  assert turned[_CLEAR].max() < 1e-5


def test_golden_single_steps_follow_from_the_hidden_state():
  """Where nothing touched before, a state is all there is to know."""
  untouched = (_GOLDEN['n_contacts'][:, :-1] == 0) & _CLEAR[1:].T
  episodes, steps = (found[:_EPISODES] for found in np.nonzero(untouched))
  assert len(steps) > 0
  full = _GOLDEN['full_states'][episodes, steps + 1]
  after = _GOLDEN['full_states'][episodes, steps + 2]
  with jax.enable_x64(True):
    states = _play(
      jnp.asarray(full[:, :7], jnp.float64),
      jnp.asarray(_GOLDEN['actions'][episodes, steps + 1][:, None]),
    )
    np.testing.assert_allclose(
      states.block_pose[0], after[:, 2:5], atol=5e-5, rtol=0
    )


def test_constants_are_the_peers():
  constants = _META['constants']
  world = push_t.PushT()
  assert world.agent_radius == constants['agent']['shapes'][0]['radius']
  np.testing.assert_array_equal(
    world.goal_pose, np.float32(constants['goal_pose_default'])
  )
  corners = []
  for x, y, half_x, half_y in np.asarray(world.block_rectangles):
    corners.append([x - half_x, y - half_y, x + half_x, y + half_y])
  for ours, theirs in zip(corners, constants['block']['shapes']):
    theirs = np.asarray(theirs['vertices'])
    np.testing.assert_array_equal(ours, [*theirs.min(0), *theirs.max(0)])
  body = world.body()
  assert body.moment == pytest.approx(constants['block']['moment'])
  assert list(body.centre) == constants['block']['center_of_gravity']


def test_resets_are_drawn_as_the_peers():
  world = push_t.PushT()
  keys = jax.random.split(jax.random.key(0), 4000)
  states = jax.jit(jax.vmap(world.reset))(keys)
  vectors = np.asarray(jax.vmap(world.vector)(states))
  for drawn in (vectors, np.asarray(states.target)):
    assert drawn[:, :2].min() >= 50 and drawn[:, :2].max() <= 450
    assert drawn[:, 2:4].min() >= 100 and drawn[:, 2:4].max() <= 400
    np.testing.assert_allclose(drawn[:, :2].mean(0), 250, atol=8)
    np.testing.assert_allclose(drawn[:, 2:4].mean(0), 250, atol=6)
    np.testing.assert_allclose(drawn[:, 4].mean(), np.pi, atol=0.12)
    np.testing.assert_array_equal(drawn[:, 5:], 0)
  assert abs(np.corrcoef(vectors[:, 0], states.target[:, 0])[0, 1]) < 0.06
  theirs = _GOLDEN['reset_samples']
  assert theirs[:, 2:4].min() >= 100 and theirs[:, 2:4].max() <= 400


def test_agent_follows_its_spring():
  """The recurrence written plainly; nothing in the way."""
  vector = np.array([60, 70, 400, 380, 0.3, 20, -10])
  action = np.array([0.5, -0.25], np.float32)
  position, velocity = vector[:2].copy(), vector[5:].copy()
  towards = position + 100 * action
  for _ in range(10):
    velocity += (100 * (towards - position) - 20 * velocity) * 0.01
    position += velocity * 0.01
  with jax.enable_x64(True):
    state = _play(jnp.asarray(vector)[None], jnp.asarray(action)[None, None])
    np.testing.assert_allclose(state.agent_position[0, 0], position, atol=1e-4)
    np.testing.assert_allclose(state.agent_velocity[0, 0], velocity, atol=1e-3)


def test_an_untouched_block_stays_to_the_bit():
  vectors = jnp.asarray(
    [[60, 70, 333.3, 300.7, angle, 0, 0] for angle in (0.1, 2.2, 5.9)],
    jnp.float32,
  )
  actions = jax.random.uniform(jax.random.key(0), (3, 40, 2), minval=-1.0)
  actions = 0.2 * actions
  states = _play(vectors, actions)
  np.testing.assert_array_equal(
    states.block_pose, np.broadcast_to(vectors[:, 2:5], (40, 3, 3))
  )


def test_a_push_through_the_centre_does_not_turn_the_block():
  # From below along the stem: the tee's axis of symmetry.
  vector = jnp.asarray([256.0, 420, 256, 256, 0, 0, 0])
  states = _play(vector[None], np.tile([0.0, -1.0], (1, 6, 1)))
  pose = states.block_pose[:, 0]
  np.testing.assert_allclose(pose[:, 0], 256, atol=1e-3)
  np.testing.assert_allclose(pose[:, 2], 0, atol=1e-5)
  # 41 px a step: the spring's pull to 100 px ahead, against its damper.
  np.testing.assert_allclose(np.diff(pose[2:, 1]), -41, atol=3)
  # Pushed and not pulled, and no deeper than what is undone at once.
  gap = states.agent_position[1:, 0, 1] - pose[1:, 1] - 120
  assert np.all(gap < 15.5) and np.all(gap > 12.5)
  # Nothing of the motion is left once the agent has turned back.
  back = np.tile([0.0, 1.0], (1, 6, 1))
  back[0, :3] = [0.0, -1.0]
  turned = _play(vector[None], back).block_pose[:, 0]
  assert turned[2, 1] < 200
  np.testing.assert_array_equal(turned[3:], np.tile(turned[3], (3, 1)))


def test_turning_the_whole_scene_changes_nothing():
  """A quarter turn about the middle of the four walls maps them onto each
  other; also where the block is pushed into one of them."""
  centre = (push_t.push_t_walls.WALL_LOW + 506.0) / 2
  vectors = np.array(
    [[250, 100, 250, 150, 0.3, 0, 0], [300, 220, 390, 260, -1.4, 0, 0]]
  )
  actions = np.float32([[[0.1, 0.8]], [[1.0, 0.1]]])
  actions = np.tile(actions, (1, 30, 1))

  def turn(points):
    return np.stack([-points[..., 1], points[..., 0]], axis=-1)

  turned = vectors.copy()
  turned[:, :2] = turn(vectors[:, :2] - centre) + centre
  turned[:, 2:4] = turn(vectors[:, 2:4] - centre) + centre
  turned[:, 4] += np.pi / 2
  with jax.enable_x64(True):
    states = _play(jnp.asarray(vectors), jnp.asarray(actions))
    others = _play(jnp.asarray(turned), jnp.asarray(turn(actions)))
    assert np.asarray(states.memory.wall_missed).min() == 0
    # Sides of the room come in another order, which shows in a jam only.
    np.testing.assert_allclose(
      others.block_pose[..., :2] - centre,
      turn(np.asarray(states.block_pose[..., :2]) - centre),
      atol=1e-3,
    )
    np.testing.assert_allclose(
      others.block_pose[..., 2] - np.pi / 2,
      states.block_pose[..., 2],
      atol=1e-8,
    )


def test_walls_stop_the_block_and_not_the_agent():
  # Down, on the end of the stem of a tee that stands on its bar.
  vector = jnp.asarray([256.0, 300, 256, 470, np.pi, 0, 0])
  states = _play(vector[None], np.tile([0.0, 0.3], (1, 8, 1)))
  flat = states.block_pose[:, 0, 1]
  missed = states.memory.wall_missed[:, 0, 1, 0]
  assert missed[0] == 3 and missed[-1] == 0
  np.testing.assert_allclose(states.block_pose[:, 0, 2], np.pi, atol=0.05)
  # The face is at 504. In the jam the block rocks, and sinks in a little.
  assert 503.0 < flat.max() < 510.0
  away = _play(
    _vectors(states, -1), np.tile([0.0, -1.0], (1, 10, 1))
  ).block_pose[:, 0, 1]
  assert 500.0 < away[-1] < 504.2


def test_an_agent_inside_the_block_pushes_it_off():
  # Six pixels under the bar's far side, whence the block leaves downwards until
  # 15 px, less the overlap that is allowed, lie between.
  vector = jnp.asarray([256.0, 262, 256, 256, 0, 0, 0])
  states = _play(vector[None], np.zeros((1, 20, 2)))
  np.testing.assert_allclose(
    states.block_pose[-1, 0], [256, 262 + 15 - 0.1, 0], atol=0.01
  )
  np.testing.assert_allclose(states.agent_position[-1, 0], [256, 262])


def _vectors(states, step):
  """Vectors `[P, 7]` of states `[T, P, ...]` at a step, contacts forgotten."""
  parts = states.agent_position, states.block_pose, states.agent_velocity
  return np.concatenate([part[step] for part in parts], axis=-1)


def _goal(world, **changes):
  vector = np.array([200, 210, 256, 256, 0.5, 0, 0], np.float32)
  for i, name in enumerate(push_t.STATE_NAMES):
    vector[i] += changes.get(name, 0)
  return world.from_vector(vector)


def test_success_is_both_places_and_the_angle():
  world = push_t.PushT()
  goal = _goal(world)
  success = lambda **changes: bool(world.success(_goal(world, **changes), goal))
  assert float(world.distance(goal, goal)) == 0.0
  assert success(agent_x=19.9) and not success(agent_x=20.1)
  assert not success(agent_x=15, block_y=15)
  assert success(block_angle=0.34) and not success(block_angle=0.36)
  assert success(block_angle=-0.34, block_x=19, agent_vx=400)


@pytest.mark.parametrize('turns', [-3, -1, 1, 2, 5])
def test_whole_turns_do_not_matter(turns):
  world = push_t.PushT()
  goal = _goal(world)
  for angle in (0.0, 0.3, -0.3):
    assert world.success(
      _goal(world, block_angle=angle + 2 * np.pi * turns), goal
    )
  # More than a turn apart and upside down: the peers' formula says yes.
  difference = abs(np.pi * (2 * turns + 1))
  upside_down = _goal(world, block_angle=np.pi * (2 * turns + 1))
  assert not world.success(upside_down, goal)
  peers = min(difference, 2 * np.pi - difference) < np.pi / 9
  assert peers == (difference > 2 * np.pi)


def test_distance_says_success():
  world = push_t.PushT()
  key, noise_key = jax.random.split(jax.random.key(1))
  vectors = jax.random.uniform(key, (500, 7), minval=100.0, maxval=110.0)
  noise = jax.random.normal(noise_key, (500, 7))
  others = vectors + noise * np.array([[9, 9, 9, 9, 0.2, 50, 50]])
  states, goals = (jax.vmap(world.from_vector)(v) for v in (vectors, others))
  off = np.asarray(vectors - others)
  wrapped = np.abs((off[:, 4] + np.pi) % (2 * np.pi) - np.pi)
  expected = (np.linalg.norm(off[:, :4], axis=-1) < 20) & (wrapped < np.pi / 9)
  assert 0.2 < expected.mean() < 0.8
  # But for the last bit: one of these sums is rounded in float32.
  clear = np.abs(np.linalg.norm(off[:, :4], axis=-1) - 20) > 1e-3
  ours = np.asarray(jax.vmap(world.success)(states, goals))
  np.testing.assert_array_equal(ours[clear], expected[clear])


def test_vector_goes_there_and_back():
  world = push_t.PushT()
  vector = jnp.asarray([50.0, 60, 200, 210, 6.0, 30, -40])
  state = world.from_vector(vector)
  np.testing.assert_array_equal(world.vector(state), vector)
  np.testing.assert_array_equal(state.target, vector)
  np.testing.assert_array_equal(world.proprio(state), [50, 60, 30, -40])
  turned = world.from_vector(vector.at[4].add(-2 * np.pi))
  np.testing.assert_allclose(world.vector(turned), vector, atol=1e-5)
  assert turned.block_pose[2] < 0


def test_actions_are_clipped():
  vector = jnp.asarray([100.0, 100, 300, 300, 0, 0, 0])[None]
  wild = _play(vector, np.tile([3.0, -7.0], (1, 3, 1)))
  legal = _play(vector, np.tile([1.0, -1.0], (1, 3, 1)))
  np.testing.assert_array_equal(wild.agent_position, legal.agent_position)


@pytest.mark.parametrize('name', push_t_shapes.NAMES)
def test_a_shape_is_the_same_known_or_not(name):
  """A shape that is a constant, and one that is data."""
  index = push_t_shapes.NAMES.index(name)
  known = push_t.PushT(block_shape=index, block_scale=25.0)
  count = len(push_t_shapes.SHAPES[name].rectangles)
  assert known.block_rectangles.shape == (count, 4)

  @jax.jit
  def as_data(world):
    body = world.body()
    return body.centre, body.moment, world.block_rectangles

  centre, moment, rectangles = as_data(known)
  body = known.body()
  assert rectangles.shape == (3, 4)
  np.testing.assert_array_equal(rectangles[:count], known.block_rectangles)
  np.testing.assert_array_equal(rectangles[:count], body.rectangles)
  assert np.all(np.abs(rectangles[count:, 0]) > 1e5)
  np.testing.assert_allclose(centre, body.centre, rtol=1e-6)
  np.testing.assert_allclose(moment, body.moment, rtol=1e-6)


def test_uniform_plates_are_heavier_to_turn_about_an_end():
  """Moments of two shapes by the formula of a uniform rectangle, mass 1."""
  shapes = push_t_shapes.SHAPES
  assert shapes['square'].moment == pytest.approx((2**2 + 2**2) / 12)
  assert shapes['I'].moment == pytest.approx((1**2 + 4**2) / 12)
  assert shapes['T'].centre == (0.0, 1.5)
  assert shapes['L'].centre == (0.75, 0.25)


@pytest.mark.slow
def test_a_batch_of_different_worlds():
  """Shapes as data, among them the tee, which moves as the constant one."""
  keys = jax.random.split(jax.random.key(2), 6)
  worlds = jax.vmap(push_t.PushT.sample_variation)(keys)
  worlds = dataclasses.replace(
    worlds,
    agent_radius=worlds.agent_radius.at[0].set(15.0),
    block_shape=worlds.block_shape.at[0].set(push_t.TEE),
    block_scale=worlds.block_scale.at[0].set(30.0),
  )
  vector = np.array([250.0, 180, 256, 256, 0.4, 0, 0], np.float32)

  @jax.jit
  def play(worlds):
    def one(world):
      state = world.from_vector(vector)
      step = lambda state, _: (
        world.step(state, jnp.asarray([0.02, 0.6])),
        None,
      )
      return jax.lax.scan(step, state, None, length=6)[0]

    return jax.vmap(one)(worlds)

  pose = play(worlds).block_pose
  tee = _play(vector[None], np.tile([0.02, 0.6], (1, 6, 1)))
  assert np.abs(tee.block_pose[-1, 0] - vector[2:5]).max() > 20
  np.testing.assert_allclose(pose[0], tee.block_pose[-1, 0], atol=0.02)
  pose = np.asarray(pose)
  assert np.all(np.abs(pose - vector[2:5]).max(-1) > 5)
  assert np.all(np.isfinite(pose))


def test_variation_covers_the_peers_ranges():
  keys = jax.random.split(jax.random.key(0), 2000)
  worlds = jax.jit(jax.vmap(push_t.PushT.sample_variation))(keys)
  radius = np.asarray(worlds.agent_radius)
  assert 7.5 <= radius.min() < 7.7 and 22.3 < radius.max() <= 22.5
  scale = np.asarray(worlds.block_scale)
  assert 20 <= scale.min() < 20.2 and 59.8 < scale.max() <= 60
  counts = np.bincount(worlds.block_shape, minlength=7)
  assert len(counts) == 7 and counts.min() > 200
  assert 0.45 < np.mean(worlds.render_goal) < 0.55
  colors = np.asarray(worlds.block_color)
  assert colors.min() == 0 and colors.max() == 255
  assert np.min(worlds.light) >= 0.4 and np.max(worlds.light) <= 1.0
  assert np.abs(worlds.goal_pose[:, 2]).max() <= 2 * np.pi


def test_a_corner_deep_in_a_wall_is_found():
  """Where a disc and a wall touch, by hand."""
  disc = contacts.disc_contact(
    jnp.asarray(0.0),
    jnp.asarray(-10.0),
    15.0,
    contacts.Rectangle(0.0, 15.0, 60.0, 15.0),
    (0.0, 45.0),
  )
  assert disc.touching
  np.testing.assert_allclose(disc.distance, -5.0)
  np.testing.assert_allclose([disc.normal_x, disc.normal_y], [0, 1])
  # A square's corner 3 px over a wall of radius 2: one point, on the normal.
  corner = 10 * np.sqrt(2)
  touch = jax.jit(
    lambda height: contacts.wall_touch(
      contacts.Rectangle(0.0, 0.0, 10.0, 10.0),
      jnp.asarray(np.cos(np.pi / 4 + 0.1)),
      jnp.asarray(np.sin(np.pi / 4 + 0.1)),
      (jnp.asarray(corner * np.cos(0.1) + height), jnp.asarray(100.0)),
      (0.0, 0.0),
      (5.0, 506.0),
      2.0,
    )
  )
  assert not touch(2.01).low.touching and not touch(2.01).high.touching
  near = touch(1.5)
  assert bool(near.low.touching) != bool(near.high.touching)
  point = near.low if near.low.touching else near.high
  np.testing.assert_allclose(point.distance, -0.5, atol=1e-5)
  np.testing.assert_allclose([point.normal_x, point.normal_y], [1, 0])


@pytest.mark.parametrize(
  ('call', 'message'),
  [
    (lambda w, s: w.step(s, jnp.zeros(3)), 'action must have shape'),
    (lambda w, s: w.from_vector(jnp.zeros(5)), 'agent_x, agent_y, block_x'),
    (lambda w, s: dataclasses.replace(w, image_size=0), 'image_size'),
  ],
)
def test_doors(call, message):
  world = push_t.PushT()
  state = world.from_vector(jnp.zeros(7))
  with pytest.raises(ValueError, match=message):
    call(world, state)
