"""Tables and lists of the report page, as HTML: all text in them escaped."""

import html
from collections.abc import Mapping, Sequence
from typing import Any


def table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  """Cells of text; those that begin with an outcome have its colour."""

  def line(tag: str, cells: Sequence[str]) -> str:
    marked = []
    for cell in cells:
      word = cell.partition(' ')[0]
      kind = {
        'reached': ' class="good"',
        'missed': ' class="bad"',
        'failed:': ' class="bad"',
        'better': ' class="good"',
        'worse': ' class="bad"',
        'undecided': ' class="same"',
        'opposite': ' class="bad"',
        'cannot': ' class="same"',
      }.get(word)
      marked.append(f'<{tag}{kind or ""}>{html.escape(cell)}</{tag}>')
    return f'<tr>{"".join(marked)}</tr>'

  body = ''.join(line('td', row) for row in rows)
  return (
    f'<table><thead>{line("th", heading)}</thead><tbody>{body}</tbody></table>'
  )


def decimals(distances: Sequence[float]) -> int:
  """As many as the largest of them makes worth telling."""
  top = max(distances, default=0.0)
  return 1 if top >= 10.0 else 2 if top >= 1.0 else 3


def definitions(entries: Mapping[str, Any]) -> str:
  """Terms and what stands for them."""
  items = ''.join(
    f'<dt>{html.escape(str(key))}</dt><dd>{html.escape(str(value))}</dd>'
    for key, value in entries.items()
  )
  return f'<dl>{items}</dl>'
