"""The page of a checkpoint that was asked many questions."""

from collections.abc import Mapping
from typing import Any

from jepa_wm.evaluation.diagnostics import finding
from jepa_wm.evaluation.report import page, page_findings, page_tables


def build(
  findings: Mapping[str, finding.Finding],
  refused: Mapping[str, str],
  record: Mapping[str, Any],
) -> str:
  """The page of a checkpoint that was asked many questions.

  Args:
    findings: by the name of their diagnostic.
    refused: why others do not apply, by name.
    record: with `checkpoint`, `data`, `command`, `versions` and `commit`.

  Returns:
    HTML with all pictures inside.

  Raises:
    ValueError: a figure that is neither PNG nor SVG.
  """
  body = page_findings.sections(findings)
  if refused:
    why = page_tables.definitions(refused)
    body += f'<section><h2>Not asked</h2>{why}</section>'
  return page.whole(
    eyebrow=str(record['data']).replace('_', ' '),
    headline=f'What {record["checkpoint"]} knows',
    subline=', '.join(
      f'{name.replace("_", " ")}: {found.verdict}'
      for name, found in findings.items()
      if found.verdict
    ),
    body=body,
    command=record['command'],
    footer=page.about(record),
  )
