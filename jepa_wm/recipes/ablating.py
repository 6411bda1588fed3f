"""Studies from the first check to the page: what `experiments.ablate` does."""

import collections
import dataclasses
import importlib.util
import io
import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jepa_wm import fields, files, provenance, sharding
from jepa_wm.recipes import (
  study_tables,
  study_tasks,
  study_units,
  study_work,
)
from jepa_wm.recipes.study import Study
from jepa_wm.recipes.study_checks import changed


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ablating:
  """Which studies are run, how large, and where the files go.

  Attributes:
    study: names, as 'lewm/dropout', or of a table of several, as
      'lewm/main_table'; --list prints all.
    rows: names of rows, of every study; the reference, also called 'ref', is
      always among them. All by default.
    size: of the studies: 'small' for two cores, 'full' for an accelerator.
    seeds: of the trainings.
    num_pairs: problems that every row plans; the study's by default.
    data: folder of episodes, in place of those that the study would collect.
    jobs: units at once, each with a core of its own, or a GPU; as many as there
      are by default.
    vmap_seeds: the seeds of a row train in one program and are one job, for
      devices that a small model leaves idle.
    units: digests of the units that a job does, without a page; what
      --emit=commands gives.
    out: folder for all files.
  """

  study: tuple[str, ...] = ()
  rows: tuple[str, ...] = ()
  size: str = 'small'
  seeds: tuple[str, ...] = ('0', '1', '2')
  num_pairs: int | None = None
  data: str | None = None
  jobs: int | None = None
  vmap_seeds: bool = False
  units: tuple[str, ...] = ()
  out: str = 'outputs/ablate'

  def __post_init__(self) -> None:
    """Checks what nobody below would.

    Raises:
      ValueError: seeds that are no different whole numbers, one alone for
        `vmap_seeds`, a study named twice, a folder without a name, or no jobs.
    """
    seeds = tuple(str(seed) for seed in self.seeds)
    object.__setattr__(self, 'seeds', seeds)
    whole = {int(x) for x in seeds if x.isdecimal() and int(x) < 2**63}
    if len(whole) < len(seeds):
      raise ValueError(
        'seeds must be different whole numbers below 2**63, got '
        f'{",".join(seeds)}.'
      )
    if not seeds:
      raise ValueError('seeds must name one at least.')
    if self.vmap_seeds and len(seeds) < 2:
      raise ValueError(
        f'vmap_seeds trains several seeds in one program, got {seeds[0]} '
        'alone; name more, or leave it out.'
      )
    if len({*self.study}) < len(self.study):
      raise ValueError(f'study names one twice: {",".join(self.study)}.')
    for name in ('out', 'data'):
      if getattr(self, name) == '':
        raise ValueError(f"{name} must be a folder, got ''; leave it out.")
    most = {'jobs': 10_000, 'num_pairs': 100_000}
    fields.check_counts(self, {'jobs': 1, 'num_pairs': 1}, most)


