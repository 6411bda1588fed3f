"""The page of an ablation: the published number beside ours."""

import dataclasses
import html
import string
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jepa_wm.evaluation.report import page_tables
from jepa_wm.evaluation.report.page_style import STYLE
from jepa_wm.evaluation.statistics import ablations

PAGE = string.Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title><style>$style</style></head><body><main>
<p class="eyebrow">$source</p><h1>$title</h1><p class="note">$question</p>
$body
<section><h2>Again</h2><p class="note">What is done is not done again.</p>
<pre>$command</pre></section>
<footer>$footer</footer></main></body></html>
""")
"""What stands around the body of a page."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Line:
  """What is told of a row; rates and differences are in per cent.

  Attributes:
    row: its name.
    is_reference: whether the others are compared with it.
    published: the paper's number and what its +- is; may be empty.
    source: of that number.
    estimate: ours over all seeds, None where nothing is measured.
    rates: of every seed.
    floor: of random actions on the same pairs, None where nobody acts.
    ceiling: of the expert.
    published_difference: the paper's, from its reference.
    difference: ours, on the same pairs.
    p_value: of our difference, corrected over the rows.
    verdict: same direction, opposite, cannot tell, ...
    metrics: means over the seeds, by name.
    sentences: what went wrong, or was seen, by seed.
  """

  row: str
  is_reference: bool
  published: str
  source: str
  estimate: ablations.Estimate | None
  rates: tuple[float, ...]
  floor: float | None
  ceiling: float | None
  published_difference: float | None
  difference: ablations.Estimate | None
  p_value: float | None
  verdict: str
  metrics: Mapping[str, float]
  sentences: tuple[str, ...]


class Curve(NamedTuple):
  """What a run logged under one name.

  Attributes:
    row: of the run.
    seed: of the run.
    steps: of the training.
    values: at these.
  """

  row: str
  seed: int
  steps: Sequence[int]
  values: Sequence[float]


def build(
  *,
  title: str,
  question: str,
  source: str,
  differs: str,
  lines: Sequence[Line],
  curves: Mapping[str, Sequence[Curve]],
  command: str,
  failures: Sequence[str],
  about: Mapping[str, str],
) -> str:
  """Builds the page.

  Args:
    title: name of the study.
    question: that it asks.
    source: paper and table.
    differs: what is not as in the paper.
    lines: one for each row.
    curves: what the runs logged, by name.
    command: what to run to get the same result.
    failures: a sentence for each unit that came to nothing.
    about: what else the reader should know, by name.

  Returns:
    HTML with all pictures inside.
  """
  body = ''
  if failures:
    body += f'<section><h2>Failed</h2>{_listed(failures)}</section>'
  if differs:
    body += (
      '<section><h2>Not as in the paper</h2><p class="note">'
      f'{html.escape(differs)}</p></section>'
    )
  table = cells(lines)
  body += (
    f'<section><h2>Rows</h2>{_forest(lines)}'
    f'{page_tables.table(table[0], table[1:])}<p class="note">Rates and '
    'differences in per cent; small dots are seeds, ticks random actions and '
    'the expert on the same pairs. Intervals are 95 %, of a bootstrap over the '
    'seeds of a row and over pairs, the same in all rows; every seed is shown, '
    'since a bootstrap of so few knows nothing of others. p: whole pairs '
    'change sides, corrected by Holm over the rows.</p></section>'
  )
  noted = [f'{x.row}, {said}' for x in lines for said in x.sentences]
  if noted:
    body += f'<section><h2>Noted</h2>{_listed(noted)}</section>'
  body += _metrics(lines)
  if curves:
    drawn = ''.join(_chart(name, curves[name]) for name in sorted(curves))
    body += f'<section><h2>Runs</h2><div class="two">{drawn}</div></section>'
  sources = {x.row: x.source for x in lines if x.source}
  body += f'<section><h2>Sources</h2>{page_tables.definitions(sources)}'
  body += '</section>'
  return PAGE.substitute(
    title=html.escape(title),
    style=STYLE,
    source=html.escape(source),
    question=html.escape(question),
    body=body,
    command=html.escape(command),
    footer=html.escape(', '.join(f'{k} {x}' for k, x in about.items())),
  )


def cells(lines: Sequence[Line]) -> list[list[str]]:
  """The table of the rows as text, its heading first."""
  heading = [
    'row',
    'published',
    'ours',
    '95% interval',
    'by seed',
    'random floor',
    'published difference',
    'our difference',
    '95% interval',
    'p',
    'verdict',
  ]
  return [heading] + [
    [
      line.row,
      line.published,
      '' if line.estimate is None else f'{line.estimate.value:.1f}',
      _span(line.estimate),
      ' '.join(f'{rate:.1f}' for rate in line.rates),
      '' if line.floor is None else f'{line.floor:.1f}',
      _signed(line.published_difference),
      '' if line.difference is None else _signed(line.difference.value),
      _span(line.difference),
      '' if line.p_value is None else f'{line.p_value:.4f}',
      line.verdict,
    ]
    for line in lines
  ]


