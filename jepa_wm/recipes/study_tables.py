"""What the results of a study come to: a line a row, beside the paper's."""

import csv
import dataclasses
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jepa_wm.evaluation.report import study_page
from jepa_wm.evaluation.statistics import ablations
from jepa_wm.recipes.study import Study
from jepa_wm.recipes.study_units import Unit
from jepa_wm.recipes.study_work import Result

_TELLS = 0.05

Results = Sequence[tuple[Unit, Result | None]]


@dataclasses.dataclass(frozen=True)
class _Row:
  """What is there of a row: results of the seeds that came to something."""

  outcomes: np.ndarray | None
  rates: list[float]
  metrics: dict[str, float]
  sentences: list[str]


def lines(study: Study, results: Results) -> list[study_page.Line]:
  """A line for each row that was asked for, in the study's order.

  All rates are in per cent, as the papers'. p-values are corrected by Holm's
  method over the rows of the study. A diverged run counts as wrong on every
  pair: it is a result.
  """
  asked = {unit.row for unit, _ in results}
  names = [name for name in study.rows if name in asked]
  length = max(
    (len(r.outcomes) for _, r in results if r is not None), default=0
  )
  rows = {
    name: _gather([(u, r) for u, r in results if u.row == name], length)
    for name in names
  }
  reference = rows.get(study.reference)
  differences = {
    name: _differ(study, name, row, reference)
    for name, row in rows.items()
    if name != study.reference
  }
  corrected = ablations.holm(
    {name: x.p_value for name, x in differences.items() if x is not None}
  )
  return [
    _line(study, name, rows[name], differences.get(name), corrected.get(name))
    for name in names
  ]


def to_csv(study: Study, results: Results) -> str:
  """Every unit, one a line, with a heading; nothing that a clock says."""
  stream = io.StringIO()
  table = columns(study, results)
  writer = csv.writer(stream, lineterminator='\n')
  writer.writerow(table)
  writer.writerows(zip(*table.values()))
  return stream.getvalue()


def columns(study: Study, results: Results) -> dict[str, list[Any]]:
  """Every unit by column; NaN where a number is not known."""
  names = sorted({x for _, r in results if r is not None for x in r.metrics})
  nothing = Result('missing')
  found: dict[str, list[Any]] = {
    'study': [study.name for _ in results],
    'row': [unit.row for unit, _ in results],
    'seed': [unit.seed for unit, _ in results],
    'unit': [unit.digest for unit, _ in results],
    'training': [unit.training for unit, _ in results],
    'status': [(r or nothing).status for _, r in results],
    'rate': [_mean((r or nothing).outcomes) for _, r in results],
    'num_outcomes': [len((r or nothing).outcomes) for _, r in results],
  }
  for name in names:
    found[name] = [
      float((r or nothing).metrics.get(name, np.nan)) for _, r in results
    ]
  found['sentence'] = [(r or nothing).sentence for _, r in results]
  return found


def curves(results: Results) -> dict[str, list[study_page.Curve]]:
  """What the runs logged, by name, a curve for each row and seed."""
  found: dict[str, list[study_page.Curve]] = {}
  seen = set()
  for unit, result in results:
    if result is None or (unit.row, unit.training) in seen:
      continue
    seen.add((unit.row, unit.training))
    for name, (steps, values) in result.curves.items():
      curve = study_page.Curve(unit.row, unit.seed, steps, values)
      found.setdefault(name, []).append(curve)
  return found


def _gather(results: Results, length: int) -> _Row:
  """What is there of a row, whose seeds are tried on `length` pairs."""
  done = [(u, r) for u, r in results if r is not None]
  counted = [(u, r) for u, r in done if r.status != 'failed']
  outcomes = [
    r.outcomes if r.status == 'finished' else (0,) * length
    for _, r in counted
    if r.status == 'diverged' or len(r.outcomes) == length
  ]
  told = {x for _, r in counted for x in r.metrics}
  return _Row(
    outcomes=np.asarray(outcomes, float) if length and outcomes else None,
    rates=[100 * _mean(x) for x in outcomes],
    metrics={
      name: float(np.mean([r.metrics.get(name, np.nan) for _, r in counted]))
      for name in told
    },
    sentences=[f'seed {u.seed}: {r.sentence}' for u, r in done if r.sentence],
  )


def _differ(
  study: Study, name: str, row: _Row, reference: _Row | None
) -> ablations.Difference | None:
  """How a row differs from the reference; None where one is not there."""
  if reference is None or row.outcomes is None or reference.outcomes is None:
    return None
  if row.outcomes.shape[1] != reference.outcomes.shape[1]:
    return None
  published = _published(study, name)
  return ablations.difference(
    row.outcomes,
    reference.outcomes,
    to_tell=None if not published else published / 100,
  )


