"""Finds studies by name, and makes one of a grid of fields."""

import importlib
import itertools
import pkgutil
from collections.abc import Sequence
from typing import Any

from experiments import studies
from experiments.configs import variants
from jepa_wm import recipes
from jepa_wm.recipes import study as study_lib


def all_studies() -> list[recipes.Study]:
  """All that files of this folder register, sorted by name."""
  for module in pkgutil.iter_modules(studies.__path__):
    importlib.import_module(f'{studies.__name__}.{module.name}')
  registry = study_lib.STUDIES
  return [registry.find(name) for name in registry.names()]


def find(names: Sequence[str]) -> list[recipes.Study]:
  """Studies by name, each once; a table's name stands for all its studies.

  Raises:
    ValueError: there is none of a name; the nearest is suggested.
  """
  known = all_studies()
  found: dict[str, recipes.Study] = {}
  for name in names:
    tasks = [study for study in known if study.table == name]
    chosen = tasks or [study_lib.STUDIES.find(name)]
    found |= {study.name: study for study in chosen}
  return list(found.values())


def grid(config: str, fields: Sequence[str]) -> recipes.Study:
  """A study of all combinations of some values of fields.

  Args:
    config: file and variant.
    fields: 'model.predictor.dropout=0.0,0.1' each; the first values are the
      reference.

  Raises:
    ValueError: not of that form, a field or value that the config does not
      take, or one value given twice.
  """
  base = variants.resolve(config, {})
  axes: list[list[tuple[str, Any]]] = []
  for given in fields:
    name, equals, values = given.partition('=')
    if not equals or not values:
      raise ValueError(f'grid must be field=value,value,..., got {given!r}.')
    if name == 'seed':
      raise ValueError('grid takes no seed; name seeds with --seeds.')
    axes.append([(name, variants.literal(text)) for text in _split(values)])
  rows: dict[str, recipes.Row] = {}
  for combination in itertools.product(*axes):
    label = ' '.join(f'{k.split(".")[-1]}={x}' for k, x in combination)
    if label in rows:
      raise ValueError(f'grid names {label} twice.')
    changes = dict(combination)
    variants.resolve(config, changes)
    rows[label] = recipes.Row(train=changes)
  acts = base.get('model', {}).get('name') not in ('ijepa', 'vjepa')
  return recipes.Study(
    name=f'grid/{config.replace("/", "-")}',
    question=f'What do {", ".join(fields)} change?',
    source='no paper: a grid of fields',
    reference=next(iter(rows)),
    rows=rows,
    sizes={
      'small': recipes.Size(config=config, minutes=0.002 * base['num_steps'])
    },
    measure='plan' if acts else 'probe',
  )


def _split(values: str) -> list[str]:
  """At commas outside of brackets: '(1,2),(3,4)' are two."""
  found, depth = [''], 0
  for letter in values:
    depth += (letter in '([') - (letter in ')]')
    if letter == ',' and not depth:
      found.append('')
    else:
      found[-1] += letter
  return found
