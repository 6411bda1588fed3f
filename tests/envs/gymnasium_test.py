"""Any Gymnasium environment is a host world, or says why it cannot be."""

import numpy as np
import pytest

gymnasium = pytest.importorskip('gymnasium')

from jepa_wm.envs import gymnasium as host_gymnasium  # noqa: E402
from jepa_wm.envs import host_pool  # noqa: E402

spaces = gymnasium.spaces


class Slider(gymnasium.Env):
  """A point on a line, with a Dict of what is observed."""

  observation_space = spaces.Dict(
    {'where': spaces.Box(-9, 9, (1,)), 'when': spaces.Box(0, 99, (1,))}
  )

  def __init__(self, action_space, picture=True):
    self.action_space = action_space
    self._picture = picture
    self.last = None

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed)
    self.where, self.when = self.np_random.uniform(), 0
    return self._look(), {}

  def step(self, action):
    self.last = action
    self.where += float(np.sum(action))
    self.when += 1
    # Over after every step: who plays decides when an episode ends.
    return self._look(), 0.5 * self.when, True, True, {}

  def render(self):
    return np.full((8, 8, 3), self.when, np.uint8) if self._picture else None

  def put(self, state):
    self.where, self.when = state

  def _look(self):
    return {'where': np.array([self.where]), 'when': np.array([self.when])}


def get_state(env):
  return np.array([env.where, env.when])


BOX = spaces.Box(*np.array([[-1.0, -2.0], [1.0, 2.0]], np.float32))


def make(action_space=BOX, **kwargs):
  return host_gymnasium.make_world(
    Slider,
    image_size=4,
    kwargs={'action_space': action_space},
    success_distance=0.5,
    **kwargs,
  )


def open_pool(world):
  return host_pool.Pool(world, 2, num_workers=0)


def test_a_dict_is_observed_part_by_part():
  world = make()
  assert (world.vector_dim, world.proprio_dim, world.action_dim) == (2, 0, 2)
  with open_pool(world) as pool:
    pool.reset([0, 1], [5, 5], look=True)
    first = pool.vectors([0, 1])
    np.testing.assert_array_equal(first[0], first[1])
    np.testing.assert_allclose(
      first[0], [np.random.default_rng(5).uniform(), 0]
    )
    # Clipped to the bounds, and no end ends it.
    trail = pool.play([0], np.array([[[3.0, -3.0], [0.5, 0.0], [0, 1.0]]]))
    np.testing.assert_allclose(
      trail.vectors[0] - first[0], [[-1, 1], [-0.5, 2], [0.5, 3]], atol=1e-6
    )
    assert trail.rewards.tolist() == [[0.5, 1.0, 1.5]] and world.gives_reward
    pool.look([0])
    assert np.all(pool.pixels([0]) == 3)


@pytest.mark.parametrize('method', ['put', Slider.put])
def test_a_state_is_set_by_the_method_that_was_named(method):
  world = make(set_state=method, get_state=get_state, get_proprio='when')
  assert world.proprio_dim == 1
  vectors = np.array([[2.0, 7.0], [-1.0, 8.0]])
  with open_pool(world) as pool:
    drawn = pool.draw(vectors)
    assert drawn[:, 0, 0, 0].tolist() == [7, 8]
    np.testing.assert_array_equal(pool.vectors([0, 1]), vectors)
    np.testing.assert_array_equal(pool.proprio([0, 1]), [[7], [8]])
  assert world.success(vectors, vectors + np.array([0.1, 0.4])).tolist() == [
    True,
    True,
  ]
  assert (
    world.success(vectors, vectors + np.array([0.4, 0.4])).tolist()
    == [False] * 2
  )


def test_discrete_actions_are_one_hot_rows():
  world = make(spaces.Discrete(3, start=2))
  assert world.is_discrete and world.action_dim == 3
  with open_pool(world) as pool:
    pool.reset([0], [0])
    trail = pool.play([0], np.eye(3)[None, [2, 0]])
    np.testing.assert_allclose(np.diff(trail.vectors[0, :, 0]), [2])


def failure(world, *, place=False):
  with open_pool(world) as pool:
    if place:
      pool.place([0], np.zeros((1, 2)))
    else:
      pool.reset([0], [0], look=True)
    return pool.failures[0]


def test_without_pictures_it_says_so():
  world = host_gymnasium.make_world(
    Slider, image_size=4, kwargs={'action_space': BOX, 'picture': False}
  )
  assert "render_mode='rgb_array'" in failure(world)


@pytest.mark.parametrize(
  ('kwargs', 'message'),
  [
    ({}, 'no method to set a state was named'),
    ({'set_state': 'put'}, 'name a method that says the state'),
    ({'set_state': 'put_there'}, "Slider has no 'put_there'"),
  ],
)
def test_states_that_cannot_be_set(kwargs, message):
  assert message in failure(make(**kwargs), place=True)


@pytest.mark.parametrize(
  ('space', 'message'),
  [
    (
      spaces.Dict({'arm': BOX, 'gripper': spaces.Discrete(2)}),
      'got a Dict of arm, gripper',
    ),
    (spaces.Box(-np.inf, np.inf, (2,)), 'must be bounded'),
    (spaces.MultiDiscrete([2, 2]), 'must be a Box or Discrete, got MultiDis'),
  ],
)
def test_actions_that_cannot_be_planned(space, message):
  with pytest.raises(ValueError, match=message):
    make(space)


@pytest.mark.slow
def test_an_id_of_the_registry_in_worker_processes():
  pytest.importorskip('pygame')
  world = host_gymnasium.make_world(
    'CartPole-v1', image_size=16, get_state='state', set_state=tilt
  )
  assert world.is_discrete and world.parameters == {'id': 'CartPole-v1'}
  actions = np.eye(2)[np.random.default_rng(0).integers(2, size=(2, 30))]
  trails = []
  for num_workers in (0, 2):
    with host_pool.Pool(world, 2, num_workers=num_workers) as pool:
      pool.reset([0, 1], [3, 4], look=True)
      trails.append(pool.play([0, 1], actions).vectors)
      assert not pool.failures and np.ptp(pool.pixels([0])) > 100
  np.testing.assert_array_equal(*trails)


def tilt(env, state):
  env.state = state


class Odd(Slider):
  """Observes what it is told to, and takes whole numbers."""

  def __init__(self, seen=0.0):
    super().__init__(spaces.Box(-5, 5, (2,), np.int64))
    self.seen, self.when = seen, 0

  def reset(self, *, seed=None, options=None):
    return self.seen, {}

  def step(self, action):
    self.last = action
    return self.seen, 0.0, False, False, {}


@pytest.mark.parametrize(
  ('seen', 'named'),
  [
    ({'direction': 0, 'mission': 'go to the red door'}, "under 'mission'"),
    ({'inner': {'text': b'go'}}, "under 'inner/text'"),
    ((0.5, None), "under '1'"),
    ('1.5', 'observed is no number'),
    (np.array([object()]), 'is no number'),
  ],
)
def test_what_is_no_number_is_named(seen, named):
  with pytest.raises(ValueError, match=f'{named}.*get_state'):
    host_gymnasium.make_world(Odd, image_size=8, kwargs={'seen': seen})


def test_actions_of_whole_numbers_are_rounded():
  world = host_gymnasium.make_world(Odd, image_size=8)
  env = world.open()
  env.reset(0)
  env.step(np.array([3.9, -1.2]))
  np.testing.assert_array_equal(env.env.last, [4, -1])
  env.step(np.array([9.0, -9.0]))
  np.testing.assert_array_equal(env.env.last, [5, -5])