def _published(study: Study, name: str) -> float | None:
  """The paper's difference from its reference, in per cent."""
  values = [
    None if row.published is None else row.published.value
    for row in (study.rows[name], study.rows[study.reference])
  ]
  if values[0] is None or values[1] is None:
    return None
  return values[0] - values[1]


def _line(
  study: Study,
  name: str,
  row: _Row,
  difference: ablations.Difference | None,
  p_value: float | None,
) -> study_page.Line:
  published = study.rows[name].published
  is_reference = name == study.reference
  theirs = None if is_reference else _published(study, name)
  estimate = None
  if row.outcomes is not None:
    estimate = _percent(ablations.rate(row.outcomes))
  return study_page.Line(
    row=name,
    is_reference=is_reference,
    published='' if published is None else str(published),
    source='' if published is None else published.source,
    estimate=estimate,
    rates=tuple(row.rates),
    floor=_share(row, 'random_floor'),
    ceiling=_share(row, 'expert_ceiling'),
    published_difference=theirs,
    difference=None if difference is None else _percent(difference.estimate),
    p_value=p_value,
    verdict=_verdict(study, name, row, difference, p_value),
    metrics={x: row.metrics.get(x, float('nan')) for x in study.metrics},
    sentences=tuple(row.sentences),
  )


def _share(row: _Row, name: str) -> float | None:
  """A share among a row's metrics, in per cent; None where it is not there."""
  value = row.metrics.get(name, float('nan'))
  return 100 * value if np.isfinite(value) else None


def _percent(estimate: ablations.Estimate) -> ablations.Estimate:
  return ablations.Estimate(*(100 * x for x in estimate))


def _verdict(
  study: Study,
  name: str,
  row: _Row,
  difference: ablations.Difference | None,
  p_value: float | None,
) -> str:
  """In words, beginning with those that the page colours."""
  if name == study.reference:
    return 'reference'
  if difference is None or p_value is None:
    return 'not measured' if row.outcomes is None else 'no reference'
  ours, theirs = difference.estimate.value, _published(study, name)
  # The test knows pairs alone, the interval seeds as well.
  is_sure = difference.estimate.low > 0 or difference.estimate.high < 0
  if p_value >= _TELLS or not is_sure:
    if not difference.pairs_needed:
      return 'cannot tell'
    what = 'this' if not theirs else "the paper's difference"
    return f'cannot tell ({difference.pairs_needed:,} pairs tell {what})'
  if not theirs:
    return 'higher' if ours > 0 else 'lower'
  return 'same direction' if ours * theirs > 0 else 'opposite'


def _mean(values: Sequence[float]) -> float:
  return float(np.mean(values)) if len(values) else float('nan')


def described(study: Study, results: Results) -> dict[str, Any]:
  """The study, its rows and its units in JSON's types."""
  return {
    'name': study.name,
    'question': study.question,
    'source': study.source,
    'reference': study.reference,
    'differs': dict(study.differs),
    'rows': {
      name: {
        'train': dict(row.train),
        'by_size': {k: dict(x) for k, x in row.by_size.items()},
        'config': dict(row.config),
        'plan': dict(row.plan),
        'probe': dict(row.probe),
        'probe_by_size': {k: dict(x) for k, x in row.probe_by_size.items()},
        'published': None
        if row.published is None
        else dataclasses.asdict(row.published),
        'missing': row.missing,
      }
      for name, row in study.rows.items()
    },
    'lines': [_numbers(line) for line in lines(study, results)],
    'units': [
      {
        'row': unit.row,
        'seed': unit.seed,
        'unit': unit.digest,
        'training': unit.training,
        'status': 'missing' if result is None else result.status,
        'config': unit.config,
        'ask': unit.ask,
      }
      for unit, result in results
    ],
  }


def _numbers(line: study_page.Line) -> dict[str, Any]:
  """A line in JSON's types: NaN is null."""
  told: dict[str, Any] = dataclasses.asdict(line)
  for name in ('estimate', 'difference'):
    if told[name] is not None:
      told[name] = list(told[name])
  told['metrics'] = {
    k: x if np.isfinite(x) else None for k, x in line.metrics.items()
  }
  return told


def table(study: Study, results: Results) -> str:
  """The lines as text for a terminal."""
  return aligned(study_page.cells(lines(study, results)))


def aligned(cells: Sequence[Sequence[str]]) -> str:
  """Cells as text in columns."""
  widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
  return '\n'.join(
    '  '.join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip()
    for row in cells
  )


def page(
  study: Study,
  results: Results,
  *,
  size: str,
  command: str,
  failures: Sequence[str],
  about: Mapping[str, str],
) -> str:
  """The page of a study; see `study_page.build`."""
  return study_page.build(
    title=study.name,
    question=study.question,
    source=study.source,
    differs=study.differs.get(size, ''),
    lines=lines(study, results),
    curves=curves(results),
    command=command,
    failures=failures,
    about=about,
  )