class Ablation:
  """Studies with all their units.

  Attributes:
    asked: what is asked for.
    out: folder of all files.
    units: of all studies, in order.

  Args:
    asked: what is asked for.
    studies: those it names.
    resolve_fn: reads configs.
    command: how to do it again, for the pages.

  Raises:
    ValueError: a row or size that there is not, a config that is none, or data
      that must be named.
    OSError: no episodes.
  """

  def __init__(
    self,
    asked: Ablating,
    studies: Sequence[Study],
    resolve_fn: study_units.ResolveFn,
    command: str,
  ):
    self.asked, self.out = asked, files.expand(asked.out).absolute()
    self._studies, self._resolve, self._command = studies, resolve_fn, command
    self._units = {
      study.name: study_units.units(
        study,
        size=asked.size,
        rows=study.select(asked.rows),
        seeds=[int(seed) for seed in asked.seeds],
        out=self.out,
        data=asked.data,
        resolve_fn=resolve_fn,
        num_pairs=asked.num_pairs,
      )
      for study in studies
    }
    self.units = [unit for units in self._units.values() for unit in units]

  def check(self) -> None:
    """Refuses rows that do nothing, before anything is computed.

    Raises:
      ValueError: a sentence for each of them.
    """
    faults = [
      fault
      for study in self._studies
      for fault in study_units.check(
        study, self.asked.size, self._resolve, study.select(self.asked.rows)
      )
    ]
    if faults:
      raise ValueError('\n'.join(faults))

  def groups(self) -> list[list[study_units.Unit]]:
    """Units by job: those that share a training, each unit once.

    With `vmap_seeds` those whose trainings differ in the seed are one job.
    """
    found: dict[str, dict[str, study_units.Unit]] = collections.defaultdict(
      dict
    )
    for unit in self.units:
      job = unit.alike if self.asked.vmap_seeds else unit.training
      found[job].setdefault(unit.digest, unit)
    return [list(group.values()) for group in found.values()]

  def work(self) -> int:
    """Does the units that `asked` names by digest, in this process.

    Returns:
      1 where one failed, 0 otherwise.

    Raises:
      ValueError: no such unit.
    """
    known = {unit.digest: unit for unit in self.units}
    for name in self.asked.units:
      if name not in known:
        raise ValueError(
          f'There is no unit {name!r} in these studies: the code or what is '
          'asked for is another than when its command was made; make it again '
          'with --emit=commands.'
        )
    mine = [known[name] for name in self.asked.units]
    failures = study_work.work(
      mine,
      together=self.asked.vmap_seeds,
      say_fn=lambda x: print(x, flush=True),
    )
    return 1 if failures else 0

  def minutes(self, units: Iterable[study_units.Unit]) -> float:
    """What is left of units takes about so long, on one device."""
    sizes = {s.name: s.size(self.asked.size) for s in self._studies}
    # Nine tenths are the training, which is shared.
    trained: set[str] = set()
    total = 0.0
    for unit in units:
      if study_work.is_done(unit):
        continue
      whole = sizes[unit.study].minutes
      is_trained = (unit.workdir / 'export').exists()
      first = unit.training not in trained and not is_trained
      trained.add(unit.training)
      total += whole if first else 0.25 * whole
    return total

  def told(self) -> str:
    """What would be done, in words."""
    lines = []
    for study in self._studies:
      size = study.size(self.asked.size)
      units = self._units[study.name]
      first = next(u for u in units if u.row == study.reference)
      lines += [
        f'{study.name}: {study.question}',
        f'  {size.config}, {len(units)} units, about '
        f'{self.minutes(units):.0f} minutes of one {size.device}',
      ]
      lines += [
        f'  {study.reference}: {name}={value}'
        for name, (_, value) in changed({}, first.config).items()
      ]
      for unit in units:
        if unit.seed != int(self.asked.seeds[0]) or unit is first:
          continue
        lines += [
          f'  {unit.row}: {name}={after} (was {before})'
          for name, (before, after) in changed(
            first.config, unit.config
          ).items()
        ]
        asked = changed(first.ask, unit.ask).items()
        lines += [f'  {unit.row}: {k}={after}' for k, (_, after) in asked]
    trained = {unit.training: unit for unit in self.units}
    gigabytes = sum(map(self._bytes, trained.values())) / 1e9
    lines.append(
      f'{len(trained)} trainings, {len(self.units)} units, '
      f'{self.minutes(self.units):.0f} minutes of one device, about '
      f'{gigabytes:.1f} GB beside the data, in {self.out}'
      + (f'; {len(self.groups())} programs' if self.asked.vmap_seeds else '')
    )
    return '\n'.join(lines)

  def _bytes(self, unit: study_units.Unit) -> float:
    """Checkpoints hold parameters and two moments, the export parameters."""
    kept = unit.config['keep_checkpoints']
    return 4.0 * study_units.num_parameters(unit.config) * (3 * kept + 1)

  def report(self, commands: Sequence[str]) -> int:
    """Writes the pages and tables of what is done.

    Args:
      commands: a line for each job.

    Returns:
      1 where a unit failed or is missing, 0 otherwise.
    """
    failed = False
    for name, group in study_tasks.tables(self._studies).items():
      self._write_table(name, [(x, self._results(x)) for x in group])
    for study in self._studies:
      results = self._results(study)
      failures = _failures(results)
      folder = self.out / 'studies' / f'{study.name}-{self.asked.size}'
      self._write(study, results, folder, failures, commands)
      print(f'\n{study.name}\n{study_tables.table(study, results)}\n')
      for sentence in failures:
        print(sentence)
      print(f'{folder}: report.html, rows.csv, study.json', flush=True)
      failed = failed or bool(failures)
    return int(failed)

  def _results(self, study: Study) -> study_tables.Results:
    return [(u, study_work.load(u)) for u in self._units[study.name]]

  def _write_table(self, name: str, measured: study_tasks.Measured) -> None:
    """Writes the page over the tasks of a table, and prints its rows."""
    folder = self.out / 'studies' / f'{name}-{self.asked.size}'
    page = study_tasks.page(
      measured,
      size=self.asked.size,
      command=self._command,
      failures=[x for _, results in measured for x in _failures(results)],
      about=_about(),
    )
    files.write_whole(folder / 'report.html', page)
    files.write_whole(folder / 'rows.csv', study_tasks.to_csv(measured))
    print(f'\n{name}\n{study_tasks.table(measured)}\n')
    print(f'{folder}: report.html, rows.csv', flush=True)

  def _write(
    self,
    study: Study,
    results: study_tables.Results,
    folder: pathlib.Path,
    failures: Sequence[str],
    commands: Sequence[str],
  ) -> None:
    page = study_tables.page(
      study,
      results,
      size=self.asked.size,
      command=self._command,
      failures=failures,
      about=_about(),
    )
    described = study_tables.described(study, results)
    files.write_whole(folder / 'report.html', page)
    files.write_whole(folder / 'rows.csv', study_tables.to_csv(study, results))
    files.write_whole(
      folder / 'study.json', json.dumps(described, indent=1, default=str)
    )
    files.write_whole(folder / 'commands.txt', '\n'.join(commands) + '\n')
    parquet = _parquet(study_tables.columns(study, results))
    if parquet is not None:
      files.write_whole(folder / 'rows.parquet', parquet)


