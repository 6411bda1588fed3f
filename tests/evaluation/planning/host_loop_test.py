"""A world outside JAX is planned in as a JAX one: same plays, same score."""

import dataclasses

import host_two_room
import line_world
import numpy as np
import pytest

from jepa_wm import planning
from jepa_wm.envs import host_stage, worlds
from jepa_wm.evaluation.planning import (
  pair_making,
  pairs,
  planner_settings,
  planning_benchmark,
  protocol,
)
from jepa_wm.evaluation.report import charts


@pytest.fixture
def stage(monkeypatch):
  """Two Room on the host, eight rows in this process."""
  entry = worlds.World(
    make=host_two_room.make,
    policies={'expert': host_two_room.walker},
    place=worlds.get('two_room').place,
    state_names=('x', 'y'),
    unit='px',
    on_host=True,
  )
  monkeypatch.setitem(worlds.WORLDS, 'host_two_room', entry)
  with host_stage.HostStage(
    entry.make(), entry.policy, num_rows=8, num_workers=0
  ) as opened:
    yield opened


def on_host(problems):
  """The same problems, as vectors."""
  return dataclasses.replace(
    problems,
    starts=np.array(problems.starts.position),
    goals=np.array(problems.goals.position),
  )


def run_both(run, stage, **changes):
  here = protocol.get('short', num_pairs=12, **changes.pop('protocol', {}))
  there = dataclasses.replace(here, environment='host_two_room')
  problems = pairs.load_pairs(protocol.get('short', num_pairs=12))
  return (
    run(protocol=here, pairs=problems, **changes),
    run(protocol=there, pairs=on_host(problems), stage=stage, **changes),
  )


def assert_same(one, other):
  for a, b in zip(one.episodes, other.episodes, strict=True):
    assert a.first_success_step == b.first_success_step
    assert (a.success, a.success_at_end) == (b.success, b.success_at_end)
    np.testing.assert_allclose(a.final_distance, b.final_distance, atol=0.1)
  # Encoding batches of other shapes rounds otherwise.
  np.testing.assert_allclose(one.vectors, other.vectors, atol=0.1)


def test_it_goes_as_in_jax(stage, short_result, run_short_again):
  problems = on_host(short_result.pairs)
  there = protocol.get('short', num_pairs=12, environment='host_two_room')
  result = run_short_again(protocol=there, pairs=problems, stage=stage)
  assert_same(short_result, result)
  record = result.record
  assert record['num_failed'] == 0 and record['ms_per_plan'] > 0
  assert record['num_successes'] == short_result.record['num_successes']
  assert record['random_floor'] < record['expert_ceiling'] == 1.0
  # The plans were played whole, so they are those of JAX.
  for a, b in zip(short_result.planned, result.planned, strict=True):
    assert a.step == b.step and sorted(a.indices) == sorted(b.indices)
    order = np.argsort(b.indices)
    np.testing.assert_allclose(a.vectors, b.vectors[order], atol=0.1)
  assert '<image' in charts.episode_map(result)


@pytest.mark.slow
def test_with_a_memory_and_to_the_end(stage, run_short_again):
  settings = planner_settings.PlannerSettings(
    planning.CEM(num_samples=32, num_elites=8, num_iterations=3),
    cost='all',
    history=3,
  )
  one, other = run_both(
    run_short_again,
    stage,
    settings=settings,
    protocol={
      'receding_horizon': 2,
      'success': 'at the end',
      # The last plan is not played whole.
      'budget': 37,
    },
  )
  assert_same(one, other)


def test_a_world_that_breaks_has_failed_and_the_others_go_on(
  stage, short_result, run_short_again
):
  problems = on_host(short_result.pairs)
  problems.starts[3] += host_two_room.BROKEN
  there = protocol.get('short', num_pairs=12, environment='host_two_room')
  result = run_short_again(protocol=there, pairs=problems, stage=stage)
  broken, episodes = result.episodes[3], list(result.episodes)
  assert broken.failure == 'RuntimeError: the floor gave way'
  assert not broken.success and not broken.success_at_end
  record = result.record
  assert record['num_failed'] == 1
  assert record['failures'] == {'RuntimeError: the floor gave way': 1}
  assert record['num_pairs'] == 12
  for number, (a, b) in enumerate(zip(short_result.episodes, episodes)):
    if number != 3:
      assert a.first_success_step == b.first_success_step
      assert b.failure is None