def _metrics(lines: Sequence[Line]) -> str:
  """The table of what else is known of the rows."""
  names = [*dict.fromkeys(x for line in lines for x in line.metrics)]
  if not names:
    return ''
  rows = [
    [line.row, *(_number(line.metrics.get(x, np.nan)) for x in names)]
    for line in lines
  ]
  table = page_tables.table(['row', *names], rows)
  return f'<section><h2>Beside it</h2>{table}</section>'


def _forest(lines: Sequence[Line]) -> str:
  """Rates of all rows under one another, with intervals and seeds."""
  shown = [line for line in lines if line.estimate is not None]
  width, left, right, top, row = 960, 260, 24, 26, 30
  height = top + row * len(shown) + 8

  def x(rate: float) -> float:
    return round(left + rate / 100 * (width - left - right), 1)

  drawn = ''.join(
    f'<line class="grid" x1="{x(rate)}" x2="{x(rate)}" y1="{top - 6}" '
    f'y2="{height - 6}"/><text class="faint" x="{x(rate)}" y="14" '
    f'text-anchor="middle">{rate} %</text>'
    for rate in (0, 25, 50, 75, 100)
  )
  for number, line in enumerate(shown):
    assert line.estimate is not None
    y = top + row * number + row // 2
    value, low, high = line.estimate
    seeds = ''.join(
      f'<circle class="seed" cx="{x(rate)}" cy="{y}" r="3"/>'
      for rate in line.rates
    )
    marks = ''.join(
      f'<line class="mark" x1="{x(rate)}" x2="{x(rate)}" y1="{y - 8}" '
      f'y2="{y + 8}"><title>{what} {rate:.1f} %</title></line>'
      for what, rate in (
        ('random actions', line.floor),
        ('expert', line.ceiling),
      )
      if rate is not None
    )
    drawn += (
      f'{marks}<text x="{left - 16}" y="{y + 4}" text-anchor="end">'
      f'{html.escape(line.row)}</text><line class="interval" x1="{x(low)}" '
      f'x2="{x(high)}" y1="{y}" y2="{y}"/><circle class="dot" '
      f'cx="{x(value)}" cy="{y}" r="6"/>{seeds}'
    )
  return (
    f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="rate of '
    f'every row with its 95% interval">{drawn}</svg>'
  )


def _chart(name: str, curves: Sequence[Curve]) -> str:
  """What was logged under a name, a line for each run."""
  width, height, left, low = 460, 220, 76, 30
  steps = [step for curve in curves for step in curve.steps]
  values = np.asarray([x for curve in curves for x in curve.values])
  # Losses fall by powers of ten.
  is_log = bool(values.min() > 0 and values.max() > 30 * values.min())
  scale = np.log10 if is_log else np.asarray
  bottom, top = float(scale(values.min())), float(scale(values.max()))
  reach = max(top - bottom, 1e-12)

  def point(step: float, value: float) -> str:
    x = left + (width - left - 8) * step / max(max(steps), 1)
    share = (float(scale(np.asarray(value))) - bottom) / reach
    return f'{x:.1f},{height - low - share * (height - low - 26):.1f}'

  rows = [*dict.fromkeys(curve.row for curve in curves)]
  drawn = ''.join(
    f'<polyline fill="none" stroke="{_colour(rows.index(curve.row), rows)}" '
    'stroke-width="1.6" points="'
    f'{" ".join(map(point, curve.steps, curve.values))}"><title>'
    f'{html.escape(curve.row)}, seed {curve.seed}</title></polyline>'
    for curve in curves
  )
  key = ''.join(
    f'<span style="margin-right:10px"><span class="key" style="background:'
    f'{_colour(i, rows)}"></span>{html.escape(row)}</span>'
    for i, row in enumerate(rows)
  )
  ends = ''.join(
    f'<text class="faint" x="{left - 6}" y="{y}" text-anchor="end">'
    f'{value:.3g}</text>'
    for y, value in ((height - low, values.min()), (28, values.max()))
  )
  return (
    f'<div><p class="note">{html.escape(name)}</p><svg viewBox="0 0 {width} '
    f'{height}" role="img" aria-label="{html.escape(name)}">{drawn}{ends}'
    f'<text class="faint" x="{width - 8}" y="{height - 8}" '
    f'text-anchor="end">{max(steps):,} steps</text></svg><p class="note">{key}'
    '</p></div>'
  )


def _colour(number: int, rows: Sequence[str]) -> str:
  return f'hsl({round(250 + 360 * number / len(rows)) % 360} 60% 55%)'


def _listed(sentences: Sequence[str]) -> str:
  return f'<ul>{"".join(f"<li>{html.escape(x)}</li>" for x in sentences)}</ul>'


def _span(estimate: ablations.Estimate | None) -> str:
  if estimate is None:
    return ''
  return f'{estimate.low:.1f} \u2013 {estimate.high:.1f}'


def _signed(value: float | None) -> str:
  return '' if value is None else f'{value:+.1f}'


def _number(value: float) -> str:
  return 'n/a' if np.isnan(value) else f'{value:.4g}'
