"""Lines of `benchmarks.compile_ahead` as a table for the pages."""

from collections.abc import Iterable, Mapping
from typing import Any

_HEAD = (
  'path',
  'topology',
  'compile, s',
  'arguments',
  'temporaries',
  'needed of the chip',
  'TFLOP a chip',
  'collectives: places, runs, MiB',
  'at least, ms (products / memory / links)',
  'cycles, ms',
)


def markdown(lines: Iterable[Mapping[str, Any]]) -> str:
  """A row for every line, in their order.

  Args:
    lines: as `benchmarks.compile_ahead` prints them.
  """
  rows = [_HEAD, ('---',) * len(_HEAD), *map(_row, lines)]
  return '\n'.join(f'| {" | ".join(row)} |' for row in rows)


def _row(line: Mapping[str, Any]) -> tuple[str, ...]:
  config = line['config']
  kernel = '' if config['attention'] == 'plain' else f', {config["attention"]}'
  first = (
    f'`{config["path"]}`{kernel}',
    config['topology'],
    f'{line["value"]:.0f}',
  )
  if 'does_not_fit' in config:
    why = f'does not fit: {config["does_not_fit"]}'
    return (*first, *('-',) * 2, why, *('-',) * (len(_HEAD) - 6))
  share = config['needed_gib'] / config['memory_gib_of_chip']
  times = config['estimates']
  return (
    *first,
    _size(config['arguments_gib']),
    _size(config['temporaries_gib']),
    f'{_size(config["needed_gib"])} of {config["memory_gib_of_chip"]} GiB '
    f'({100 * share:.1f} %)',
    f'{config["tflop_of_chip"]:.3g}',
    _collectives(config['collectives']),
    ' / '.join(
      f'{times[name]:.3g}' for name in ('products_ms', 'memory_ms', 'links_ms')
    ),
    f'{times["cycles_ms"]:.3g}',
  )


def _size(gib: float) -> str:
  return f'{gib:.2f} GiB' if gib >= 0.1 else f'{1024 * gib:.1f} MiB'


def _collectives(found: Iterable[Mapping[str, Any]]) -> str:
  """Those of one kind together."""
  kinds: dict[str, list[float]] = {}
  for one in found:
    sums = kinds.setdefault(one['kind'], [0, 0, 0.0])
    for index, key in enumerate(('places', 'runs', 'mebibytes')):
      sums[index] += one[key]
  said = [
    f'{kind}: {places:.0f}, {runs:.0f}, {mebibytes:.3g}'
    for kind, (places, runs, mebibytes) in sorted(kinds.items())
  ]
  return '; '.join(said) or 'none'
