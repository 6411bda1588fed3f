"""Rows and seeds of a study as units of work, each in a folder of its own."""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jepa_wm import files, models, provenance
from jepa_wm.data import episodes
from jepa_wm.recipes import (
  collecting,
  frozen_encoders,
  planning,
  probing,
  starting_weights,
  study_checks,
  training_fields,
)
from jepa_wm.recipes.study import Row, Size, Study

ResolveFn = Callable[[str, Mapping[str, Any]], dict[str, Any]]
"""File and variant of a config, and values of dotted fields, to the config."""

_LEARNS = (
  'types',
  'units',
  'data',
  'envs',
  'networks',
  'objectives',
  'models',
  'training',
)
_MEASURES = ('planning', 'evaluation/planning', 'evaluation/diagnostics')


@dataclasses.dataclass(frozen=True)
class Unit:
  """A row of a study with one training seed.

  Attributes:
    study: its name.
    row: its name.
    seed: of all that is random in the training.
    config: what is trained.
    collect: fields of `recipes.Collecting`, of the episodes that are trained
      on; empty where they are there already.
    measure: 'plan' or 'probe'.
    ask: fields of `recipes.Planning` or `recipes.Probing`.
    training: digest of all that decides the training.
    alike: digest of the same but for the seed.
    digest: of all that decides the result.
    start: the unit whose training this one starts from; None for none.
    out: folder of all units.
  """

  study: str
  row: str
  seed: int
  config: dict[str, Any]
  collect: dict[str, Any]
  measure: str
  ask: dict[str, Any]
  training: str
  alike: str
  digest: str
  out: pathlib.Path
  start: 'Unit | None' = None

  @property
  def workdir(self) -> pathlib.Path:
    """Folder of the training, which other units may share."""
    return self.out / 'runs' / self.training

  @property
  def folder(self) -> pathlib.Path:
    """Folder of what was measured."""
    return self.out / 'units' / self.digest

  @property
  def data_path(self) -> pathlib.Path | None:
    """Folder of the episodes that are to be collected; None for none."""
    return pathlib.Path(self.config['data']['path']) if self.collect else None

  def __str__(self) -> str:
    return f'{self.study} {self.row} seed {self.seed}'


def units(
  study: Study,
  *,
  size: str,
  rows: Sequence[str],
  seeds: Sequence[int],
  out: pathlib.Path,
  data: str | None,
  resolve_fn: ResolveFn,
  num_pairs: int | None = None,
) -> list[Unit]:
  """All units of some rows of a study.

  Args:
    study: what is asked.
    size: one of its sizes.
    rows: names of rows that can be run.
    seeds: of the trainings.
    out: folder of all units.
    data: folder of episodes in place of those that the size would collect.
    resolve_fn: reads configs.
    num_pairs: problems to plan, in place of the size's.

  Raises:
    ValueError: a config that is none, or data that must be named.
    OSError: no episodes at `data`.
  """
  _check_data(study, size, study.size(size), data)
  maker = _Maker(study, size, out, data, resolve_fn, num_pairs)
  return [maker.unit(name, seed) for name in rows for seed in seeds]


@dataclasses.dataclass(frozen=True)
class _Maker:
  """Makes the units of a study; fields as `units` has them."""

  study: Study
  size: str
  out: pathlib.Path
  data: str | None
  resolve_fn: ResolveFn
  num_pairs: int | None

  def unit(self, name: str, seed: int) -> Unit:
    """A row with a seed."""
    study, size = self.study, self.size
    chosen, trained = study.size(size), study.rows[_trained(study, name)]
    # A row with episodes of its own keeps them, whatever the others learn from.
    given = None if trained.data else self.data
    own = dataclasses.replace(chosen, data={**chosen.data, **trained.data})
    path, collect, identity = _episodes(study, own, given, self.out)
    if self.data is not None and 'data.path' in trained.changes(size):
      raise ValueError(
        f'{study.name}: row {name!r} names its data.path; leave out --data.'
      )
    changes = {**chosen.train, **trained.changes(size), 'seed': seed}
    if path is not None:
      changes['data.path'] = path
    config = self.resolve_fn(trained.config.get(size, chosen.config), changes)
    if path is None:
      identity = _own_episodes(config)
    ask = _ask(study, size, study.rows[name], self.num_pairs)
    start = self.unit(trained.start, seed) if trained.start else None
    begins = ''
    field = _starts(config)
    if start is not None:
      config[field], begins = str(start.workdir), start.training
    elif config.get('initialise_from'):
      begins = starting_weights.fingerprint(config['initialise_from'])
    watched = {
      **config,
      'data': {**config['data'], 'path': ''},
      'initialise_from': '',
    }
    if begins:
      watched[field] = begins
    decides = [_plain(watched), identity, provenance.code(*_LEARNS)]
    training_digest = files.digest_json(decides)
    del decides[0]['seed']
    digest = files.digest_json(
      [training_digest, study.measure, _plain(ask), provenance.code(*_MEASURES)]
    )
    return Unit(
      study=study.name,
      row=name,
      seed=seed,
      config=config,
      collect=collect,
      measure=study.measure,
      ask=ask,
      training=training_digest[:16],
      alike=files.digest_json(decides)[:16],
      digest=digest[:16],
      out=self.out,
      start=start,
    )


