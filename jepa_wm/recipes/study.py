"""What a study is: a published ablation, as rows of changes to a reference.

A study is data, checked while it is made. `recipes/study_units.py` turns its
rows and seeds into what is trained and measured, `recipes/study_work.py` does
it, `recipes/study_tables.py` puts the results together.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from jepa_wm import fields, files

STUDIES = fields.Registry('study')
"""Studies by name; `experiments/studies` registers those of the papers."""

HANDS = ('first', 'second', 'figure', 'text')
"""Read in the paper's table; in somebody's transcription; off a figure; said
in words alone."""

_Changes = Mapping[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Published:
  """A number of a paper.

  Attributes:
    value: of the study's metric, in per cent where that is a share; None where
      the paper only says in words what happens.
    source: paper, version and table.
    hand: how the number was read, one of `HANDS`.
    spread: what stands behind the +-, None without one.
    spread_kind: what that is, 'population s.d.' for example.
    n: of what it is the mean, '3 seeds x 50 trajectories' for example.
    says: the words, where there is no number.
    of: the task, where the paper measures several.
    also: the row's numbers on the others, by task.
  """

  value: float | None = None
  source: str
  hand: str = 'first'
  spread: float | None = None
  spread_kind: str = ''
  n: str = ''
  says: str = ''
  of: str = ''
  also: Mapping[str, float] = dataclasses.field(default_factory=dict)

  def __post_init__(self) -> None:
    """Checks that there is a number or a word, and where it is from.

    Raises:
      ValueError: it has no source, no value, or no such hand.
    """
    if not self.source.strip():
      raise ValueError('A published number needs its source: paper and table.')
    if self.value is None and not self.says:
      raise ValueError(f'{self.source}: neither a value nor what it says.')
    fields.check_choice('hand', self.hand, HANDS)
    if self.spread is not None and not self.spread_kind:
      raise ValueError(f'{self.source}: spread_kind must say what +- means.')

  def __str__(self) -> str:
    text = self.says
    if self.value is not None:
      text = f'{self.value:g}'
      text += '' if self.spread is None else f' \u00b1 {self.spread:g}'
    parts = [
      self.of,
      self.spread_kind,
      self.n,
      *(f'{task} {value:g}' for task, value in self.also.items()),
      '' if self.hand == 'first' else self.hand,
    ]
    about = ', '.join(part for part in parts if part)
    return f'{text} ({about})' if about else text


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
  """What one row of a table changes; the reference changes nothing.

  Attributes:
    train: fields of the config, dotted: `{'model.predictor.dropout': 0.5}`.
    by_size: more of these, of one size of the study alone.
    config: file and variant, by size, in place of the size's own: another
      method, whose fields are another model's.
    data: fields of `recipes.Collecting` that differ in the episodes that this
      row learns from alone.
    plan: fields of `recipes.Planning`, `options` those of its planner.
    probe: fields of `recipes.Probing`.
    probe_by_size: more of these, of one size of the study alone.
    start: row whose run of the same seed this one starts from or, if its config
      has a `frozen_encoder`, takes the encoder of; none by default.
    of: row whose checkpoint is measured where this one trains nothing; the
      reference by default.
    published: the paper's number, None where it gives none.
    missing: why the row cannot be run here; such a row is listed and no more.
  """

  train: _Changes = dataclasses.field(default_factory=dict)
  by_size: Mapping[str, _Changes] = dataclasses.field(default_factory=dict)
  config: Mapping[str, str] = dataclasses.field(default_factory=dict)
  data: _Changes = dataclasses.field(default_factory=dict)
  plan: _Changes = dataclasses.field(default_factory=dict)
  probe: _Changes = dataclasses.field(default_factory=dict)
  probe_by_size: Mapping[str, _Changes] = dataclasses.field(
    default_factory=dict
  )
  start: str = ''
  of: str = ''
  published: Published | None = None
  missing: str = ''

  def changes(self, size: str) -> dict[str, Any]:
    """Fields of the config that this row changes at a size."""
    return {**self.train, **self.by_size.get(size, {})}

  def probes(self, size: str) -> dict[str, Any]:
    """Fields of `recipes.Probing` that this row changes at a size."""
    return {**self.probe, **self.probe_by_size.get(size, {})}

  @property
  def trains(self) -> bool:
    """Whether it has a training of its own."""
    return bool(self.train or self.config or any(self.by_size.values()))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Size:
  """How large the rows of a study are run.

  Attributes:
    config: file and variant in `experiments/configs`, 'lewm.py:two_room'.
    train: fields of the config that differ from it in all rows.
    data: fields of `recipes.Collecting`, of the episodes that all rows share;
      empty for data that the config makes itself, or that `--data` must name.
    plan: fields of `recipes.Planning` in all rows.
    probe: fields of `recipes.Probing` in all rows.
    minutes: of one row and seed, about, on one `device`.
    device: of the minutes.
    needs: what must be given with `--data`, in words; empty where nothing must.
  """

  config: str
  train: _Changes = dataclasses.field(default_factory=dict)
  data: _Changes = dataclasses.field(default_factory=dict)
  plan: _Changes = dataclasses.field(default_factory=dict)
  probe: _Changes = dataclasses.field(default_factory=dict)
  minutes: float
  device: str = 'CPU core'
  needs: str = ''


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
  """A published ablation by its name.

  Attributes:
    name: paper and subject, 'lewm/dropout'.
    question: that the rows answer.
    source: paper and table.
    reference: name of the row that the others are compared with; it can be run,
      unless none can.
    rows: by name, in the order of the table.
    sizes: by name; 'small' is sized for two cores, 'full' for an accelerator.
    measure: 'plan' plays pairs and counts successes, 'probe' trains a probe on
      frozen features and counts right answers.
    metrics: what else is shown of a row, names of what a run logs and of what
      diagnostics find, as 'surprise/auroc'.
    differs: what is not as in the paper, one sentence for each size.
    table: name of the table that this study is one task of; run together, the
      studies of a table also have a page over all tasks.
    task: which one.
  """

  name: str
  question: str
  source: str
  reference: str
  rows: Mapping[str, Row]
  sizes: Mapping[str, Size]
  measure: str = 'plan'
  metrics: tuple[str, ...] = ()
  differs: Mapping[str, str] = dataclasses.field(default_factory=dict)
  table: str = ''
  task: str = ''

  def __post_init__(self) -> None:
    """Checks what the words say of each other.

    Raises:
      ValueError: a row that there is not, one that trains and takes another's
        checkpoint, or a measure that there is not.
    """
    if self.reference not in self.rows:
      raise ValueError(
        f'{self.name}: the reference {self.reference!r} is none of the rows '
        f'{", ".join(self.rows)}.'
      )
    if self.rows[self.reference].missing and self.runnable:
      raise ValueError(f'{self.name}: the reference cannot be run.')
    if self.measure not in ('plan', 'probe'):
      raise ValueError(
        f"{self.name}: measure must be 'plan' or 'probe', got {self.measure!r}."
      )
    if bool(self.table) != bool(self.task):
      raise ValueError(f'{self.name}: table and task go together.')
    for name, row in self.rows.items():
      if row.of and (row.trains or row.of not in self.rows):
        raise ValueError(
          f'{self.name}: row {name!r} takes the checkpoint of {row.of!r}, '
          'which must be another row, and may then train nothing itself.'
        )
      if row.start and (not row.trains or row.start not in self.rows):
        raise ValueError(
          f'{self.name}: row {name!r} starts from {row.start!r}, which must be '
          'another row, and must then train itself.'
        )
      if row.start and self.rows[row.start].start:
        raise ValueError(
          f'{self.name}: row {name!r} starts from {row.start!r}, which starts '
          'from another itself.'
        )
      for size in (*row.by_size, *row.probe_by_size, *row.config):
        self.size(size)

  def size(self, name: str) -> Size:
    """A size by name.

    Raises:
      ValueError: there is no such size.
    """
    fields.check_choice(f'size of {self.name}', name, self.sizes)
    return self.sizes[name]

  @property
  def runnable(self) -> tuple[str, ...]:
    """Names of the rows that can be run."""
    return tuple(name for name, row in self.rows.items() if not row.missing)

  def _joined(self, asked: tuple[str, ...]) -> list[str]:
    """Names put together again that a list of flags has cut at their commas."""
    found, rest = [], list(asked)
    while rest:
      ends = [
        n for n in range(2, len(rest) + 1) if ', '.join(rest[:n]) in self.rows
      ]
      count = max(ends, default=1)
      found.append(', '.join(rest[:count]))
      rest = rest[count:]
    return found

  def select(self, asked: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the rows that are asked for, the reference among them.

    Args:
      asked: names; 'ref' is the reference; nothing for all.

    Raises:
      ValueError: no such row, or one that cannot be run.
    """
    if not self.runnable:
      raise ValueError(
        f'No row of {self.name} can be run, they are only listed: '
        f'{self.rows[self.reference].missing}'
      )
    if not asked:
      return self.runnable
    names = [
      self.reference if name == 'ref' else name for name in self._joined(asked)
    ]
    for name in names:
      if name not in self.rows:
        raise ValueError(
          f'rows of {self.name} are {", ".join(self.rows)}; got {name!r}.'
          + files.nearest(name, self.rows)
        )
      if self.rows[name].missing:
        raise ValueError(
          f'Row {name!r} of {self.name} cannot be run: '
          f'{self.rows[name].missing}'
        )
    return tuple(
      name for name in self.runnable if name in names or name == self.reference
    )
