"""Studies of one table together: each row over all its tasks."""

import csv
import io
from collections.abc import Mapping, Sequence

import numpy as np

from jepa_wm.evaluation.report import task_page
from jepa_wm.evaluation.statistics import ablations
from jepa_wm.recipes import study_tables
from jepa_wm.recipes.study import Study

Measured = Sequence[tuple[Study, study_tables.Results]]
"""The studies of a table, and what came of them."""


def tables(studies: Sequence[Study]) -> dict[str, list[Study]]:
  """Studies by their table, where two of one are there at least."""
  found: dict[str, list[Study]] = {}
  for study in studies:
    if study.table:
      found.setdefault(study.table, []).append(study)
  return {name: group for name, group in found.items() if len(group) > 1}


def lines(measured: Measured) -> list[task_page.Line]:
  """A line for each row, in the order of the first study.

  The score of a run is its rate in per cent. Where tasks have different numbers
  of seeds, the first ones count, as many as all tasks have.
  """
  rates: dict[str, dict[str, tuple[float, ...]]] = {}
  for study, results in measured:
    for line in study_tables.lines(study, results):
      rates.setdefault(line.row, {})[study.task] = line.rates
  tasks = [study.task for study, _ in measured]
  reference = measured[0][0].reference
  scores = {name: _scores(by_task, tasks) for name, by_task in rates.items()}
  return [
    _line(name, by_task, scores[name], scores.get(reference), name == reference)
    for name, by_task in rates.items()
  ]


def page(
  measured: Measured,
  *,
  size: str,
  command: str,
  failures: Sequence[str],
  about: Mapping[str, str],
) -> str:
  """The page of a table; see `task_page.build`."""
  first = measured[0][0]
  return task_page.build(
    title=first.table,
    source=first.source,
    lines=lines(measured),
    differs={study.task: study.differs.get(size, '') for study, _ in measured},
    command=command,
    failures=failures,
    about=about,
  )


def table(measured: Measured) -> str:
  """The lines as text for a terminal."""
  return study_tables.aligned(task_page.cells(lines(measured)))


def to_csv(measured: Measured) -> str:
  """The lines, with a heading."""
  stream = io.StringIO()
  csv.writer(stream, lineterminator='\n').writerows(
    task_page.cells(lines(measured))
  )
  return stream.getvalue()


def _scores(
  by_task: Mapping[str, tuple[float, ...]], tasks: Sequence[str]
) -> np.ndarray | None:
  """`[runs, tasks]` in per cent; None where a task has no run."""
  runs = min(len(by_task.get(task, ())) for task in tasks)
  if not runs:
    return None
  return np.asarray([by_task[task][:runs] for task in tasks]).T


def _line(
  name: str,
  by_task: Mapping[str, tuple[float, ...]],
  scores: np.ndarray | None,
  reference: np.ndarray | None,
  is_reference: bool,
) -> task_page.Line:
  improvement = None
  if scores is not None and reference is not None and not is_reference:
    improvement = ablations.probability_of_improvement(scores, reference)
  return task_page.Line(
    row=name,
    is_reference=is_reference,
    rates=dict(by_task),
    middle=None if scores is None else ablations.interquartile_mean(scores),
    improvement=improvement,
  )
