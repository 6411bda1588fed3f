import numpy as np
import pytest

from jepa_wm.data.readers import alignment, columns

NUM_EPISODES, NUM_FRAMES = 12, 20


def simulate(world, policy, *, seed=0, noise=0.0):
  """States `[T, V]` and the actions that led from each, of some episodes."""
  rng = np.random.default_rng(seed)
  episodes = []
  for _ in range(NUM_EPISODES):
    state = rng.normal(size=4)
    goal = rng.normal(size=2)
    states, actions = [], []
    for _ in range(NUM_FRAMES):
      action = policy(rng, state, goal)
      states.append(state.copy())
      actions.append(action)
      state = world(state, action)
    observed = np.array(states) + noise * rng.normal(size=(NUM_FRAMES, 4))
    episodes.append((observed, np.array(actions)))
  return episodes


def shifts(state, action):
  """The action moves the body, as in Two Room."""
  return np.concatenate([state[:2] + 0.3 * action, state[2:]])


def pushes(state, action):
  """The action is a force: a velocity is first, and a place later."""
  velocity = 0.9 * state[2:] + 0.2 * action
  return np.concatenate([state[:2] + 0.3 * state[2:], velocity])


def at_random(rng, state, goal):
  return rng.uniform(-1, 1, 2)


def towards(rng, state, goal):
  """Feedback: the next action follows from how the state has changed."""
  return goal - state[:2] + 0.3 * rng.normal(size=2)


def slowly(rng, state, goal):
  """Neighbouring actions are nearly the same."""
  return np.cos(goal * 3 + state[:2] * 0.05) + 0.05 * rng.normal(size=2)


def as_written(episodes, how):
  """The rows a writer of each habit leaves."""
  written = []
  for states, actions in episodes:
    if how == 'before':
      # An unknown action led to the first frame.
      actions = np.concatenate([np.zeros((1, 2)), actions[:-1]])
    elif how == 'rotated':
      actions = np.roll(actions, -1, axis=0)
    written.append((states, actions))
  return written


@pytest.mark.parametrize('how', ['after', 'before', 'rotated'])
@pytest.mark.parametrize('policy', [at_random, towards, slowly])
@pytest.mark.parametrize('world', [shifts, pushes])
def test_every_habit_is_recognised_and_repaired(world, policy, how):
  episodes = simulate(world, policy, noise=1e-3)
  written = as_written(episodes, how)
  assert alignment.detect(written) == (how, None)
  for (_, expected), (_, rows) in zip(episodes, written, strict=True):
    np.testing.assert_array_equal(columns.aligned(rows, how), expected[:-1])


@pytest.mark.parametrize('how', ['after', 'before'])
def test_places_alone_of_a_world_with_momentum_mislead_nobody(how):
  # The action before explains how a place changes, the row's own does not.
  episodes = [(s[:, :2], a) for s, a in simulate(pushes, at_random)]
  found, _ = alignment.detect(as_written(episodes, how))
  assert found == 'after'


def test_the_release_that_forgets_the_reset_frame_is_right_as_it_is():
  # stable-worldmodel 0.1.1: the first frame is gone, the last action is its.
  episodes = [
    (states[1:], np.roll(actions, -1, axis=0)[:-1])
    for states, actions in simulate(shifts, at_random)
  ]
  episodes = [
    (states, np.concatenate([actions[:-1], first[1][:1]]))
    for (states, actions), first in zip(
      episodes, simulate(shifts, at_random), strict=True
    )
  ]
  assert alignment.detect(episodes) == ('after', None)


def test_a_missing_action_says_which_end_is_open():
  (states, actions), *_ = simulate(shifts, at_random)
  for row, expected in ((-1, 'after'), (0, 'before')):
    marked = actions.copy()
    marked[row] = np.nan
    assert alignment.detect([(states[:, :0], marked)]) == (expected, None)


@pytest.mark.parametrize('how', ['after', 'before'])
def test_feedback_without_noise_explains_itself_both_ways(how):
  # The next action is a linear function of the state and this one.
  episodes = simulate(
    shifts, lambda rng, state, goal: goal - state[:2], noise=1e-3
  )
  found, doubt = alignment.detect(as_written(episodes, how))
  assert found == 'after'
  assert "next row's actions explain as much" in doubt


@pytest.mark.parametrize(
  ('change', 'reason'),
  [
    (lambda s, a: (s[:, :0], a), 'no state'),
    (lambda s, a: (np.zeros_like(s), a), 'does not change'),
    (lambda s, a: (s[:2], a[:2]), 'more than three rows'),
    (
      lambda s, a: (np.random.default_rng(1).normal(size=s.shape), a),
      'explain too little',
    ),
  ],
)
def test_what_cannot_be_told_is_said(change, reason):
  found, doubt = alignment.detect(
    [change(s, a) for s, a in simulate(shifts, at_random)]
  )
  assert found == 'after'
  assert reason in doubt
