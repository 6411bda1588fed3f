"""Runs side by side: seeds put together, and differences on the same pairs."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jepa_wm.evaluation.statistics import intervals, runs

_MANY = 15
"""Comparisons above which only those with the first run are made."""


@dataclasses.dataclass(frozen=True)
class Summary:
  """What several plays of the same problems come to.

  Attributes:
    checkpoint: who planned; or how many training seeds did.
    planner: its name, how it plans for several agents where not for all at
      once, and how a guardrail is kept where there is one.
    protocol: its name.
    shift: of the worlds, None for none.
    num_pairs: problems.
    num_invalid: pairs left out because a shift makes them impossible.
    rates: success of each seed, in order.
    rate: of all plays.
    interval: Wilson's, of all plays taken as independent.
    at_end: share of plays that ended in the goal.
    success_at: share of goals reached within so many steps.
    steps: median steps to success, None without one.
    final_distance: mean over seeds of the median.
    floor: of random actions, mean over seeds.
    ceiling: of the expert.
    initially_solved: share of the pairs, before any was dropped.
    ms_per_plan: mean over seeds.
    num_failed: plays in which the world broke.
    entered: share of plays that enter what is forbidden, None where nothing is.
  """

  checkpoint: str
  planner: str
  protocol: str
  shift: str | None
  num_pairs: int
  num_invalid: int
  rates: tuple[float, ...]
  rate: float
  interval: tuple[float, float]
  at_end: float
  success_at: dict[str, float]
  steps: float | None
  final_distance: float
  floor: float
  ceiling: float
  initially_solved: float
  ms_per_plan: float
  num_failed: int
  entered: float | None = None


@dataclasses.dataclass(frozen=True)
class Comparison:
  """Two runs on the pairs that both of them played.

  Attributes:
    first: which.
    second: which.
    num_pairs: that both played.
    difference: success of the first minus that of the second.
    interval: its 95 % interval.
    first_only: plays that the first alone won.
    second_only: plays that the second alone won.
    p_value: two-sided, that they are equally good; not corrected for the number
      of comparisons.
  """

  first: Summary
  second: Summary
  num_pairs: int
  difference: float
  interval: tuple[float, float]
  first_only: int
  second_only: int
  p_value: float


def summarize(group: Sequence[runs.Run], checkpoint: str = '') -> Summary:
  """Puts together runs of the same problems.

  Args:
    group: at least one.
    checkpoint: what to call them; by default the first one's.
  """
  records = [run.record for run in group]
  first = records[0]
  num_successes = sum(record['num_successes'] for record in records)
  num_plays = sum(record['num_pairs'] for record in records)
  steps = [
    episode.first_success_step
    for run in group
    for episode in run.episodes
    if episode.first_success_step is not None
  ]

  def mean(key: str) -> float:
    return float(np.mean([record[key] for record in records]))

  return Summary(
    checkpoint=checkpoint or first['checkpoint'],
    planner=planner_name(first),
    protocol=first['protocol']['name'],
    shift=first['shift'],
    num_pairs=first['num_pairs'],
    num_invalid=first['num_invalid'],
    rates=tuple(record['success_rate'] for record in records),
    rate=num_successes / num_plays,
    interval=intervals.wilson_interval(num_successes, num_plays),
    at_end=mean('success_at_end'),
    success_at={
      moment: float(np.mean([r['success_at'][moment] for r in records]))
      for moment in first['success_at']
    },
    steps=float(np.median(steps)) if steps else None,
    final_distance=mean('final_distance'),
    floor=mean('random_floor'),
    ceiling=mean('expert_ceiling'),
    initially_solved=mean('initially_solved'),
    ms_per_plan=mean('ms_per_plan'),
    num_failed=sum(record['num_failed'] for record in records),
    entered=_entered(records, num_plays),
  )


def planner_name(record: Mapping[str, Any]) -> str:
  """Who plans, and how what is forbidden is kept."""
  planner = record['planner']
  name: str = planner['name']
  if (agents := planner.get('agents_plan')) is not None:
    name = f'{name}, {agents["scheme"]}'
  guardrail = planner.get('guardrail')
  return f'{name}, {guardrail["form"]}' if guardrail else name


def _entered(records: Sequence[dict[str, Any]], num_plays: int) -> float | None:
  """Share of plays that enter what is forbidden."""
  came = [record.get('guardrail') for record in records]
  if not all(came):
    return None
  return sum(x['num_entered'] for x in came if x is not None) / num_plays


def summarize_all(finished: Sequence[runs.Run]) -> list[Summary]:
  """A summary of every combination, and of training seeds put together.

  Checkpoints are training seeds of one another where all else that their
  records say of the training agrees.
  """
  groups = runs.group(finished)
  summaries = [summarize(group) for group in groups]
  alike: dict[str, list[list[runs.Run]]] = {}
  for group in groups:
    record = group[0].record
    if record['training']['config'] is not None:
      same = runs.identify(
        {key: record[key] for key in ('training', 'planner', 'protocol')}
        | {'training': record['training']['config'], 'shift': record['shift']}
      )
      alike.setdefault(same, []).append(group)
  for seeds in alike.values():
    if len(seeds) > 1:
      plays = list(itertools.chain(*seeds))
      together = summarize(plays, f'{len(seeds)} training seeds')
      rates = tuple(summarize(group).rate for group in seeds)
      summaries.append(dataclasses.replace(together, rates=rates))
  return summaries


def compare_all(finished: Sequence[runs.Run]) -> list[Comparison]:
  """Compares all runs that played the same problems; see `compare`.

  Two runs differ in the checkpoint, the planner or the shift, and in one of
  these alone; a shift is compared with the world as it is. Where that makes
  many, each is compared with the first of its kind alone.
  """
  found = []
  kinds: dict[str, list[list[runs.Run]]] = {}
  for group in runs.group(finished):
    record = group[0].record
    rules = {
      key: value
      for key, value in record['protocol'].items()
      if key != 'num_pairs'
    }
    kind = runs.identify({'rules': rules, 'of': record['manifest_sha256']})
    kinds.setdefault(kind, []).append(group)
  for groups in kinds.values():
    couples = [
      couple
      for couple in itertools.combinations(groups, 2)
      if _differ_in_one(*(group[0].record for group in couple))
    ]
    if len(couples) > _MANY:
      couples = [couple for couple in couples if couple[0] is groups[0]]
    found += [compare(*couple) for couple in couples]
  return [comparison for comparison in found if comparison is not None]


def compare(
  first: Sequence[runs.Run], second: Sequence[runs.Run]
) -> Comparison | None:
  """Compares two groups of runs on the pairs and seeds that they share.

  With one seed McNemar's exact test and Newcombe's interval; with several it
  is pairs that count, see `intervals.clustered_difference`.

  Returns:
    None where they share no pair or no seed.
  """
  seeds = sorted(_by_seed(first).keys() & _by_seed(second).keys())
  if not seeds:
    return None
  played = [
    {seed: _outcomes(runs_by_seed[seed]) for seed in seeds}
    for runs_by_seed in (_by_seed(first), _by_seed(second))
  ]
  ids = sorted(
    set.intersection(*(set(p[seed]) for p in played for seed in seeds))
  )
  if not ids:
    return None
  # [2, P, seeds]
  outcomes = np.asarray(
    [[[p[seed][i] for seed in seeds] for i in ids] for p in played]
  )
  only_first = int(np.sum(outcomes[0] & ~outcomes[1]))
  only_second = int(np.sum(~outcomes[0] & outcomes[1]))
  if len(seeds) == 1:
    one, other = outcomes[..., 0]
    difference, low, high = intervals.paired_difference(one, other)
    p_value = intervals.mcnemar_p(only_first, only_second)
  else:
    difference, low, high, p_value = intervals.clustered_difference(
      *outcomes.mean(axis=-1)
    )
  return Comparison(
    first=summarize(first),
    second=summarize(second),
    num_pairs=len(ids),
    difference=difference,
    interval=(low, high),
    first_only=only_first,
    second_only=only_second,
    p_value=p_value,
  )


def name(summary: Summary, among: Sequence[Summary]) -> str:
  """What tells a run from others, and no more."""
  fields = ('checkpoint', 'protocol', 'planner', 'shift')
  telling = [
    field
    for field in fields
    if len({getattr(other, field) for other in among}) > 1
  ]
  parts = [getattr(summary, field) for field in telling or fields[1:3]]
  return ', '.join('unshifted' if part is None else part for part in parts)


def _differ_in_one(first: dict[str, Any], second: dict[str, Any]) -> bool:
  keys = ('checkpoint', 'planner', 'shift')
  differing = [key for key in keys if first[key] != second[key]]
  if differing == ['shift']:
    return first['shift'] is None or second['shift'] is None
  return len(differing) == 1


def _by_seed(group: Sequence[runs.Run]) -> dict[int, runs.Run]:
  return {run.record['seed']: run for run in group}


def _outcomes(run: runs.Run) -> dict[int, bool]:
  return {episode.pair: episode.success for episode in run.episodes}
