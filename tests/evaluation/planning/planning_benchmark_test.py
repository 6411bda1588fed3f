import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm import planning
from jepa_wm.evaluation.planning import (
  pairs,
  planner_settings,
  planning_benchmark,
  protocol,
)
from jepa_wm.types import Root

RECORD_KEYS = {
  'protocol',
  'manifest_sha256',
  'num_pairs',
  'num_successes',
  'success_rate',
  'interval_95',
  'success_any_time',
  'success_at_end',
  'success_at',
  'steps_to_success',
  'final_distance',
  'initially_solved',
  'num_failed',
  'failures',
  'training',
  'shift',
  'num_invalid',
  'episodes',
  'random_floor',
  'expert_ceiling',
  'ms_per_plan',
  'flops_per_plan',
  'num_parameters',
  'planner',
  'checkpoint',
  'seed',
  'device',
  'versions',
  'commit',
  'seconds',
}


def test_a_perfect_model_reaches_its_goals(short_result):
  assert short_result.record['num_successes'] >= 11


def test_record_has_the_keys_of_the_house_and_is_json(short_result, tmp_path):
  record = short_result.record
  assert set(record) == RECORD_KEYS
  path = tmp_path / 'results.json'
  planning_benchmark.write_results([record], path)
  assert json.loads(path.read_text()) == [record]
  assert [p.name for p in tmp_path.iterdir()] == ['results.json']
  assert record['protocol']['name'] == 'short'
  assert record['protocol']['num_pairs'] == record['num_pairs'] == 12
  planner = record['planner']
  assert planner['name'] == 'cem' and planner['num_samples'] == 48
  assert planner['init_std'] == 1.0 and planner['distance'] == 'squared'
  assert record['num_parameters'] == 3
  low, high = record['interval_95']
  assert low <= record['success_rate'] <= high
  assert 0 <= record['random_floor'] < record['expert_ceiling'] == 1.0
  assert 0 < record['ms_per_plan'] < 1e3 * record['seconds']
  assert {'jax', 'python'} <= set(record['versions'])


