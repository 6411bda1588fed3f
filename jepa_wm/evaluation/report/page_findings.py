"""What diagnostics found, on the page: any of them, none known by name."""

import html
import pathlib
from collections.abc import Mapping

from jepa_wm.evaluation.diagnostics import finding
from jepa_wm.evaluation.report import charts, page_tables

_KINDS = {'.png': 'image/png', '.svg': 'image/svg+xml'}
_LONG = 12  # Rows of a table that is folded.


def sections(findings: Mapping[str, finding.Finding]) -> str:
  """A section for every finding, in their order.

  Args:
    findings: by the name of their diagnostic.

  Returns:
    HTML: the title, the sentence, scalars, the table and the figures, as far
    as a finding has them.

  Raises:
    ValueError: a figure that is neither PNG nor SVG.
  """
  return ''.join(
    f'<section><h2>{html.escape(found.title)}</h2>{_sentence(found)}'
    f'{_scalars(found)}{_table(found)}{_figures(name, found)}</section>'
    for name, found in findings.items()
  )


def _sentence(found: finding.Finding) -> str:
  said = html.escape(found.sentence)
  if found.verdict:
    said = f'<b>{html.escape(found.verdict)}</b>. {said}'
  return f'<p class="note">{said}</p>' if said else ''


def _scalars(found: finding.Finding) -> str:
  if not found.scalars:
    return ''
  return page_tables.definitions(
    {
      name.replace('_', ' '): f'{value:,.4g}'
      for name, value in found.scalars.items()
    }
  )


def _table(found: finding.Finding) -> str:
  if found.table is None:
    return ''
  columns, rows = found.table
  numbers = [x for row in rows for x in row if isinstance(x, float)]
  places = page_tables.decimals([abs(x) for x in numbers])
  cells = [
    [f'{x:.{places}f}' if isinstance(x, float) else str(x) for x in row]
    for row in rows
  ]
  text = page_tables.table(list(columns), cells)
  if len(rows) <= _LONG:
    return text
  return f'<details><summary>{len(rows)} rows</summary>{text}</details>'


def _figures(name: str, found: finding.Finding) -> str:
  shown = ''
  for file, content in found.figures.items():
    path = pathlib.PurePath(file)
    light = f'{path.stem.removesuffix("_dark")}{path.suffix}'
    if light != file and light in found.figures:
      continue  # Shown with the one for light readers.
    dark = found.figures.get(f'{path.stem}_dark{path.suffix}')
    source = ''
    if dark is not None:
      source = (
        '<source media="(prefers-color-scheme: dark)" '
        f'srcset="{_uri(file, dark)}">'
      )
    said = html.escape(f'{name}: {path.stem}', quote=True)
    shown += (
      f'<picture>{source}<img alt="{said}" src="{_uri(file, content)}">'
      '</picture>'
    )
  return shown


def _uri(file: str, content: bytes) -> str:
  suffix = pathlib.PurePath(file).suffix
  if suffix not in _KINDS:
    raise ValueError(
      f'a figure must be one of {", ".join(_KINDS)}, got {file!r}.'
    )
  return charts.data_uri(content, _KINDS[suffix])
