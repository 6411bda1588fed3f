"""Planning results for people: a table, pictures, one page."""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from jepa_wm import files
from jepa_wm.evaluation.diagnostics import finding, imagination
from jepa_wm.evaluation.planning import planning_benchmark
from jepa_wm.evaluation.report import animation, charts, figures, page, videos
from jepa_wm.evaluation.statistics import comparison, runs


def draw(
  result: planning_benchmark.Result,
  *,
  findings: Mapping[str, finding.Finding] | None = None,
  imagined: imagination.Videos | None = None,
  picture_fn: animation.PictureFn | None = None,
) -> runs.Run:
  """Draws all that a report shows of a result.

  Args:
    result: of a benchmark run.
    findings: of diagnostics by name, where there were any.
    imagined: what imagination looks like, where there is a decoder.
    picture_fn: that decoder, for subgoals.
  """
  pictures = {
    'search.png': figures.draw_search(result.diagnostics),
    'search_dark.png': figures.draw_search(result.diagnostics, figures.DARK),
    'curve.svg': charts.success_curve(result).encode(),
    'map.svg': charts.episode_map(result).encode(),
  }
  reached, missed = animation.apart(result)
  for name, rows in (
    ('episodes', animation.choose(result)),
    ('reached', reached),
    ('missed', missed),
  ):
    if rows:
      pictures[f'{name}.gif'] = animation.draw_episodes(
        result, rows, picture_fn
      )
  if imagined is not None:
    pictures['imagination.gif'] = videos.draw_gif(imagined)
    pictures['imagination.png'] = videos.draw_strip(imagined)
  return runs.Run(result.record, result.episodes, pictures, findings or {})


def table(finished: Sequence[runs.Run]) -> str:
  """Sets runs as a table for the console.

  Args:
    finished: at least one; those that differ by seed alone share a row.

  Returns:
    Lines of text; floor and ceiling are on the same pairs as the success.
  """
  columns, num_names = _columns(comparison.summarize_all(finished))
  rows = list(zip(*columns))
  widths = [max(map(len, column)) for column in columns]
  lines = [
    '  '.join(
      cell.ljust(width) if i < num_names else cell.rjust(width)
      for i, (cell, width) in enumerate(zip(row, widths))
    ).rstrip()
    for row in rows
  ]
  lines.insert(1, '  '.join('\u2500' * width for width in widths))
  return '\n'.join(lines)


def write(
  finished: Sequence[runs.Run],
  out: str | os.PathLike[str],
  *,
  command: str,
  failures: Sequence[str] = (),
) -> list[pathlib.Path]:
  """Writes `results.json`, `episodes.csv` and `report.html`.

  Args:
    finished: the runs, at least one. Their records are completed by the path
      of `episodes.csv`.
    out: folder, made where missing.
    command: what to run to get the same result, for the page.
    failures: a sentence for each run that came to nothing, for the page.

  Returns:
    Paths of the files.

  Raises:
    OSError: the folder cannot be written.
  """
  out = files.expand(out)
  out.mkdir(parents=True, exist_ok=True)
  names = ('results.json', 'episodes.csv', 'report.html')
  results, episodes, document = (out / name for name in names)
  files.write_whole(episodes, runs.episodes_csv(finished))
  planning_benchmark.write_results(
    [{**_record(run), 'episodes': episodes.name} for run in finished], results
  )
  columns, _ = _columns(comparison.summarize_all(finished))
  text = page.build(
    finished, list(zip(*columns)), command=command, failures=failures
  )
  files.write_whole(document, text)
  return [results, episodes, document]


def _record(run: runs.Run) -> dict[str, Any]:
  """The record of a run, with the scalars of its findings by name."""
  if not run.findings:
    return run.record
  scalars = {name: dict(x.scalars) for name, x in run.findings.items()}
  return {**run.record, 'findings': scalars}


def _columns(
  summaries: Sequence[comparison.Summary],
) -> tuple[list[list[str]], int]:
  """Columns of the table, headings first, and how many of them are words."""

  def column(heading: str, cells: Sequence[str]) -> list[str]:
    return [heading, *cells]

  def percent(rate: float) -> str:
    return f'{rate:.1%}'

  several = len({summary.checkpoint for summary in summaries}) > 1
  names = [column('protocol', [s.protocol for s in summaries])]
  names.append(column('planner', [s.planner for s in summaries]))
  if several:
    names.insert(0, column('checkpoint', [s.checkpoint for s in summaries]))
  if any(s.shift is not None for s in summaries):
    names.append(column('shift', [s.shift or 'none' for s in summaries]))
  numbers = [column('pairs', [str(s.num_pairs) for s in summaries])]
  if any(s.num_invalid for s in summaries):
    numbers.append(column('left out', [str(s.num_invalid) for s in summaries]))
  numbers.append(column('success', [percent(s.rate) for s in summaries]))
  if any(len(s.rates) > 1 for s in summaries):
    rates = [
      ' '.join(f'{100 * rate:.1f}' for rate in s.rates) for s in summaries
    ]
    numbers.append(column('by seed', rates))
  spans = [f'{s.interval[0]:.1%} \u2013 {s.interval[1]:.1%}' for s in summaries]
  numbers += [
    column('95% interval', spans),
    column('at the end', [percent(s.at_end) for s in summaries]),
    column(
      'steps', ['' if s.steps is None else f'{s.steps:.0f}' for s in summaries]
    ),
    column('random floor', [percent(s.floor) for s in summaries]),
    column('expert ceiling', [percent(s.ceiling) for s in summaries]),
    column('ms per plan', [f'{s.ms_per_plan:,.1f}' for s in summaries]),
  ]
  shares = [s.entered for s in summaries]
  if any(rate is not None for rate in shares):
    cells = ['' if rate is None else percent(rate) for rate in shares]
    numbers.append(column('entered', cells))
  if any(s.num_failed for s in summaries):
    numbers.append(column('failed', [str(s.num_failed) for s in summaries]))
  return names + numbers, len(names)