def test_a_goal_that_cannot_be_shown_fails_alone(
  stage, short_result, run_short_again, monkeypatch
):
  problems = on_host(short_result.pairs)
  render = host_two_room.HostTwoRoom.render

  def picky(self):
    if np.allclose(self.vector(), problems.goals[5]):
      raise RuntimeError('too dark')
    return render(self)

  monkeypatch.setattr(host_two_room.HostTwoRoom, 'render', picky)
  there = protocol.get('short', num_pairs=12, environment='host_two_room')
  result = run_short_again(protocol=there, pairs=problems, stage=stage)
  assert [e.failure for e in result.episodes].count(None) == 11
  assert result.episodes[5].failure == 'RuntimeError: too dark'


def test_pairs_are_cut_out_of_episodes_played_here(stage):
  there = protocol.get(
    'short',
    environment='host_two_room',
    action_noise=1.0,
    goal_offset=20,
    episode_steps=30,
  )
  manifest = pair_making.generate(there, 9, stage=stage)
  again = pair_making.generate(there, 5, stage=stage)
  assert again['pairs'] == manifest['pairs'][:5]
  start, goal = (
    np.asarray([entry[key] for entry in manifest['pairs']])
    for key in ('start_state', 'goal_state')
  )
  far = host_two_room.distance(start, goal)
  assert np.all(far >= 16.0) and np.all(far <= 20 * 5 * np.sqrt(2))
  resets = dataclasses.replace(there, origin='reset')
  assert len(pair_making.generate(resets, 9, stage=stage)['pairs']) == 9


def line_problems(monkeypatch):
  entry = worlds.World(
    make=line_world.make,
    policies={'expert': line_world.expert},
    place=lambda vectors: np.zeros((*np.shape(vectors)[:-1], 2)),
    state_names=('x',),
    unit='steps',
    on_host=True,
  )
  monkeypatch.setitem(worlds.WORLDS, 'line', entry)
  problems = pairs.Pairs(
    ids=np.arange(3),
    starts=np.array([[2.0], [9.0], [4.0]]),
    goals=np.array([[5.0], [3.0], [5.0]]),
  )
  chosen = protocol.get(
    'short', environment='line', action_block=1, budget=8, num_pairs=3
  )
  stage = host_stage.HostStage(entry.make(), entry.policy, num_workers=0)
  return chosen, problems, stage


def test_discrete_actions_are_planned_by_categories(monkeypatch):
  chosen, problems, stage = line_problems(monkeypatch)
  result = planning_benchmark.run(
    line_world.LineModel(),
    chosen,
    problems,
    settings=planner_settings.PlannerSettings(
      planning.CategoricalCEM(num_samples=64, num_elites=8, num_iterations=8),
      cost='all',
    ),
    num_floor_repeats=4,
    stage=stage,
  )
  assert [e.first_success_step for e in result.episodes] == [3, 6, 1]
  assert result.record['expert_ceiling'] == 1.0
  assert result.record['random_floor'] < 1.0


@pytest.mark.parametrize(
  ('planner', 'block', 'message'),
  [
    ('cem', 1, "planner must be one of categorical_cem, .*discrete, got 'cem'"),
    ('categorical_cem', 2, r'action_block 1, got 2.*action_block=1'),
  ],
)
def test_planners_of_the_other_kind(monkeypatch, planner, block, message):
  chosen, problems, stage = line_problems(monkeypatch)
  model = line_world.LineModel(action_block=block, action_dim=3 * block)
  with pytest.raises(ValueError, match=message):
    planning_benchmark.run(
      model,
      dataclasses.replace(
        chosen, action_block=block, horizon=2, receding_horizon=1
      ),
      problems,
      settings=planner_settings.PlannerSettings(planning.PLANNERS[planner]()),
      stage=stage,
    )


def test_one_hot_rows_are_for_discrete_worlds(run_short_again):
  settings = planner_settings.PlannerSettings(planning.CategoricalCEM())
  with pytest.raises(ValueError, match=r'planner must be one of cem, .*contin'):
    run_short_again(settings=settings)
