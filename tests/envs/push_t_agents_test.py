"""Push-T for several: a block moves by what is pushed beyond its friction."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm import palette
from jepa_wm.envs import push_t_agents, push_t_agents_expert, pushing

WORLD = push_t_agents.PushTAgents(num_agents=3, image_size=128)
MIDDLE = [256.0, 256.0, 0.0]
FACE = 256.0 - 56.0 - 18.0
AWAY = [60.0, 60.0]
RIGHT = [1.0, 0.0]


def _state(places, pose=MIDDLE):
  return WORLD.from_vector(jnp.array([*np.ravel(places), *pose]))


@jax.jit
def _step(state, actions):
  return WORLD.step(state, jnp.asarray(actions, jnp.float32))


def _repeat(state, actions, num_steps):
  for _ in range(num_steps):
    state = _step(state, actions)
  return state


@pytest.fixture(scope='module')
def played():
  """32 starts and the expert's way from each, 110 steps."""

  @jax.jit
  @jax.vmap
  def play(key):
    state = WORLD.reset(key)
    goal = WORLD.from_vector(state.target)
    expert = push_t_agents_expert.PushTAgentsExpert(WORLD)

    def step(carry, key):
      action, memory = expert(key, *carry)
      state = WORLD.step(carry[0], action)
      seen = state.positions, state.block_pose, WORLD.allows(state)
      return (state, memory), (*seen, WORLD.success(state, goal))

    memory = expert.init(key, state)
    keys = jax.random.split(key, 110)
    return state, *jax.lax.scan(step, (state, memory), keys)[1]

  return jax.tree.map(np.asarray, play(jax.random.split(jax.random.key(3), 32)))


def test_no_one_moves_the_block_alone():
  # Along a side, off the middle, and on a corner.
  for place, action in (
    ([FACE, 256], RIGHT),
    ([FACE, 256 + 50], RIGHT),
    ([256 - 70, 256 - 70], [1.0, 1.0]),
    ([256 - 72, 256 - 60], [1.0, -0.2]),
  ):
    state = _state([place, AWAY, [450.0, 450]])
    after = _repeat(state, [action, [0, 0], [0, 0]], 5)
    np.testing.assert_allclose(after.block_pose, MIDDLE, atol=1e-4)


@pytest.mark.parametrize(
  ('count', 'expected'),
  # Full pushes beyond a weight of 1.45; of three, as far as they follow.
  [(2, 2 - 1.45), (3, 1.0)],
)
def test_the_block_goes_as_far_as_they_push_beyond_friction(count, expected):
  places = [[FACE, 256 - 38], [FACE, 256 + 38], [FACE, 256]]
  actions = np.array([RIGHT] * count + [[0, 0]] * (3 - count))
  if count < 3:
    places[2] = AWAY
  after = _step(_state(places), actions)
  way = np.asarray(after.block_pose) - MIDDLE
  np.testing.assert_allclose(way, [24 * expected, 0, 0], atol=1e-3)
  followed = np.asarray(after.positions)[:count, 0] - FACE
  np.testing.assert_allclose(followed, 24 * expected, atol=1e-3)


def test_opposite_pushes_turn_it_and_cancel():
  lever = 50.0
  places = [[FACE, 256 - lever], [512 - FACE, 256 + lever], AWAY]
  actions = [RIGHT, [-1.0, 0.0], [0, 0]]
  state = _state(places)
  after = _step(state, actions)
  # Torques of both, in half sides, less the weight; a small angle.
  pose = np.asarray(after.block_pose)
  np.testing.assert_allclose(pose[:2], MIDDLE[:2], atol=1e-3)
  most = 24 / 56 * (2 * lever / 56 - 1.45)
  assert 0.2 * most < pose[2] <= most
  # In line with each other they only squeeze it.
  places[0][1] = places[1][1] = 256.0
  np.testing.assert_allclose(
    _step(_state(places), actions).block_pose, MIDDLE, atol=1e-4
  )


def test_an_action_that_is_no_number_makes_a_state_that_is_none():
  """It is not taken for some other action."""
  state = _state([AWAY, [450.0, 60.0], [60.0, 450.0]])
  actions = jnp.zeros((3, 2)).at[1, 0].set(jnp.nan)
  places = _step(state, actions).positions
  assert jnp.isnan(places).tolist() == jnp.isnan(actions).tolist()


def test_permuting_agents_permutes_the_step(played):
  order = np.array([2, 0, 1])
  rng = np.random.default_rng(0)
  for places, pose in zip(played[1][:6, 25], played[2][:6, 25]):
    actions = rng.uniform(-1, 1, (3, 2))
    one = _step(_state(places, pose), actions)
    other = _step(_state(places[order], pose), actions[order])
    np.testing.assert_allclose(other.positions, one.positions[order], atol=1e-3)
    np.testing.assert_allclose(other.block_pose, one.block_pose, atol=1e-3)


def test_nothing_is_in_another_and_the_expert_solves(played):
  start, _, poses, allowed, solved = played
  assert np.all(allowed)
  assert np.mean(np.any(solved, axis=1)) >= 0.97
  assert np.mean(solved[:, -1]) >= 0.97
  assert np.all(np.abs(poses[..., :2] - 256) < 200)
  assert start.target.shape == (32, 9)


def test_success_counts_places_and_the_block():
  goal = _state([[50, 50], [100, 50], [150, 50]])
  moved = _state([[50, 80], [100, 95], [150, 50]], [266, 256, 0.0])
  np.testing.assert_allclose(WORLD.distances(moved, goal), [15, 22.5, 10])
  np.testing.assert_array_equal(
    WORLD.successes(moved, goal), [True, False, True]
  )
  assert not WORLD.success(moved, goal)
  # A quarter of a turn looks the same, an eighth does not.
  for turn, expected in ((np.pi / 2, True), (np.pi / 4, False)):
    turned = _state([[50, 50], [100, 50], [150, 50]], [256, 256, turn])
    assert WORLD.success(turned, goal) == expected


def test_the_picture_shows_all():
  places = np.array([[60.0, 60], [420, 60], [60, 420]])
  pixels = np.asarray(jax.jit(lambda s: WORLD.render(s))(_state(places)))
  seen = pixels[(places[:, 1] / 4).astype(int), (places[:, 0] / 4).astype(int)]
  np.testing.assert_array_equal(seen, palette.AGENT_COLORS[:3])
  assert np.ptp(pixels[64, 64].astype(int)) < 60 and pixels[64, 64].min() < 170


def test_ways_out_of_a_square():
  points = jnp.array([[3.0, 0], [0, -1.5], [2, 2], [0.5, 0.2]])
  distances, normals = jax.jit(pushing.sides)(1.0, points, jnp.zeros(3))
  np.testing.assert_allclose(distances, [2, 0.5, np.sqrt(2), -0.5], atol=1e-6)
  half = np.sqrt(0.5)
  np.testing.assert_allclose(
    normals, [[1, 0], [0, -1], [half, half], [1, 0]], atol=1e-6
  )
