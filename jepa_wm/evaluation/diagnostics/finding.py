"""What was found: the answer to one question about a model."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

Cell = str | int | float


class Table(NamedTuple):
  """Cells under headings.

  Attributes:
    columns: the headings.
    rows: of as many cells each.
  """

  columns: Sequence[str]
  rows: Sequence[Sequence[Cell]]


@dataclasses.dataclass(frozen=True)
class Finding:
  """An answer, as logs, result files and the report page take it.

  Attributes:
    title: the question, as a heading.
    scalars: numbers by name.
    table: numbers that belong together, None where there are none.
    figures: contents of PNG and SVG files by file name; `NAME_dark.png` is
      shown to dark readers in place of `NAME.png`.
    verdict: one word that sums up, where the question has such an answer.
    sentence: what the numbers are, or why the verdict is what it is.
  """

  title: str
  scalars: Mapping[str, float] = dataclasses.field(default_factory=dict)
  table: Table | None = None
  figures: Mapping[str, bytes] = dataclasses.field(default_factory=dict)
  verdict: str = ''
  sentence: str = ''

  def to_dict(self) -> dict[str, Any]:
    """All of it in JSON's types, of the figures the names alone."""
    return {
      'title': self.title,
      'scalars': dict(self.scalars),
      'table': None if self.table is None else self.table._asdict(),
      'figures': list(self.figures),
      'verdict': self.verdict,
      'sentence': self.sentence,
    }


def from_dict(
  described: Mapping[str, Any], figures: Mapping[str, bytes]
) -> Finding:
  """What `Finding.to_dict` described, with the contents of its figures.

  Raises:
    KeyError: an entry is missing.
    TypeError: an entry that there is not.
  """
  table = described['table']
  given = {
    'table': None if table is None else Table(**table),
    'figures': {name: figures[name] for name in described['figures']},
  }
  return Finding(**{**described, **given})
