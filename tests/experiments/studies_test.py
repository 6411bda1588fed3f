"""Every row of every study: resolved, and its program checked."""

import dataclasses

import pytest

from experiments.configs import variants
from experiments.studies import named
from jepa_wm import recipes
from jepa_wm.recipes import study_units

STUDIES = [s for s in named.all_studies() if not s.name.startswith('tiny/')]


@pytest.mark.parametrize('study', STUDIES, ids=lambda study: study.name)
def test_every_row_does_something_and_names_what_it_changes(study):
  assert study_units.check(study, 'small', variants.resolve) == []


@pytest.mark.parametrize('study', STUDIES, ids=lambda study: study.name)
def test_every_row_can_be_read_at_every_size(study):
  for name, size in study.sizes.items():
    for row in study.runnable:
      changes = {**size.train, **study.rows[row].changes(name)}
      variants.resolve(size.config, changes)


@pytest.mark.parametrize('study', STUDIES, ids=lambda study: study.name)
def test_every_study_is_cut_into_units(study, tmp_path):
  sizes = [k for k, x in study.sizes.items() if study.runnable and not x.needs]
  for size in sizes:
    found = study_units.units(
      study,
      size=size,
      rows=study.runnable,
      seeds=[0],
      out=tmp_path,
      data=None,
      resolve_fn=variants.resolve,
    )
    assert [unit.row for unit in found] == list(study.runnable)


@pytest.mark.parametrize('study', STUDIES, ids=lambda study: study.name)
def test_what_differs_from_the_paper_is_said_at_every_size(study):
  assert set(study.differs) == set(study.sizes)


def test_a_predictor_takes_the_encoder_of_another_row(tmp_path):
  study = next(x for x in STUDIES if x.name == 'memory/t_maze')
  (unit,) = study_units.units(
    study,
    size='small',
    rows=['window 3'],
    seeds=[0],
    out=tmp_path,
    data=None,
    resolve_fn=variants.resolve,
  )
  assert unit.config['frozen_encoder'] == str(unit.start.workdir)
  assert unit.config['initialise_from'] == ''
  # Episodes of its own.
  assert unit.start.collect['environment'] == 't_maze_8'
  assert unit.start.data_path != unit.data_path
  odd = dataclasses.replace(
    study.rows['hybrid'], train={'model.latent_dim': 8, 'num_steps': 9}
  )
  wrong = dataclasses.replace(study, rows={**study.rows, 'window 3': odd})
  (fault,) = study_units.check(wrong, 'small', variants.resolve, ['window 3'])
  assert "row 'encoder': its encoder has latent_dim=16" in fault


def test_the_list_names_every_study_and_row():
  told = recipes.list_studies(STUDIES)
  for study in STUDIES:
    assert study.name in told
    assert all(f'    {row}' in told for row in study.rows)
