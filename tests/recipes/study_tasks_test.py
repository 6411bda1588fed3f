import dataclasses

import numpy as np
import pytest

from experiments.configs import variants
from experiments.studies import named
from jepa_wm import recipes
from jepa_wm.evaluation.statistics import ablations
from jepa_wm.recipes import study_tasks, study_units, study_work
from jepa_wm.recipes.study import Row, Size, Study

NUM_PAIRS = 10


def _study(task, **given):
  settings = {
    'name': f'tiny/table_{task}',
    'question': 'Who is best?',
    'source': 'nowhere',
    'reference': 'a',
    'rows': {
      'a': Row(),
      'b': Row(train={'num_steps': 3}),
      'c': Row(train={'num_steps': 2}),
    },
    'sizes': {
      'small': Size(
        config='lewm.py:two_room_tiny', data={'num_episodes': 4}, minutes=0.1
      )
    },
    'differs': {'small': f'All of {task}.'},
    'table': 'tiny/table',
    'task': task,
  }
  return Study(**{**settings, **given})


def _results(study, tmp_path, rates):
  """Results whose rates, in tenths, are given by row; None failed."""
  units = study_units.units(
    study,
    size='small',
    rows=[name for name in rates if rates[name]],
    seeds=range(max(map(len, rates.values()))),
    out=tmp_path,
    data=None,
    resolve_fn=variants.resolve,
  )
  found = []
  for unit in units:
    given = rates[unit.row]
    if unit.seed < len(given):
      right = (1,) * given[unit.seed] + (0,) * (NUM_PAIRS - given[unit.seed])
      found.append((unit, study_work.Result('finished', '', right)))
  return found


@pytest.fixture(scope='module')
def measured(tmp_path_factory):
  tmp_path = tmp_path_factory.mktemp('tasks')
  tasks = {
    'door': {'a': (5, 6), 'b': (7, 8), 'c': (1, 1)},
    'wall': {'a': (2, 3), 'b': (2, 9), 'c': ()},
  }
  return [
    (study, _results(study, tmp_path, rates))
    for study, rates in ((_study(task), x) for task, x in tasks.items())
  ]


def test_a_row_is_judged_over_all_tasks(measured):
  lines = {line.row: line for line in study_tasks.lines(measured)}
  assert [*lines] == ['a', 'b', 'c']
  scores = {
    'a': np.asarray([[50.0, 20.0], [60.0, 30.0]]),
    'b': np.asarray([[70.0, 20.0], [80.0, 90.0]]),
  }
  for name, wanted in scores.items():
    assert lines[name].middle == ablations.interquartile_mean(wanted)
  # The middle half of 20, 30, 50, 60.
  assert lines['a'].middle.value == 40.0
  # All four on the door; on the wall a tie, a loss and two wins.
  assert lines['b'].improvement.value == pytest.approx((4 + 2.5) / 8)
  assert lines['a'].is_reference and lines['a'].improvement is None
  # Of a task nothing is there: no number over all of them.
  assert lines['c'].middle is None and lines['c'].improvement is None


def test_the_page_and_its_table_say_so(measured):
  page = study_tasks.page(
    measured, size='small', command='again', failures=['x: <no>'], about={}
  )
  for told in ('tiny/table', 'All of wall.', 'x: &lt;no&gt;', '40.0', '0.81'):
    assert told in page
  rows = study_tasks.to_csv(measured).splitlines()
  assert rows[0].startswith('row,door,wall,interquartile mean,')
  assert rows[1].startswith('a,55.0,25.0,40.0,') and 'reference' in rows[1]
  assert rows[3] == 'c,10.0,,,,,'
  assert 'beats the reference' in study_tasks.table(measured)


def test_studies_of_one_table_are_run_and_told_together(measured, tmp_path):
  studies = [study for study, _ in measured]
  alone = dataclasses.replace(studies[0], table='', task='')
  assert study_tasks.tables([alone, studies[1]]) == {}
  assert study_tasks.tables(studies) == {'tiny/table': studies}
  asked = recipes.Ablating(
    study=('tiny/table',), seeds=('0',), out=str(tmp_path)
  )
  ablation = recipes.Ablation(asked, studies, variants.resolve, 'again')
  for unit in ablation.units:
    result = study_work.Result('finished', '', (1, 0))
    study_work._save(unit, result)
  assert ablation.report([]) == 0
  folder = tmp_path / 'studies' / 'tiny'
  written = {p.name for p in folder.iterdir()}
  assert written == {
    'table-small',
    'table_door-small',
    'table_wall-small',
  }
  assert (folder / 'table-small' / 'report.html').is_file()


def test_a_table_is_called_by_its_name():
  found = named.find(['lewm/main_table', 'lewm/main_table_cube', 'lewm/dim'])
  assert [study.name for study in found] == [
    'lewm/main_table_cube',
    'lewm/main_table_push_t',
    'lewm/main_table_reacher',
    'lewm/main_table_two_room',
    'lewm/dim',
  ]
  assert len({study.task for study in found[:4]}) == 4
  with pytest.raises(ValueError, match='table and task go together'):
    dataclasses.replace(found[0], task='')