def test_episodes_tell_what_the_states_show(short_result):
  goals = np.asarray(short_result.pairs.goals.position)
  for row, episode in enumerate(short_result.episodes):
    distance = np.linalg.norm(short_result.vectors[row] - goals[row], axis=-1)
    np.testing.assert_allclose(distance[0], episode.start_distance, rtol=1e-5)
    np.testing.assert_allclose(distance[-1], episode.final_distance, rtol=1e-5)
    inside = np.flatnonzero(distance < 16.0)
    assert episode.success == bool(len(inside))
    assert episode.success_at_end == (distance[-1] < 16.0)
    if episode.success:
      assert episode.first_success_step == inside[0]
      # The plan in force is played out, and no other is made.
      end = 25 * -(-inside[0] // 25)
      assert np.all(distance[end:] == distance[end])
      if inside[0] % 25:
        assert distance[inside[0]] != distance[end]


def test_the_planned_path_is_the_one_taken(short_result):
  first = short_result.planned[0]
  assert first.step == 0 and len(first.indices) == 12
  for row in range(12):
    np.testing.assert_allclose(
      first.vectors[row], short_result.vectors[row, :26], atol=1e-4
    )
  for planned in short_result.planned[1:]:
    late = [
      row
      for row, e in enumerate(short_result.episodes)
      if e.first_success_step is None or e.first_success_step > planned.step
    ]
    assert planned.indices.tolist() == late


def test_diagnostics_are_those_of_the_first_plans(short_result):
  diagnostics = short_result.diagnostics
  assert diagnostics.spread.shape == (5, 12)
  assert np.all(diagnostics.spread[-1] < diagnostics.spread[0])
  assert np.all(diagnostics.elite_cost <= diagnostics.mean_cost)


def _episode(step, at_end=True, failure=None, final=10.0):
  return planning_benchmark.Episode(
    pair=0,
    success=step is not None,
    success_at_end=at_end,
    first_success_step=step,
    start_distance=50.0,
    final_distance=final,
    failure=failure,
  )


def test_what_a_record_says_of_its_episodes():
  episodes = [
    _episode(0),
    _episode(10, final=4.0),
    _episode(11, at_end=False, final=30.0),
    _episode(40, final=8.0),
    _episode(None, at_end=False, failure='it froze', final=90.0),
  ]
  summary = planning_benchmark.summarize(episodes, protocol.SHORT)
  assert (summary['num_pairs'], summary['num_successes']) == (5, 4)
  assert summary['success_rate'] == summary['success_any_time'] == 0.8
  assert summary['success_at_end'] == 0.6
  assert summary['success_at'] == {'10': 0.4, '25': 0.6, '50': 0.8}
  assert summary['steps_to_success'] == 10.5
  assert summary['final_distance'] == 10.0
  assert summary['num_failed'] == 1
  assert summary['failures'] == {'it froze': 1}
  nothing = planning_benchmark.summarize(episodes[4:], protocol.SHORT)
  assert nothing['steps_to_success'] is None
  assert nothing['success_at'] == {'10': 0.0, '25': 0.0, '50': 0.0}


@pytest.mark.slow
def test_success_at_the_end_is_asked_when_the_budget_is_spent(
  short_result, run_short_again
):
  rule = protocol.get('short', num_pairs=12, success='at the end')
  result = run_short_again(protocol=rule)
  for one, other in zip(result.episodes, short_result.episodes):
    # The same plays, which now go on.
    assert one.first_success_step == other.first_success_step
    assert one.success == one.success_at_end
  assert [len(planned.indices) for planned in result.planned] == [12, 12]
  moved = np.linalg.norm(np.diff(result.vectors, axis=1), axis=-1)
  assert np.all(moved[:, 25:].any(axis=1))
  goals = np.asarray(result.pairs.goals.position)
  np.testing.assert_allclose(
    np.linalg.norm(result.vectors[:, -1] - goals, axis=-1),
    [e.final_distance for e in result.episodes],
    rtol=1e-5,
  )


@pytest.mark.slow
def test_a_start_in_its_goal_counts_by_the_rule(run_short_again):
  found = pairs.load_pairs(protocol.SHORT, 2)
  here = np.asarray([[60.0, 60.0], [60.0, 150.0]], np.float32)
  there = here + np.asarray([[15.9, 0.0], [0.0, 15.9]], np.float32)
  make = type(found.starts)
  solved = pairs.Pairs(found.ids, make(here, here), make(there, there))
  outcomes = {}
  for rule in ('any time', 'after any step'):
    asked = protocol.get('short', num_pairs=2, success=rule)
    outcomes[rule] = run_short_again(protocol=asked, pairs=solved)
  assert _outcomes(outcomes['any time']) == [(i, 0) for i in found.ids]
  for _, step in _outcomes(outcomes['after any step']):
    assert step is None or step > 0
  for result in outcomes.values():
    assert result.record['initially_solved'] == 1.0
    assert all(episode.solved_at_start for episode in result.episodes)


def _outcomes(result):
  return [(e.pair, e.first_success_step) for e in result.episodes]


@pytest.mark.slow
def test_outcomes_do_not_depend_on_the_batch(short_result, run_short_again):
  whole = run_short_again(batch_size=100)
  # Equal but for the rounding of sums over pixels in batches of other shapes.
  np.testing.assert_allclose(whole.vectors, short_result.vectors, atol=1e-2)
  assert _outcomes(whole) == _outcomes(short_result)
  # Nor on who else is there.
  some = pairs.Pairs(
    ids=whole.pairs.ids[4:7],
    starts=jax.tree.map(lambda x: x[4:7], whole.pairs.starts),
    goals=jax.tree.map(lambda x: x[4:7], whole.pairs.goals),
  )
  alone = run_short_again(pairs=some, batch_size=2)
  assert _outcomes(alone) == _outcomes(short_result)[4:7]
  assert alone.record['manifest_sha256'] is None


@pytest.mark.slow
def test_a_budget_that_ends_within_a_plan(run_short_again):
  hurried = protocol.get(
    'short', num_pairs=6, budget=13, horizon=2, receding_horizon=2
  )
  result = run_short_again(protocol=hurried, pairs=pairs.load_pairs(hurried))
  assert hurried.num_plans == 2 and result.vectors.shape == (6, 14, 2)
  steps = [e.first_success_step for e in result.episodes if e.success]
  assert max(steps) <= 13
  for row, episode in enumerate(result.episodes):
    if not episode.success:
      moved = np.linalg.norm(np.diff(result.vectors[row], axis=0), axis=-1)
      assert moved[12] > 0.0
  # The budget's last state, not the plan's.
  goals = np.asarray(result.pairs.goals.position)
  np.testing.assert_allclose(
    np.linalg.norm(result.vectors[:, -1] - goals, axis=-1),
    [e.final_distance for e in result.episodes],
    rtol=1e-5,
  )


TWO_BLOCKS = protocol.get(
  'long', num_pairs=4, horizon=2, receding_horizon=2, budget=30
)
SMALL = {'num_samples': 48, 'num_elites': 8, 'num_iterations': 3}


@pytest.mark.slow
def test_a_model_that_needs_frames_of_the_past_gets_them(
  perfect_model, run_short_again
):
  """One that sees the past alone knows where it is from what it has done."""

  class Late(type(perfect_model)):
    def root(self, params, observation, goal, actions=None):
      pixels = observation['pixels']
      if pixels.ndim == 4:
        return super().root(params, observation, goal)
      assert pixels.shape[1] <= 3 and actions.shape[1] == pixels.shape[1] - 1
      state = super().start(params, {'pixels': pixels[:, :1]})
      for t in range(actions.shape[1]):
        action, state = jax.tree.map(
          lambda x: jnp.expand_dims(x, 1), (actions[:, t], state)
        )
        state = self.dynamics(params, None, action, state)
        state = jax.tree.map(lambda x: x[:, 0], state)
      return Root(state, self.encode(params, goal))

  results = [
    run_short_again(
      model=model,
      protocol=TWO_BLOCKS,
      pairs=pairs.load_pairs(TWO_BLOCKS),
      settings=planner_settings.PlannerSettings(
        planning.CEM(**SMALL), cost='all', history=history
      ),
      batch_size=3,
    )
    for model, history in ((perfect_model, 1), (Late(), 3))
  ]
  # A tenth less of each action would lead several pixels astray.
  first, late = (result.vectors for result in results)
  np.testing.assert_allclose(late, first, atol=0.1)
  assert np.any(first[:, 10] != first[:, -1])
  assert results[1].record['planner']['history'] == 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stubborn(planning.CEM):
  """Plans once, then plays what is left of that."""

  num_kept: int = 2

  def init(self, task, start):
    return super().init(task, start), start.given[:, 1]

  def propose(self, task, carry, noise):
    return super().propose(task, carry[0], noise)

  def update(self, task, carry, elites, costs):
    return super().update(task, carry[0], elites, costs), carry[1]

  def answer(self, task, carry):
    return super().answer(task, carry[0])

  def finish(self, task, carry):
    (found, left), *_ = carry
    actions = jnp.where(jnp.isnan(left), found.mean, left)
    answer = super().answer(task, found)._replace(actions=actions)
    return answer, jnp.stack([found.mean, actions], axis=1)


@pytest.mark.slow
def test_elites_go_from_plan_to_plan(run_short_again):
  for warm_start in (True, False):
    result = run_short_again(
      protocol=dataclasses.replace(TWO_BLOCKS, receding_horizon=1),
      pairs=pairs.load_pairs(TWO_BLOCKS),
      settings=planner_settings.PlannerSettings(
        Stubborn(**SMALL), cost='all', warm_start=warm_start
      ),
    )
    # Two blocks of a plan of two, and then nothing.
    moved = np.linalg.norm(np.diff(result.vectors, axis=1), axis=-1)
    assert np.all(moved[:, :10].any(axis=1))
    assert np.any(moved[:, 10:]) != warm_start
    assert result.record['planner']['name'] == 'Stubborn'


@pytest.mark.slow
def test_a_model_that_prices_nothing_is_no_result(
  perfect_model, run_short_again
):
  class Broken(type(perfect_model)):
    def cost(self, params, state, action, goal):
      return jnp.nan * super().cost(params, state, action, goal)

  with pytest.raises(ValueError, match=r'pair 0 with NaN or infinity'):
    run_short_again(num_pairs=2, model=Broken())


def test_doors(perfect_model, run_short_again):
  with pytest.raises(ValueError, match='action_block of the model is 2'):
    run_short_again(
      model=dataclasses.replace(perfect_model, action_block=2, action_dim=4)
    )
  with pytest.raises(ValueError, match='trained in another world'):
    run_short_again(model=dataclasses.replace(perfect_model, action_dim=20))
  with pytest.raises(ValueError, match='batch_size must be at least 1'):
    run_short_again(batch_size=0)
  nobody = pairs.Pairs(ids=np.zeros(0, int), starts=None, goals=None)
  with pytest.raises(ValueError, match='at least one problem'):
    run_short_again(pairs=nobody)


@pytest.mark.parametrize(
  ('num_pairs', 'num_devices', 'expected'),
  [(50, 2, 10), (100, 2, 10), (200, 2, 8), (16, 1, 4), (2, 2, 2), (50, 1, 5)],
)
def test_batches_of_a_cpu_are_full(
  monkeypatch, num_pairs, num_devices, expected
):
  monkeypatch.setattr(jax, 'device_count', lambda: num_devices)
  size = planning_benchmark.default_batch_size(num_pairs)
  assert size == expected
