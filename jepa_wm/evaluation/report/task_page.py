"""The page of a table of several tasks: each row over all of them."""

import dataclasses
import html
from collections.abc import Mapping, Sequence

import numpy as np

from jepa_wm.evaluation.report import page_tables, study_page
from jepa_wm.evaluation.report.page_style import STYLE
from jepa_wm.evaluation.statistics import ablations


@dataclasses.dataclass(frozen=True, kw_only=True)
class Line:
  """What is told of a row.

  Attributes:
    row: its name.
    is_reference: whether the others are compared with it.
    rates: by task, in per cent, of every seed.
    middle: interquartile mean over runs and tasks, None where a task lacks.
    improvement: chance, 0..1, that a run beats one of the reference on a task.
  """

  row: str
  is_reference: bool
  rates: Mapping[str, tuple[float, ...]]
  middle: ablations.Estimate | None
  improvement: ablations.Estimate | None


def cells(lines: Sequence[Line]) -> list[list[str]]:
  """The table as text, its heading first."""
  tasks = [*dict.fromkeys(task for line in lines for task in line.rates)]
  heading = [
    'row',
    *tasks,
    'interquartile mean',
    '95% interval',
    'beats the reference',
    '95% interval',
  ]
  return [heading] + [
    [
      line.row,
      *(_mean(line.rates.get(task, ())) for task in tasks),
      '' if line.middle is None else f'{line.middle.value:.1f}',
      _span(line.middle, 1),
      'reference' if line.is_reference else _value(line.improvement),
      _span(line.improvement, 2),
    ]
    for line in lines
  ]


def build(
  *,
  title: str,
  source: str,
  lines: Sequence[Line],
  differs: Mapping[str, str],
  command: str,
  failures: Sequence[str],
  about: Mapping[str, str],
) -> str:
  """Builds the page.

  Args:
    title: name of the table.
    source: paper and table.
    lines: one for each row.
    differs: what is not as in the paper, by task.
    command: what to run to get the same result.
    failures: a sentence for each unit that came to nothing.
    about: what else the reader should know, by name.

  Returns:
    HTML.
  """
  body = ''
  if failures:
    items = ''.join(f'<li>{html.escape(x)}</li>' for x in failures)
    body += f'<section><h2>Failed</h2><ul>{items}</ul></section>'
  told = {task: text for task, text in differs.items() if text}
  if told:
    body += (
      '<section><h2>Not as in the paper</h2>'
      f'{page_tables.definitions(told)}</section>'
    )
  shown = cells(lines)
  body += (
    f'<section><h2>Rows</h2>{page_tables.table(shown[0], shown[1:])}'
    '<p class="note">Means over seeds, in per cent. Interquartile mean: of the '
    'middle half of all runs of all tasks. Beats the reference: the chance '
    'that a run of the row is better than one of the reference on a task, ties '
    'half. Intervals are 95 %, of a bootstrap that draws runs in each task on '
    'its own (arXiv 2108.13264); of few seeds they say little. Each task has a '
    'page of its own, with pairs, tests and published numbers.</p></section>'
  )
  return study_page.PAGE.substitute(
    title=html.escape(title),
    style=STYLE,
    source=html.escape(source),
    question='Which row is best over all tasks?',
    body=body,
    command=html.escape(command),
    footer=html.escape(', '.join(f'{k} {x}' for k, x in about.items())),
  )


def _mean(rates: Sequence[float]) -> str:
  return f'{np.mean(rates):.1f}' if len(rates) else ''


def _value(estimate: ablations.Estimate | None) -> str:
  return '' if estimate is None else f'{estimate.value:.2f}'


def _span(estimate: ablations.Estimate | None, digits: int) -> str:
  if estimate is None:
    return ''
  return f'{estimate.low:.{digits}f} \u2013 {estimate.high:.{digits}f}'
