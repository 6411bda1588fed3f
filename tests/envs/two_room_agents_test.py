"""Two Room for several: nobody touches anybody, and one passes at a time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm import palette, recipes
from jepa_wm.envs import two_room_agents, two_room_agents_expert, worlds

WORLD = two_room_agents.TwoRoomAgents(num_agents=4, image_size=112)
DOOR = 49.0
# Out of the way of whatever is tried.
CORNER = [[30.0, 190.0], [60.0, 190.0]]


@jax.jit
def _step(positions, actions):
  state = WORLD.from_vector(jnp.asarray(positions, jnp.float32).reshape(-1))
  return WORLD.step(state, jnp.asarray(actions, jnp.float32)).positions


def _repeat(positions, actions, num_steps):
  for _ in range(num_steps):
    positions = _step(positions, actions)
  return np.asarray(positions)


@pytest.fixture(scope='module')
def played():
  """32 starts, and the expert's way from each: `[32, 160, 4, 2]`, reached."""

  @jax.jit
  @jax.vmap
  def play(key):
    state = WORLD.reset(key)
    goal = WORLD.from_vector(state.target)
    expert = two_room_agents_expert.TwoRoomAgentsExpert(WORLD, 0.1)

    def step(carry, key):
      action, memory = expert(key, *carry)
      state = WORLD.step(carry[0], action)
      return (state, memory), (state.positions, WORLD.success(state, goal))

    memory = expert.init(key, state)
    return state, *jax.lax.scan(
      step, (state, memory), jax.random.split(key, 160)
    )[1]

  return jax.tree.map(np.asarray, play(jax.random.split(jax.random.key(3), 32)))


def _nearest(places):
  offsets = places[..., None, :] - places[..., None, :, :]
  offsets = np.linalg.norm(offsets, axis=-1)
  return np.min(offsets + 1e3 * np.eye(places.shape[-2]))


def test_those_who_meet_stop_half_way_and_slide_past():
  start = [[40.0, 120.0], [60.0, 120.0], *CORNER]
  ahead = np.zeros((4, 2))
  ahead[0, 0], ahead[1, 0] = 1.0, -1.0
  met = _repeat(start, ahead, 1)
  # 20 px apart, of which 14 are theirs: each may have half of the rest.
  np.testing.assert_allclose(met[:2], [[43, 120], [57, 120]], atol=1e-3)
  np.testing.assert_allclose(met[2:], CORNER)
  np.testing.assert_allclose(_repeat(met, ahead, 3), met, atol=1e-2)
  # Going down as well, only what leads towards the other is taken away.
  aside = np.array(ahead)
  aside[0, 1] = 1.0
  slid = _step(met, aside)
  np.testing.assert_allclose(slid[0], met[0] + [0, 5], atol=1e-2)
  # Who stands alone goes as far as its action says, clipped.
  alone = _step([[40.0, 60.0], [60.0, 120.0], *CORNER], 2.0 * ahead)
  np.testing.assert_allclose(alone[0], [45, 60])


def test_a_door_passes_one_at_a_time():
  # Two side by side want through: the one in line passes, the other waits.
  start = [[96.0, DOOR - 2], [96.0, DOOR + 14], *CORNER]
  ahead = np.zeros((4, 2))
  ahead[:2, 0] = 1.0
  after = _repeat(start, ahead, 12)
  assert after[0, 0] > 150 and after[1, 0] < 101
  # Two who meet in it hold each other up, however they push.
  start = [[90.0, DOOR], [134.0, DOOR + 5], *CORNER]
  ahead[1, 0] = -1.0
  rng = np.random.default_rng(0)
  places = np.asarray(start)
  for _ in range(40):
    aside = np.zeros((4, 2))
    aside[:2, 1] = rng.uniform(-1, 1, 2)
    places = np.asarray(_step(places, ahead + aside))
    assert places[0, 0] < places[1, 0]
  assert np.all(np.abs(places[:2, 0] - 112) < 18)


