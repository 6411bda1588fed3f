import dataclasses

import numpy as np
import pytest

from jepa_wm.evaluation.planning import (
  planning_benchmark,
  protocol,
)
from jepa_wm.evaluation.statistics import (
  comparison,
  intervals,
  runs,
)


def _run(
  outcomes, *, seed=0, checkpoint='a', planner='cem', shift=None, training=None
):
  """A run of pairs 0, 1, ... with these outcomes (a dict for other ids)."""
  if not isinstance(outcomes, dict):
    outcomes = dict(enumerate(outcomes))
  episodes = [
    planning_benchmark.Episode(
      pair=pair,
      success=bool(won),
      success_at_end=bool(won),
      first_success_step=7 if won else None,
      start_distance=60.0,
      final_distance=5.0 if won else 40.0,
    )
    for pair, won in outcomes.items()
  ]
  record = {
    'protocol': protocol.SHORT.to_dict(),
    'manifest_sha256': 'of these pairs',
    **planning_benchmark.summarize(episodes, protocol.SHORT),
    'initially_solved': 0.1,
    'random_floor': 0.2,
    'expert_ceiling': 1.0,
    'ms_per_plan': 3.0,
    'planner': {'name': planner},
    'checkpoint': checkpoint,
    'training': training or {'seed': None, 'config': None},
    'shift': shift,
    'num_invalid': 0,
    'seed': seed,
  }
  return runs.Run(record, episodes, {})


FIRST = [1] * 20 + [1] * 9 + [0] * 1 + [0] * 10
SECOND = [1] * 20 + [0] * 9 + [1] * 1 + [0] * 10


def test_two_runs_on_the_same_pairs():
  (found,) = comparison.compare_all([_run(FIRST), _run(SECOND, planner='icem')])
  assert (found.first_only, found.second_only, found.num_pairs) == (9, 1, 40)
  assert found.difference == pytest.approx(0.2)
  assert found.p_value == intervals.mcnemar_p(9, 1) < 0.05
  assert found.interval == intervals.paired_difference(FIRST, SECOND)[1:]
  assert (found.first.planner, found.second.planner) == ('cem', 'icem')


def test_only_pairs_that_both_played_are_compared():
  some = {pair: won for pair, won in enumerate(SECOND) if pair % 2}
  (found,) = comparison.compare_all([_run(FIRST), _run(some, shift='door')])
  assert found.num_pairs == 20
  assert found.first_only == sum(FIRST[i] > SECOND[i] for i in range(1, 40, 2))


def test_several_seeds_are_put_together_and_pairs_are_what_counts():
  group = [_run(FIRST), _run(SECOND, seed=1)]
  other = [
    _run(SECOND, planner='icem'),
    _run(SECOND, planner='icem', seed=1),
    _run(FIRST, planner='icem', seed=2),
  ]
  summaries = comparison.summarize_all(group + other)
  assert [s.rates for s in summaries] == [
    (29 / 40, 21 / 40),
    (21 / 40, 21 / 40, 29 / 40),
  ]
  assert summaries[0].rate == 50 / 80
  assert summaries[0].interval == intervals.wilson_interval(50, 80)
  (found,) = comparison.compare_all(group + other)
  # The seeds that both have.
  means = np.mean([FIRST, SECOND], axis=0), np.asarray(SECOND, float)
  assert found.difference == pytest.approx(0.1)
  assert (*found.interval, found.p_value) == (
    intervals.clustered_difference(*means)[1:]
  )
  assert (found.first_only, found.second_only) == (9, 1)


def test_runs_of_other_problems_or_seeds_are_not_compared():
  one, other = _run(FIRST), _run(SECOND, planner='icem')
  moved = dataclasses.replace(
    other, record={**other.record, 'manifest_sha256': 'of others'}
  )
  assert comparison.compare_all([one, moved]) == []
  assert comparison.compare_all(
    [one, _run(SECOND, checkpoint='b', seed=3)]
  ) == ([])


def test_checkpoints_that_differ_by_their_seed_alone_are_training_seeds():
  def trained(seed, config='x'):
    return {'seed': seed, 'config': config}

  finished = [
    _run(FIRST, checkpoint='a', training=trained(0)),
    _run(SECOND, checkpoint='b', training=trained(1)),
    _run(SECOND, checkpoint='c', training=trained(1, 'y')),
    _run(SECOND, checkpoint='d'),
  ]
  summaries = comparison.summarize_all(finished)
  assert [s.checkpoint for s in summaries] == [
    *'abcd',
    '2 training seeds',
  ]
  assert summaries[-1].rates == (29 / 40, 21 / 40)
  assert summaries[-1].rate == 50 / 80


def test_many_runs_are_compared_with_the_first_alone():
  names = [f'planner {i}' for i in range(7)]
  finished = [_run(FIRST, planner=name) for name in names]
  found = comparison.compare_all(finished)
  assert [c.second.planner for c in found] == names[1:]
  assert {c.first.planner for c in found} == {names[0]}
  assert len(comparison.compare_all(finished[:5])) == 10


def test_runs_that_differ_in_more_than_one_way_are_not_compared():
  finished = [
    _run(FIRST, planner=planner, shift=shift)
    for planner in ('cem', 'icem')
    for shift in (None, 'door', 'wall')
  ]
  found = {
    (c.first.planner, c.first.shift, c.second.planner, c.second.shift)
    for c in comparison.compare_all(finished)
  }
  assert found == {
    *(
      (p, None, p, shift) for p in ('cem', 'icem') for shift in ('door', 'wall')
    ),
    *(('cem', shift, 'icem', shift) for shift in (None, 'door', 'wall')),
  }


def test_runs_are_called_by_what_tells_them_apart():
  summaries = [
    comparison.summarize([_run(FIRST, planner=planner, shift=shift)])
    for planner in ('cem', 'icem')
    for shift in (None, 'door')
  ]
  assert [comparison.name(s, summaries) for s in summaries] == [
    'cem, unshifted',
    'cem, door',
    'icem, unshifted',
    'icem, door',
  ]
  assert comparison.name(summaries[0], summaries[:1]) == 'short, cem'
