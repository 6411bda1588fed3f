"""What the text of a compiled program says: who talks to whom, how often.

XLA's own cost analysis counts what is in a loop once. Here a loop counts as
often as it runs, where its condition compares with a number.
"""

import collections
import math
import re
from collections.abc import Iterator
from typing import NamedTuple

_KINDS = (
  'all-reduce',
  'all-gather',
  'reduce-scatter',
  'all-to-all',
  'collective-permute',
)
_SIZES = {'pred': 1, 's8': 1, 'u8': 1, 'bf16': 2, 'f16': 2, 's16': 2, 'u16': 2}
_SIZES |= {'f32': 4, 's32': 4, 'u32': 4, 'f64': 8, 's64': 8, 'u64': 8}

_HEAD = re.compile(r'^(ENTRY )?%?([\w.-]+) \(.*\{$')
_OP = re.compile(r'^\s+(?:ROOT )?%[\w.-]+ = (.*?) ([a-z][\w-]*)\(')
_ARRAY = re.compile(r'\b([a-z]\w*)\[([\d,]*)\]')
_CALLED = re.compile(
  r'(?:calls|to_apply|body|true_computation|false_computation)=%?([\w.-]+)'
)
_BRANCHES = re.compile(r'branch_computations=\{([^}]*)\}')
_WHILE = re.compile(r'condition=%?([\w.-]+), body=%?([\w.-]+)')
_COUNT = re.compile(r's32\[\]\S* constant\((\d+)\)')
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_NAME = re.compile(r'op_name="([^"]*)"')


class Collective(NamedTuple):
  """What chips tell each other at one place of the program.

  Attributes:
    kind: such as 'all-reduce'.
    name: what of the program it serves.
    runs: how often in a call of the program.
    mebibytes: of its result, each time.
  """

  kind: str
  name: str
  runs: int
  mebibytes: float


class Said(NamedTuple):
  """What a text says.

  Attributes:
    collectives: every one, in the order of the text.
    cycles: what the compiler thinks that its operations take, all loops run;
      None where it does not say.
    custom_calls: how often each is in the text, by target.
  """

  collectives: tuple[Collective, ...]
  cycles: int | None
  custom_calls: dict[str, int]


def read(text: str) -> Said:
  """Reads the optimised text of a compiled program."""
  bodies, entry = _computations(text)
  runs = _runs(bodies, entry)
  fused = _fused(bodies)
  found, cycles, targets = [], 0, collections.Counter()
  for name, lines in bodies.items():
    times = runs.get(name, 0)
    for line in lines:
      match = _OP.match(line)
      if match is None or not times:
        continue
      shape, op = match.groups()
      if op == 'custom-call':
        targets[line.partition('custom_call_target="')[2].split('"')[0]] += 1
      kind = op.removesuffix('-start')
      if kind in _KINDS:
        size = _bytes(shape, started=op != kind) / 2**20
        found.append(Collective(kind, _label(line), times, size))
      # What is within a fusion is told by it.
      if (told := _CYCLES.search(line)) and name not in fused:
        cycles += times * int(told[1])
  return Said(tuple(found), cycles or None, dict(targets))


def grouped(collectives: tuple[Collective, ...]) -> list[dict[str, object]]:
  """Those of one kind and name as one, JSON-able, the largest first."""
  groups: dict[tuple[str, str], list[Collective]] = {}
  for one in collectives:
    groups.setdefault((one.kind, one.name), []).append(one)
  rows = [
    {
      'kind': kind,
      'name': name,
      'places': len(ones),
      'runs': sum(one.runs for one in ones),
      'mebibytes': round(sum(one.runs * one.mebibytes for one in ones), 4),
    }
    for (kind, name), ones in groups.items()
  ]
  return sorted(rows, key=lambda row: -row['mebibytes'])


def _computations(text: str) -> tuple[dict[str, list[str]], str]:
  """Lines of every computation by name, and the name of the first."""
  bodies: dict[str, list[str]] = {}
  entry = current = ''
  for line in text.splitlines():
    head = _HEAD.match(line)
    if head is not None:
      current = head[2]
      bodies[current] = []
      entry = current if head[1] else entry
    elif line.rstrip() == '}':
      # Others that begin so end the settings of a kernel.
      current = ''
    elif current:
      bodies[current].append(line)
  return bodies, entry


def _runs(bodies: dict[str, list[str]], entry: str) -> dict[str, int]:
  """How often every computation runs in a call of the program."""
  runs: collections.Counter[str] = collections.Counter()

  def visit(name: str, times: int) -> None:
    runs[name] += times
    for line in bodies.get(name, ()):
      for called, number in _calls(bodies, line):
        visit(called, times * number)

  visit(entry, 1)
  return dict(runs)


def _calls(
  bodies: dict[str, list[str]], line: str
) -> Iterator[tuple[str, int]]:
  """What a line calls, and how often."""
  loop = _WHILE.search(line)
  if loop is not None:
    counts = _COUNT.findall('\n'.join(bodies.get(loop[1], ())))
    yield loop[2], int(counts[0]) if len(counts) == 1 else 1
    return
  for called in _CALLED.findall(line):
    yield called, 1
  for branches in _BRANCHES.findall(line):
    for called in branches.split(','):
      yield called.strip().removeprefix('%'), 1


def _fused(bodies: dict[str, list[str]]) -> set[str]:
  """Names of what is called from within an operation."""
  inside = set()
  for lines in bodies.values():
    for line in lines:
      if ' fusion(' in line or 'to_apply=' in line:
        inside.update(_CALLED.findall(line))
  return inside


def _bytes(shape: str, *, started: bool) -> int:
  sizes = [
    _SIZES.get(kind, 4) * math.prod(int(n) for n in dims.split(',') if n)
    for kind, dims in _ARRAY.findall(shape)
    # Layouts are no arrays.
    if kind in _SIZES
  ]
  # A start gives out what went in, too.
  return max(sizes, default=0) if started else sum(sizes)


def _label(line: str) -> str:
  """What the program calls it: the gradient, or its last two names."""
  name = _NAME.search(line)
  if name is None:
    return 'unnamed'
  parts = [x for x in name[1].split('/') if not x.startswith('jit(')]
  ours = '/'.join(parts[-2:]) or name[1]
  return f'gradient of {ours}' if 'transpose(' in name[1] else ours