def _failures(results: study_tables.Results) -> list[str]:
  """A sentence for each unit that came to nothing."""
  return [
    f'{unit}: {"nothing came of it" if result is None else result.sentence}'
    for unit, result in results
    if result is None or result.status == 'failed'
  ]


def _about() -> dict[str, str]:
  return {
    **provenance.versions(),
    'commit': provenance.commit() or 'unknown',
    'device': sharding.device_description(),
  }


def list_studies(studies: Sequence[Study]) -> str:
  """All studies as text: rows, sources, cost at each size, what is missing."""
  lines = []
  published = runnable = 0
  for study in studies:
    costs = ', '.join(
      f'{name} {size.minutes:g} min a row and seed on one {size.device}'
      + (f' (needs {size.needs})' if size.needs else '')
      for name, size in study.sizes.items()
    )
    lines += [
      f'{study.name}: {study.question}',
      f'  {study.source}; {costs or "listed alone"}',
    ]
    for name, row in study.rows.items():
      told = '' if row.published is None else f': {row.published}'
      told += f' [cannot be run: {row.missing}]' if row.missing else ''
      is_first = ' (reference)' if name == study.reference else ''
      lines.append(f'    {name}{is_first}{told}')
      published += row.published is not None
      runnable += row.published is not None and not row.missing
    lines.append('')
  lines.append(
    f'{len(studies)} studies, {published} published rows, {runnable} of which '
    'can be run.'
  )
  return '\n'.join(lines)


def _parquet(columns: Mapping[str, Sequence[Any]]) -> bytes | None:
  """Columns as a Parquet file; None where pyarrow is not installed."""
  if importlib.util.find_spec('pyarrow') is None:
    return None
  arrow = importlib.import_module('pyarrow')
  writer = importlib.import_module('pyarrow.parquet')
  stream = io.BytesIO()
  writer.write_table(arrow.table(dict(columns)), stream)
  return stream.getvalue()
