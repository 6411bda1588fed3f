import functools
import pathlib
import re

import jax
import jax.numpy as jnp
import pytest

from experiments.configs import variants
from jepa_wm.recipes import study_checks, study_units
from jepa_wm.recipes.study import Row, Size, Study

CONFIG = 'lewm.py:two_room_tiny'


@pytest.fixture(scope='module')
def effect():
  known = {}

  def effect(**changes):
    dotted = {name.replace('__', '.'): x for name, x in changes.items()}
    key = str(dotted)
    if key not in known:
      known[key] = study_checks.effect(variants.resolve(CONFIG, dotted))
    return known[key]

  return effect


@pytest.mark.parametrize(
  'changes',
  [
    {'model__predictor__dropout': 0.5},
    {'model__terms__sigreg__weight': 0.5},
    {'model__terms__sigreg__num_knots': 9},
    {'model__terms__vcreg__variance': 18.0},
    {'model__encoder__name': 'resnet18'},
    {'optimizer__weight_decay': 0.5},
    {'data__batch_size': 8},
    {'num_steps': 7},
    {'seed': 1},
  ],
  ids=str,
)
def test_what_trains_otherwise_has_another_effect(effect, changes):
  assert effect(**changes) != effect()


@pytest.mark.parametrize(
  'changes', [{'log_every': 3}, {'model__predictor__dropout': 0.0}], ids=str
)
def test_what_trains_the_same_has_the_same_effect(effect, changes):
  assert effect(**changes) == effect()


def test_numbers_inside_a_program_count():
  # A range of knots changes constants, and no line of the program.
  programs = [
    jax.make_jaxpr(jax.jit(functools.partial(jnp.add, jnp.arange(3.0) + x)))(
      1.0
    )
    for x in (0, 1)
  ]
  one, other = map(study_checks.program_text, programs)
  assert one != other


def _study(rows, **size):
  return Study(
    name='a/b',
    question='?',
    source='x',
    reference='ref',
    rows={'ref': Row(), **rows},
    sizes={'small': Size(config=CONFIG, minutes=1, **size)},
  )


@pytest.mark.parametrize(
  'row, sentence',
  [
    (
      Row(train={'model.predictor.dropout': 0.0}),
      'does just what the reference .* model.predictor.dropout=0.0 changes '
      'nothing',
    ),
    (Row(), 'the row changes nothing'),
    (
      Row(train={'model.predictor.dropuot': 0.1}),
      "has no field 'dropuot'. Did you mean 'dropout'",
    ),
    (Row(train={'model.predictor.dropout': 'much'}), "be float, got 'much'"),
    (Row(plan={'planner': 'ceem'}), 'planner must be one of.*ceem'),
    (Row(plan={'plan': 'cem'}), "no field 'plan'"),
    (Row(plan={'options': {'num_elites': 1}}), 'num_elites must be at least'),
  ],
)
def test_a_row_that_does_nothing_or_cannot_be_is_named(row, sentence):
  (fault,) = study_units.check(_study({'odd': row}), 'small', variants.resolve)
  assert fault.startswith("a/b: row 'odd'")
  assert re.search(sentence, fault), fault


def test_a_row_may_be_of_another_config_and_one_measured_on_it():
  study = _study(
    {
      'pldm': Row(config={'small': 'pldm.py:two_room_tiny'}),
      'pldm, icem': Row(of='pldm', plan={'planner': 'icem'}),
    },
    data={'num_episodes': 8},
  )
  assert study_units.check(study, 'small', variants.resolve) == []
  units = study_units.units(
    study,
    size='small',
    rows=study.runnable,
    seeds=[0],
    out=pathlib.Path('out'),
    data=None,
    resolve_fn=variants.resolve,
  )
  names = [unit.config['model']['name'] for unit in units]
  assert names == ['lewm', 'pldm', 'pldm']
  assert units[1].training == units[2].training != units[0].training


def test_a_row_that_changes_what_it_does_not_name_is_named():
  def resolve(spec, changes):
    config = variants.resolve(spec, changes)
    if changes:
      config['data']['batch_size'] = 8
    return config

  (fault,) = study_units.check(
    _study({'odd': Row(train={'num_steps': 9})}), 'small', resolve
  )
  assert 'also changes data.batch_size, which it does not name' in fault


def test_a_kind_names_all_its_fields():
  before = variants.resolve(CONFIG, {})
  name = {'model.encoder.name': 'resnet18'}
  after = variants.resolve(CONFIG, name)
  differing = study_checks.changed(before, after)
  assert len(differing) > 3
  assert study_checks.unnamed(differing, name) == []


def test_a_field_without_effect_is_found():
  resolve = lambda changes: variants.resolve(CONFIG, changes)
  named = {'model.predictor.dropout': 0.0, 'num_steps': 9}
  assert study_checks.inert(resolve(named), named, resolve) == [
    'model.predictor.dropout'
  ]
