"""Lines of benchmarks as rows of a table.

  python -m benchmarks.rows --lines=runs/accelerator/lines.jsonl

Prints Markdown: what was measured, the number type, the value, what else is
known of it, the device and the day.
"""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

from absl import flags

from benchmarks import records

_LINES = flags.DEFINE_string('lines', None, 'File of JSON lines.')

_TOLD = {
  'share_of_peak': 'of what large products reach: {:.1%}',
  'attention': 'attention {}',
  'batch_size': '{} at once',
  'plans_per_second': '{:.4g} plans/s',
  'num_devices': '{} devices',
}
"""What of a line's config a row says, if it is there, and how."""


def markdown(lines: list[Mapping[str, Any]]) -> str:
  """A row for every line, in their order, under a head."""
  head = ('what', 'dtype', 'value', 'more', 'device', 'date')
  rows = [head, ('---',) * len(head), *map(_row, lines)]
  return '\n'.join(f'| {" | ".join(row)} |' for row in rows)


def _row(line: Mapping[str, Any]) -> tuple[str, ...]:
  config = line['config']
  more = [
    said.format(config[name])
    for name, said in _TOLD.items()
    if config.get(name) not in (None, 1, 'plain')
  ]
  return (
    f'`{line["name"]}`',
    config.get('dtype', 'float32'),
    f'{line["value"]:,} {line["unit"]}',
    ', '.join(more),
    line['device'],
    line['date'],
  )


def main(argv: list[str]) -> None:
  """Reads and prints."""
  del argv
  file = pathlib.Path(_LINES.value or '')
  if not file.is_file():
    raise ValueError(
      f'--lines={_LINES.value}: there is no such file; give one that '
      'benchmarks/accelerator.sh or a benchmark has written.'
    )
  lines = [json.loads(x) for x in file.read_text().splitlines() if x.strip()]
  print(markdown(lines))


if __name__ == '__main__':
  records.run(main)