def check(
  study: Study, size: str, resolve_fn: ResolveFn, rows: Sequence[str] = ()
) -> list[str]:
  """What is wrong with the rows of a study, before anything is computed.

  Args:
    study: what is asked.
    size: one of its sizes.
    resolve_fn: reads configs.
    rows: names of those that are looked at; all that can be run by default.

  Returns:
    A sentence for each row that does what its reference does, changes a field
    it does not name, or cannot be read.
  """
  if not study.runnable:
    return []
  chosen, faults = study.size(size), []
  effects: dict[str, str] = {}

  def resolve(row: Row) -> dict[str, Any]:
    spec = row.config.get(size, chosen.config)
    config = resolve_fn(spec, {**chosen.train, **row.changes(size)})
    if row.start:
      # Its run is still to come, and stands here by name.
      config[_starts(config)] = f'row {row.start}'
      other = resolve(study.rows[row.start])
      built = [models.from_config(x['model']) for x in (config, other)]
      if _starts(config) == 'initialise_from':
        starting_weights.check(built[0], built[1], f'row {row.start!r}')
      else:
        frozen_encoders.check_alike(built[0], built[1], f'row {row.start!r}')
    return config

  def effect(config: Mapping[str, Any]) -> str:
    key = json.dumps(_plain(config), sort_keys=True)
    if key not in effects:
      effects[key] = study_checks.effect(config)
    return effects[key]

  first = study.rows[study.reference]
  base = resolve(first)
  for name in rows or study.runnable:
    row = study.rows[name]
    try:
      named = {**first.changes(size), **row.changes(size)}
      if row.start or first.start:
        named[_starts(base)] = ''
      config = resolve(row if row.trains else study.rows[_trained(study, name)])
      _ask(study, size, row, None)
      differing = study_checks.changed(base, config)
      unnamed = study_checks.unnamed(differing, named)
      if unnamed and not row.config and not row.of:
        faults.append(
          f'{study.name}: row {name!r} also changes {", ".join(unnamed)}, '
          'which it does not name.'
        )
      same = effect(config) == effect(base)
      if name != study.reference and same and _asks_alike(row, first, size):
        faults.append(
          f'{study.name}: row {name!r} does just what the reference '
          f'{study.reference!r} does: {_told(row.changes(size))} changes '
          'nothing in this model.'
        )
    except ValueError as error:
      faults.append(f'{study.name}: row {name!r}: {error}')
  return faults


def _starts(config: Mapping[str, Any]) -> str:
  """The field for the run that a row starts from, of its config."""
  return 'frozen_encoder' if config.get('frozen_encoder') else 'initialise_from'


def _asks_alike(row: Row, first: Row, size: str) -> bool:
  return (row.plan, row.probes(size), row.of) == (
    first.plan,
    first.probes(size),
    first.of,
  )


def _told(changes: Mapping[str, Any]) -> str:
  return ', '.join(f'{k}={x}' for k, x in changes.items()) or 'the row'


def _trained(study: Study, name: str) -> str:
  """The row whose training a row is measured on."""
  row = study.rows[name]
  if row.trains:
    return name
  return row.of or study.reference


def _check_data(
  study: Study, size: str, chosen: Size, data: str | None
) -> None:
  if chosen.needs and data is None:
    raise ValueError(
      f'{study.name} at size {size!r} needs {chosen.needs}; give its folder '
      'with --data.'
    )
  wanted = {**chosen.plan, **chosen.data}.get('environment')
  if data is None or wanted is None:
    return
  episodes.fingerprint(data)  # Says so where there are none.
  about = files.read_json(files.expand(data) / 'metadata.json')
  found = about.get('provenance', {}).get('environment', wanted)
  if found != wanted:
    raise ValueError(
      f'{study.name} at size {size!r} is of the world {wanted!r}, and {data} '
      f'has episodes of {found!r}; name others with --data.'
    )


def _episodes(
  study: Study, chosen: Size, data: str | None, out: pathlib.Path
) -> tuple[str | None, dict[str, Any], str]:
  """Where episodes lie, how they are collected, and what they are."""
  if data is not None:
    return data, {}, episodes.fingerprint(data)
  if not chosen.data:
    return None, {}, ''
  where = f'{study.name}: data'
  collected = training_fields.build(collecting.Collecting, where, chosen.data)
  recipe = _plain(dataclasses.asdict(collected))
  identity = files.digest_json([recipe, provenance.code('envs', 'data')])
  name = f'{recipe["environment"]}-{identity[:12]}'
  return str(out / 'data' / name), dict(chosen.data), identity


def _own_episodes(config: dict[str, Any]) -> str:
  """What episodes are that a config names itself, found from anywhere."""
  if config['data']['source'] != 'cache':
    return ''
  path = files.expand(config['data']['path']).absolute()
  config['data'] = {**config['data'], 'path': str(path)}
  return episodes.fingerprint(path)


def _ask(
  study: Study, size: str, row: Row, num_pairs: int | None
) -> dict[str, Any]:
  """Fields of what measures a row, checked.

  Raises:
    ValueError: a field that there is not, or out of its range.
  """
  chosen = study.size(size)
  if study.measure == 'plan':
    ask = {**chosen.plan, **row.plan}
    if num_pairs is not None:
      ask['num_pairs'] = num_pairs
    if 'environment' not in ask and chosen.data:
      ask['environment'] = chosen.data.get('environment', 'two_room')
    asked = training_fields.build(planning.Planning, f'{study.name}: plan', ask)
    for settings in asked.planners():
      settings.dry_run(1)
  else:
    ask = {**chosen.probe, **row.probes(size)}
    training_fields.build(probing.Probing, f'{study.name}: probe', ask)
  return ask


def _plain(value: Any) -> Any:
  """As JSON has it."""
  return json.loads(json.dumps(value, default=str))


def num_parameters(config: Mapping[str, Any]) -> int:
  """Parameters of the model of a config."""
  model = models.from_config(config['model'])
  shapes = jax.eval_shape(model.init, jax.random.key(0))
  return sum(int(np.prod(x.shape)) for x in jax.tree.leaves(shapes['params']))
