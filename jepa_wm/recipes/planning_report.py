"""Plays what is planned for, prints a table and writes the report."""

import dataclasses
from collections.abc import Callable, Sequence

from jepa_wm.evaluation.report import report
from jepa_wm.evaluation.statistics import runs
from jepa_wm.recipes import planning_runs, record_findings


def run(
  plans: planning_runs.Plans,
  *,
  tell: Callable[[Sequence[runs.Run]], list[runs.Run]] = list,
) -> planning_runs.Outcome:
  """Plans what is not yet planned, and reports.

  Args:
    plans: what is asked for.
    tell: what else is to be said of the runs that are finished.

  Returns:
    The runs that were written, and what went wrong.

  Raises:
    OSError: a folder that cannot be written.
    Interrupted: Ctrl-C; what is finished is kept.
  """
  outcome = plans.run()
  if outcome.finished:
    outcome = dataclasses.replace(outcome, finished=tell(outcome.finished))
    print(f'\n{report.table(outcome.finished)}\n', flush=True)
    for line in record_findings.sentences(outcome.finished):
      print(f'{line}\n')
    if outcome.num_kept:
      print(
        f'{outcome.num_kept} of {len(plans.combinations)} had been measured '
        f'before; remove {plans.out / "runs"} to measure again.'
      )
    paths = plans.write(outcome.finished, outcome.failures)
    print(f'{plans.out}: {", ".join(path.name for path in paths)}')
  return outcome
