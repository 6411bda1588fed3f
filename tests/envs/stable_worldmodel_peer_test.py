"""The peer's own worlds and ours: the same play, and the same success.

Skipped but where torch and stable-worldmodel are installed.
"""

import jax
import numpy as np
import peers
import pytest

from jepa_wm import exports, planning
from jepa_wm.envs import host_play, host_pool, worlds
from jepa_wm.evaluation.planning import (
  pairs,
  planner_settings,
  planning_benchmark,
  protocol,
)

pytestmark = [*peers.MARKS, pytest.mark.usefixtures('swm')]


def pools_of(monkeypatch):
  """Pools of this process, where the peer's library loads; what they play."""
  played = []

  class Recorder(host_pool.Pool):
    def play(self, rows, actions, **kwargs):
      played.append((np.array(rows), np.array(actions)))
      return super().play(rows, actions, **kwargs)

  def open_pool(world, num_rows, **kwargs):
    return Recorder(world, num_rows, **{**kwargs, 'num_workers': 0})

  monkeypatch.setattr(host_pool, 'Pool', open_pool)
  return played


def ours_step_by_step(name, starts, actions):
  """States `[n, T, V]` of our world under the same actions."""
  env = worlds.get(name).make(image_size=8)

  @jax.jit
  @jax.vmap
  def play(start, actions):
    def step(state, action):
      state = env.step(state, action)
      return state, env.vector(state)

    return jax.lax.scan(step, env.from_vector(start), actions)[1]

  return np.asarray(play(np.float32(starts), np.float32(actions)))


def theirs_step_by_step(world, starts, goals, actions):
  """Whether the peer's own environment says it is over, `[n, T]`."""
  env = world.open()
  ends = np.zeros(actions.shape[:2], bool)
  for i, (start, goal) in enumerate(zip(starts, goals)):
    env.reset(0)
    env.place(start)
    env.env._set_goal_state(goal)
    for t, action in enumerate(actions[i]):
      ends[i, t] = env.env.step(np.float32(action))[2]
  return ends


@pytest.mark.parametrize('name', ['two_room', 'push_t'])
def test_the_same_pairs_and_actions_succeed_in_both(name):
  """Goals on the way that ours goes, every other one beside it."""
  env, count = worlds.get(name).make(), 24
  states = jax.vmap(env.reset)(jax.random.split(jax.random.key(0), count))
  starts = np.asarray(jax.vmap(env.vector)(states))
  theirs = worlds.get(f'swm_{name}').make(image_size=16)
  policy = worlds.get(f'swm_{name}').policy('smooth', theirs)
  acts = [policy(host_play.stream(4, i), starts[i]) for i in range(count)]
  actions = np.float32([[act(None, None) for _ in range(50)] for act in acts])
  ours = ours_step_by_step(name, starts, actions)
  goals = ours[np.arange(count), 10 + np.arange(count)]
  beside = np.where(goals[::2, 0] > 112.0, -40.0, 40.0)
  goals[::2, 0] += beside
  solved = np.any(theirs.success(ours, goals[:, None]), axis=1)
  ends = np.any(theirs_step_by_step(theirs, starts, goals, actions), axis=1)
  np.testing.assert_array_equal(solved, ends)
  assert np.all(solved[1::2]) and not np.all(solved)


def test_workers_open_the_peers_worlds():
  """They import this package alone, and the peer's as it has to be."""
  world = worlds.get('swm_two_room').make(image_size=16)
  with host_pool.Pool(world, 1, num_workers=1) as pool:
    pool.place([0], np.array([[60.0, 112.0]]), look=True)
    assert not pool.failures
    np.testing.assert_array_equal(pool.vectors([0]), [[60.0, 112.0]])
    assert len(np.unique(pool.pixels([0]))) > 2


def test_a_checkpoint_plans_alike_in_the_peers_two_room(
  monkeypatch, record_property
):
  """All pairs of `swm-v1`: the same plans, and then each on its own."""
  played = pools_of(monkeypatch)
  theirs, ours = (
    protocol.get('swm-v1', environment=name)
    for name in ('swm_two_room', 'two_room')
  )
  settings = planner_settings.PlannerSettings(
    planning.CEM(num_samples=32, num_elites=8, num_iterations=3)
  )
  results = [
    planning_benchmark.run(
      exports.WorldModel.from_checkpoint('two_room_small'),
      chosen,
      pairs.load_pairs(chosen),
      settings=settings,
      baseline=planning_benchmark.Baseline(0.0, 1.0),
    )
    for chosen in (theirs, ours)
  ]
  problems, result = results[0].pairs, results[0]
  assert len(problems) == 50
  lengths = np.zeros(50, int)
  actions = np.zeros((50, theirs.budget, 2))
  for rows, some in played:
    for row, block in zip(rows, some):
      actions[row, lengths[row] : lengths[row] + len(block)] = block
      lengths[row] += len(block)
  ways = ours_step_by_step('two_room', problems.starts, actions)
  near = np.linalg.norm(ways - problems.goals[:, None], axis=-1) < 16.0
  world = worlds.get('swm_two_room').make(image_size=16)
  over = theirs_step_by_step(world, problems.starts, problems.goals, actions)
  np.testing.assert_array_equal(near, over)
  for row, length in enumerate(lengths):
    np.testing.assert_allclose(
      ways[row, :length], result.vectors[row, 1 : 1 + length], atol=1e-3
    )
    first = int(np.argmax(near[row])) + 1 if np.any(near[row]) else None
    assert result.episodes[row].first_success_step == first
  successes = [[e.success for e in result.episodes] for result in results]
  record_property('successes', [int(np.sum(each)) for each in successes])
  record_property('disagree', int(np.sum(np.not_equal(*successes))))
  # Our dots are drawn at the centres of 64 px, theirs averaged from 224.
  assert np.mean(np.equal(*successes)) > 0.95
  assert np.sum(successes[0]) >= 45
