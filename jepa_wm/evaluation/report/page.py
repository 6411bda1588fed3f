"""The report page: one HTML file that needs nothing else."""

import html
import string
from collections.abc import Mapping, Sequence
from typing import Any

from jepa_wm.evaluation.report import charts, page_sections, page_tables
from jepa_wm.evaluation.report.page_style import STYLE
from jepa_wm.evaluation.statistics import comparison, runs

_PAGE = string.Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title><style>$style</style></head><body><main>
<p class="eyebrow">$eyebrow</p><h1>$headline</h1><p class="note">$subline</p>
$body
<section><h2>Again</h2><p class="note">The same command gives the same episodes
on the same device.</p><pre>$command</pre></section>
<footer>$footer</footer></main></body></html>
""")


def build(
  finished: Sequence[runs.Run],
  rows: Sequence[Sequence[str]],
  *,
  command: str,
  failures: Sequence[str] = (),
) -> str:
  """Builds the page.

  Args:
    finished: the runs to report, at least one.
    rows: the table of results as text, its heading first.
    command: what to run to get the same result.
    failures: a sentence for each run that came to nothing.

  Returns:
    HTML with all pictures inside.
  """
  record = finished[0].record
  words = _one if len(finished) == 1 else _many
  eyebrow, headline, subline, body = words(finished, rows)
  if failures:
    lines = ''.join(f'<li>{html.escape(line)}</li>' for line in failures)
    body = f'<section><h2>Failed</h2><ul>{lines}</ul></section>{body}'
  return whole(
    eyebrow=eyebrow,
    headline=headline,
    subline=subline,
    body=body,
    command=command,
    footer=about(record),
  )


def whole(
  *,
  eyebrow: str,
  headline: str,
  subline: str,
  body: str,
  command: str,
  footer: str,
) -> str:
  """A page, of text and of a body that is HTML."""
  return _PAGE.substitute(
    title=html.escape(f'{eyebrow}: {headline}'),
    style=STYLE,
    eyebrow=html.escape(eyebrow),
    headline=html.escape(headline),
    subline=html.escape(subline),
    body=body,
    command=html.escape(command),
    footer=html.escape(footer),
  )


def about(record: Mapping[str, Any]) -> str:
  """Versions and commit of a record, for the foot of its page."""
  versions = ', '.join(f'{k} {v}' for k, v in record['versions'].items())
  return f'{versions}, commit {record["commit"] or "unknown"}'


Words = tuple[str, str, str, str]
"""Eyebrow, headline and subline as text, and the body as HTML."""


def _one(finished: Sequence[runs.Run], rows: Sequence[Sequence[str]]) -> Words:
  """The page of a single run."""
  (run,) = finished
  record = run.record
  low, high = record['interval_95']
  name = record['protocol']['environment'].replace('_', ' ').title()
  return (
    f'{name} \u00b7 protocol {record["protocol"]["name"]}',
    f'{record["num_successes"]} of {record["num_pairs"]} goals reached',
    f'{record["success_rate"]:.1%} (95% interval {low:.1%} to {high:.1%}) '
    f'with {record["checkpoint"] or "an unnamed model"}, '
    f'{record["num_parameters"]:,} parameters, '
    f'{record["ms_per_plan"]:,.0f} ms per plan.',
    f'<section>{charts.score_strip(record)}</section>'
    f'<section><h2>Results</h2>{page_tables.table(rows[0], rows[1:])}'
    f'</section>{page_sections.details(run)}',
  )


def _many(finished: Sequence[runs.Run], rows: Sequence[Sequence[str]]) -> Words:
  """The page of several runs, side by side."""
  summaries = comparison.summarize_all(finished)
  worlds = sorted({run.record['protocol']['environment'] for run in finished})
  best = max(summaries, key=lambda summary: summary.rate)
  comparisons = comparison.compare_all(finished)
  body = (
    f'<section><h2>Success</h2>{charts.forest(summaries)}</section>'
    f'<section><h2>Results</h2>{page_tables.table(rows[0], rows[1:])}'
    f'{page_sections.notes(summaries)}</section>'
    f'{page_sections.progress(summaries)}'
  )
  if comparisons:
    body += page_sections.differences(comparisons)
  for group in runs.group(finished):
    for run in group:
      body += page_sections.folded(run, finished)
  return (
    ', '.join(world.replace('_', ' ').title() for world in worlds),
    f'{len(finished)} runs compared',
    f'Best: {comparison.name(best, summaries)}, {best.rate:.1%} '
    f'(95% interval {best.interval[0]:.1%} to {best.interval[1]:.1%}).',
    body,
  )
