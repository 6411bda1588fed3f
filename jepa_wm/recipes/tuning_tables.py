"""What smaller and smaller budgets of a planner came to, for people."""

import dataclasses
import json
import pathlib
from collections.abc import Sequence
from typing import Any

from jepa_wm import files
from jepa_wm.evaluation.diagnostics import finding
from jepa_wm.evaluation.report import budget_chart, plots
from jepa_wm.evaluation.statistics import runs


@dataclasses.dataclass(frozen=True)
class Rung:
  """A budget, and what it came to on development pairs.

  Attributes:
    num_samples: candidates an iteration.
    num_iterations: iterations a plan.
    record: of the run.
    will_do: whether it loses no more than the margin, as all larger ones do.
    chosen: whether it is the smallest such.
  """

  num_samples: int
  num_iterations: int
  record: dict[str, Any]
  will_do: bool
  chosen: bool

  def to_dict(self) -> dict[str, Any]:
    """A row of the table."""
    names = (
      *('num_pairs', 'num_successes', 'success_rate', 'interval_95'),
      *('ms_per_plan', 'flops_per_plan'),
    )
    return {
      'num_samples': self.num_samples,
      'num_iterations': self.num_iterations,
      **{name: self.record[name] for name in names},
      'will_do': self.will_do,
      'chosen': self.chosen,
    }


def table(rungs: Sequence[Rung]) -> str:
  """Budgets as lines of text, for the console."""
  lines = [
    f'{"budget":>12}{"success":>10}{"95% interval":>18}{"ms":>9}{"MFLOP":>10}'
  ]
  for rung in rungs:
    record = rung.record
    low, high = record['interval_95']
    lines.append(
      f'{_name(rung):>12}{record["success_rate"]:>10.1%}'
      f'{f"{low:.1%} to {high:.1%}":>18}{record["ms_per_plan"]:>9.1f}'
      f'{record["flops_per_plan"] / 1e6:>10.1f}'
      f'{"  chosen" if rung.chosen else ""}'
    )
  return '\n'.join(lines)


def found_out(rungs: Sequence[Rung], margin: float) -> finding.Finding:
  """What tuning found, for the page of the run that it led to."""
  rows = [rung.to_dict() for rung in rungs]
  chosen = next(rung for rung in rungs if rung.chosen)
  return finding.Finding(
    'How small the budget may be',
    {
      'num_samples': chosen.num_samples,
      'num_iterations': chosen.num_iterations,
      'development_success': chosen.record['success_rate'],
      'largest_success': rungs[0].record['success_rate'],
    },
    table=finding.Table(
      ('candidates x iterations', 'solved', 'of', 'ms', 'MFLOP', 'will do'),
      [
        [
          _name(rung),
          row['num_successes'],
          row['num_pairs'],
          row['ms_per_plan'],
          row['flops_per_plan'] / 1e6,
          'chosen' if rung.chosen else 'yes' if rung.will_do else 'no',
        ]
        for rung, row in zip(rungs, rows)
      ],
    ),
    figures=plots.both(
      'budget',
      lambda theme: budget_chart.draw(
        rows, [_name(rung) for rung in rungs], margin, theme
      ),
    ),
    sentence='Success on development pairs, which are none of those above, '
    "with Wilson's 95 % intervals. Each budget has half of the candidates or "
    'of the iterations of the one before; the smallest is taken that loses at '
    f'most {margin:.1%} of the pairs against the largest, as all between do.',
  )


def write(
  out: pathlib.Path, tuned: Sequence[Sequence[Rung]], margin: float
) -> list[pathlib.Path]:
  """Writes `tuning.json` and, of one combination, `tuning.png`.

  Raises:
    OSError: the folder cannot be written.
  """
  described = [
    {
      **{
        name: rungs[0].record[name]
        for name in ('checkpoint', 'manifest_sha256')
      },
      'protocol': rungs[0].record['protocol']['name'],
      'planner': rungs[0].record['planner']['name'],
      'margin': margin,
      'budgets': [rung.to_dict() for rung in rungs],
    }
    for rungs in tuned
  ]
  paths = [out / 'tuning.json']
  files.write_whole(paths[0], json.dumps(described, indent=2) + '\n')
  if len(tuned) == 1:
    paths.append(out / 'tuning.png')
    files.write_whole(
      paths[1], found_out(tuned[0], margin).figures['budget.png']
    )
  return paths


def with_findings(
  finished: Sequence[runs.Run],
  tuned: Sequence[Sequence[Rung]],
  margin: float,
) -> list[runs.Run]:
  """Runs, each with what tuning found out for it."""
  found = {}
  for rungs in tuned:
    chosen = next(rung for rung in rungs if rung.chosen)
    found[_of_record(chosen.record)] = found_out(rungs, margin)
  return [
    dataclasses.replace(
      run,
      findings={'tuning': found[_of_record(run.record)], **run.findings},
    )
    for run in finished
  ]


def _of_record(record: dict[str, Any]) -> tuple[str, ...]:
  """The same of a record, whose planner has been chosen."""
  planner = json.dumps(record['planner'], sort_keys=True, default=str)
  return record['checkpoint'], record['protocol']['name'], planner


def _name(rung: Rung) -> str:
  return f'{rung.num_samples} x {rung.num_iterations}'
