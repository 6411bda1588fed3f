"""A planning result for people: a table, two pictures, one page."""

import os
import pathlib
from collections.abc import Sequence
from typing import Any

from jepa_wm.evaluation import (
  animation,
  figures,
  page,
  planning_benchmark,
  rollout_error,
)

_HEADING = (
  'protocol',
  'planner',
  'pairs',
  'success',
  '95% interval',
  'random floor',
  'expert ceiling',
  'ms per plan',
)

_NUM_NAMES = 2  # Columns of words, before those of numbers.


def table(records: Sequence[dict[str, Any]]) -> str:
  """Sets result records as a table for the console.

  Args:
    records: as in `results.json`.

  Returns:
    Lines of text; floor and ceiling are on the same pairs as the success.
  """
  rows = [_HEADING, *(_row(record) for record in records)]
  widths = [max(len(row[i]) for row in rows) for i in range(len(_HEADING))]
  lines = [
    '  '.join(
      cell.ljust(width) if i < _NUM_NAMES else cell.rjust(width)
      for i, (cell, width) in enumerate(zip(row, widths))
    )
    for row in rows
  ]
  lines.insert(1, '  '.join('\u2500' * width for width in widths))
  return '\n'.join(lines)


def write(
  result: planning_benchmark.Result,
  out: str | os.PathLike[str],
  *,
  command: str,
  errors: rollout_error.RolloutError | None = None,
) -> list[pathlib.Path]:
  """Writes `results.json`, `search.png`, `episodes.gif` and `report.html`.

  Args:
    result: of a benchmark run.
    out: folder, made where missing.
    command: what to run to get the same result, for the page.
    errors: how far imagination drifts, for the page.

  Returns:
    Paths of the four files.

  Raises:
    OSError: the folder cannot be written.
  """
  out = pathlib.Path(out)
  out.mkdir(parents=True, exist_ok=True)
  search = figures.draw_search(result.diagnostics)
  gif = animation.draw_episodes(result)
  document = page.build(
    result,
    [_HEADING, _row(result.record)],
    gif=gif,
    search=search,
    command=command,
    errors=errors,
  )
  paths = [
    out / name
    for name in ('results.json', 'search.png', 'episodes.gif', 'report.html')
  ]
  planning_benchmark.write_results([result.record], paths[0])
  for path, content in zip(paths[1:], (search, gif, document.encode())):
    beside = path.with_name(f'.{path.name}.writing')
    beside.write_bytes(content)
    os.replace(beside, path)
  return paths


def _row(record: dict[str, Any]) -> tuple[str, ...]:
  low, high = record['interval_95']
  return (
    record['protocol']['name'],
    record['planner']['name'],
    str(record['num_pairs']),
    f'{record["success_rate"]:.1%}',
    f'{low:.1%} \u2013 {high:.1%}',
    f'{record["random_floor"]:.1%}',
    f'{record["expert_ceiling"]:.1%}',
    f'{record["ms_per_plan"]:,.1f}',
  )
