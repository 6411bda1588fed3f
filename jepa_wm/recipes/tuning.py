"""Finds the smallest budget of a planner that will do, and tests it."""

import dataclasses
import functools
import pathlib
from collections.abc import Sequence
from typing import Any

from jepa_wm import planning
from jepa_wm.evaluation.planning import flop_budget
from jepa_wm.recipes import (
  planning_report,
  planning_runs,
  result_folders,
  tuning_tables,
)

MARGIN = 0.02
"""Share of the pairs that a smaller budget may lose by default."""


def ladder(planner: planning.Planner[Any]) -> list[planning.Planner[Any]]:
  """A planner, and ever smaller ones, each half as large as the one before.

  Candidates and iterations are halved in turns, as far as there are two elites
  and one iteration; elites stay the same share. All together cost less than
  twice what the first does, but for what is rounded.

  Args:
    planner: with its own numbers, the largest.

  Raises:
    ValueError: it has not both numbers, or nothing to take away.
  """
  flop_budget.check_has_numbers('tune_budget', planner)
  sized: Any = planner
  samples, rounds = sized.num_samples, sized.num_iterations
  least, found, of_samples = flop_budget.least_samples(planner), [planner], True
  while True:
    fewer = samples // 2 >= least
    if fewer and (of_samples or rounds == 1):
      samples, of_samples = samples // 2, False
    elif rounds > 1:
      rounds, of_samples = (rounds + 1) // 2, True
    else:
      break
    found.append(flop_budget.resized(planner, samples, rounds))
  if len(found) == 1:
    raise ValueError(
      f'tune_budget has nothing to choose from: {type(planner).__name__} with '
      f'{samples} candidates and {rounds} iteration cannot be made smaller; '
      'give it more with num_samples and num_iterations.'
    )
  return found


def choose(
  records: Sequence[dict[str, Any]], margin: float
) -> tuple[list[bool], int]:
  """Which budgets will do, and the index of the smallest of them.

  Args:
    records: of the same pairs, the largest budget first.
    margin: share of the pairs that may be lost against it.
  """
  most, will_do = records[0]['num_successes'], True
  found = []
  for record in records:
    lost = most - record['num_successes']
    # Behind one that falls short none is taken: it would be by luck.
    will_do = will_do and lost <= margin * record['num_pairs'] + 1e-9
    found.append(will_do)
  return found, sum(found) - 1


class Tuning:
  """Combinations whose planners are made as small as will do.

  Every combination that differs in shift or seed alone is tuned once, on the
  world as it is, with the first seed.
  """

  def __init__(
    self,
    combinations: Sequence[planning_runs.Combination],
    margin: float | None,
    **given: Any,
  ) -> None:
    """Finds all that can be wrong, and plays nothing yet.

    Args:
      combinations: what was asked for, with the largest budgets.
      margin: see `choose`; `MARGIN` by default.
      **given: the other fields of `planning_runs.Plans`.

    Raises:
      OSError: what `Plans` says.
      ValueError: the same, a margin that is no share, or a planner that cannot
        be made smaller.
    """
    self.margin = MARGIN if margin is None else margin
    if not 0.0 <= self.margin < 1.0:
      raise ValueError(
        'tune_margin must be a share of the pairs, 0 or above and below 1, got '
        f'{self.margin:g}; 0.02 is two of a hundred.'
      )
    self._combinations, self._given = list(combinations), given
    self._rungs: dict[Any, list[planning_runs.Combination]] = {}
    for one in combinations:
      if _apart(one) not in self._rungs:
        self._rungs[_apart(one)] = [
          dataclasses.replace(
            one,
            shift=None,
            settings=dataclasses.replace(one.settings, planner=planner),
          )
          for planner in ladder(one.settings.planner)
        ]
    # Whatever is wrong with them is wrong before anything is played.
    planning_runs.Plans(combinations=self._combinations, **given)
    flat = [one for rungs in self._rungs.values() for one in rungs]
    self._development = planning_runs.Plans(
      **{**given, 'combinations': flat, 'diagnostics': (), 'decoder': None},
      development=True,
    )

  def run(self) -> tuple[planning_runs.Plans, list[list[tuning_tables.Rung]]]:
    """Plays the budgets on development pairs.

    Returns:
      The plans of the chosen ones on the protocol's own pairs, and all budgets
      of each combination that was tuned, the largest first.

    Raises:
      Interrupted: Ctrl-C; the same command goes on from there.
      OSError: the folder cannot be written.
      ValueError: a budget could not be played.
    """
    outcome = self._development.run()
    if outcome.failures:
      raise ValueError(
        f'tune_budget: a budget could not be played: {outcome.failures[0]}'
      )
    found, first = {}, 0
    for key, rungs in self._rungs.items():
      records = [
        run.record for run in outcome.finished[first : first + len(rungs)]
      ]
      found[key] = _judge(rungs, records, self.margin)
      first += len(rungs)
    chosen = []
    for one in self._combinations:
      key = _apart(one)
      number = [rung.chosen for rung in found[key]].index(True)
      settings = self._rungs[key][number].settings
      chosen.append(dataclasses.replace(one, settings=settings))
    plans = planning_runs.Plans(combinations=chosen, **self._given)
    return plans, list(found.values())


def tune(
  combinations: Sequence[planning_runs.Combination],
  margin: float | None,
  **given: Any,
) -> planning_runs.Outcome:
  """Finds the smallest budgets that will do, plans with them and reports.

  Args:
    combinations: see `Tuning`, as `margin` and `given`.
    margin: see `choose`.
    **given: the other fields of `planning_runs.Plans`.

  Returns:
    The runs with the chosen budgets, and what went wrong.

  Raises:
    Interrupted: Ctrl-C; the same command goes on from there.
    OSError: what `Plans` says, or a folder that cannot be written.
    ValueError: what `Tuning` refuses.
  """
  tuning = Tuning(combinations, margin, **given)
  with result_folders.hold(given['out'], result_folders.PLAN):
    return _run(tuning, given['out'])


def _run(tuning: Tuning, out: pathlib.Path) -> planning_runs.Outcome:
  """See `tune`; nobody else works in `out`."""
  plans, tuned = tuning.run()
  for rungs in tuned:
    record = rungs[0].record
    print(
      f'\n{record["checkpoint"]}, {record["protocol"]["name"]}, '
      f'{record["planner"]["name"]}: {record["num_pairs"]} development pairs\n'
      f'{tuning_tables.table(rungs)}',
      flush=True,
    )
  paths = tuning_tables.write(out, tuned, tuning.margin)
  print(f'{out}: {", ".join(path.name for path in paths)}')
  tell = functools.partial(
    tuning_tables.with_findings, tuned=tuned, margin=tuning.margin
  )
  return planning_report.run(plans, tell=tell)


def _judge(
  rungs: Sequence[planning_runs.Combination],
  records: Sequence[dict[str, Any]],
  margin: float,
) -> list[tuning_tables.Rung]:
  """Rungs of one combination with what they came to."""
  will_do, chosen = choose(records, margin)
  found = []
  for number, (one, record) in enumerate(zip(rungs, records)):
    planner: Any = one.settings.planner
    found.append(
      tuning_tables.Rung(
        planner.num_samples,
        planner.num_iterations,
        record,
        will_do[number],
        number == chosen,
      )
    )
  return found


def _apart(one: planning_runs.Combination) -> Any:
  """What a combination is tuned for: all but shift and seed."""
  return one.checkpoint, one.protocol.name, repr(one.settings)