def test_permuting_agents_permutes_the_step(played):
  order = np.array([2, 0, 3, 1])
  rng = np.random.default_rng(1)
  for place in played[1][:5, 30]:
    actions = rng.uniform(-1, 1, (4, 2))
    np.testing.assert_allclose(
      _step(place[order], actions[order]),
      _step(place, actions)[order],
      atol=1e-4,
    )


def test_nobody_overlaps_and_walls_hold(played):
  starts, places, _ = played
  assert _nearest(starts.positions) > 14
  assert _nearest(starts.target.reshape(-1, 4, 2)) > 17.4
  assert _nearest(places) > 14 - 2e-3
  in_wall = np.abs(places[..., 0] - 112) < 12 - 1e-3
  assert np.all(np.abs(places[in_wall][:, 1] - DOOR) < 6.75 + 1e-3)
  assert np.any(in_wall)


def test_the_expert_brings_all_to_their_targets(played):
  assert np.mean(np.any(played[2], axis=1)) >= 0.97
  # Those who arrived stay.
  assert np.mean(played[2][:, -1]) >= 0.97


def test_success_is_that_of_all():
  goal = WORLD.from_vector(jnp.array([40.0, 60, 150, 60, 30, 190, 60, 190]))
  state = WORLD.from_vector(goal.target.at[2].add(20.0).at[0].add(3.0))
  np.testing.assert_allclose(WORLD.distances(state, goal), [3, 20, 0, 0])
  np.testing.assert_array_equal(
    WORLD.successes(state, goal), [True, False, True, True]
  )
  assert not WORLD.success(state, goal) and WORLD.success(goal, goal)
  assert WORLD.distance(state, goal) == 20
  np.testing.assert_allclose(WORLD.places(state)[1], [170, 60])


def test_agents_have_their_colours():
  places = np.array([[40.0, 60], [150, 60], [30, 190], [60, 160]])
  pixels = np.asarray(
    jax.jit(lambda state: WORLD.render(state))(
      WORLD.from_vector(places.reshape(-1))
    )
  )
  seen = pixels[(places[:, 1] / 2).astype(int), (places[:, 0] / 2).astype(int)]
  np.testing.assert_allclose(seen, palette.AGENT_COLORS[:4], atol=12)


def test_what_cannot_be_is_said():
  for count in (0, 9, 2.0):
    with pytest.raises(ValueError, match='num_agents must be an integer of 1'):
      two_room_agents.TwoRoomAgents(num_agents=count)
  state = WORLD.from_vector(jnp.zeros(8))
  with pytest.raises(ValueError, match=r'\(4, 2\), one .* got \(6,\)'):
    WORLD.step(state, jnp.zeros(6))
  two = two_room_agents.TwoRoomAgents()
  with pytest.raises(ValueError, match=r'each of the 2 agents, got \(4, 2\)'):
    two.render(state)


def test_a_name_says_how_many_there_are():
  name = worlds.with_num_agents('two_room_agents', 4)
  assert name == 'two_room_agents_4'
  assert worlds.get(name).make().num_agents == 4
  assert worlds.get(name).num_agents == 4
  assert worlds.with_num_agents('two_room_agents', 2) == 'two_room_agents'
  with pytest.raises(ValueError, match=r'num_agents=2 contradicts.*4 act'):
    worlds.with_num_agents(name, 2)
  assert worlds.with_num_agents(name, None) == name
  assert worlds.are_alike(name, 'two_room_agents')
  assert worlds.find('two_room_4') is None
  with pytest.raises(ValueError, match='1 to 8, got 9'):
    worlds.get('two_room_agents_9')
  with pytest.raises(ValueError, match="do nothing in 'two_room', where one"):
    recipes.Collecting(num_agents=3)
  asked = recipes.Collecting(environment='two_room_agents', num_agents=3)
  assert asked.environment == 'two_room_agents_3'
  assert asked.provenance()['environment_parameters']['num_agents'] == 3
