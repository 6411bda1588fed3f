import csv
import dataclasses
import json
import os
import pathlib
import random
import subprocess
import sys

import pytest

from experiments import ablate as ablate_door
from experiments import launching
from experiments.configs import variants
from experiments.studies import named
from jepa_wm import recipes
from tests.experiments import tiny_study

ROOT = pathlib.Path(__file__).parents[2]

TINY = ROOT / 'tests' / 'experiments' / 'tiny_study.py'
COMMAND = 'python', '-m', 'experiments.ablate', f'--import={TINY}'


def ablate(*arguments, **given):
  """The command, with the tiny study among the others."""
  return subprocess.Popen(
    [sys.executable, *COMMAND[1:], *map(str, arguments)],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    cwd=ROOT,
    **given,
  )


def finish(process, timeout=300):
  out, err = process.communicate(timeout=timeout)
  return process.returncode, out, err


@pytest.fixture(scope='module')
def study():
  return tiny_study.TINY


def _ablation(study, out, /, **given):
  asked = recipes.Ablating(**{'study': (study.name,), 'out': str(out), **given})
  return recipes.Ablation(asked, [study], variants.resolve, 'again')


@pytest.fixture(scope='module')
def done(study, tmp_path_factory):
  """All units of the study, done in this process, and its page."""
  out = tmp_path_factory.mktemp('ablate')
  ablation = _ablation(study, out, seeds=('0', '1'))
  ablation.check()
  digests = tuple(unit.digest for unit in ablation.units)
  code = _ablation(study, out, seeds=('0', '1'), units=digests).work()
  return code, ablation, ablation.report(['a line'])


def _folder(ablation):
  return ablation.out / 'studies' / 'tiny' / 'dropout-small'


@pytest.mark.slow
def test_a_study_runs_to_its_page(done):
  code, ablation, reported = done
  assert (code, reported) == (0, 0)
  folder = _folder(ablation)
  with (folder / 'rows.csv').open() as file:
    rows = list(csv.DictReader(file))
  assert [(x['row'], x['seed'], x['status']) for x in rows] == [
    (name, seed, status)
    for name, status in (
      ('0', 'finished'),
      ('0.5', 'finished'),
      ('icem', 'finished'),
      ('wild', 'diverged'),
    )
    for seed in '01'
  ]
  # A planner's row has no training of its own.
  training = {x['row']: x['training'] for x in rows if x['seed'] == '0'}
  assert training['icem'] == training['0'] != training['0.5']
  assert len(list((ablation.out / 'runs').iterdir())) == 6
  assert len(list((ablation.out / 'data').iterdir())) == 1
  page = (folder / 'report.html').read_text()
  for told in ('Everything.', 'diverged at step', 'published', '90', 'cannot'):
    assert told in page
  told = json.loads((folder / 'study.json').read_text())
  lines = {line['row']: line for line in told['lines']}
  assert lines['0']['verdict'] == 'reference'
  assert lines['0.5']['published_difference'] == -40.0
  assert lines['wild']['rates'] == [0.0, 0.0]
  assert (folder / 'commands.txt').read_text() == 'a line\n'


@pytest.mark.slow
def test_nothing_is_done_twice(done, study, monkeypatch):
  _, ablation, _ = done
  monkeypatch.setattr(
    'jepa_wm.recipes.training.train', lambda *args: pytest.fail('trained')
  )
  digests = tuple(unit.digest for unit in ablation.units)
  again = _ablation(study, ablation.out, seeds=('0', '1'), units=digests)
  assert again.work() == 0


@pytest.mark.slow
def test_a_failed_unit_does_not_stop_the_others(done, study, tmp_path):
  _, ablation, _ = done
  other = _ablation(study, tmp_path, seeds=('0',), rows=('icem',))
  first, second = other.units
  # A file where the run of the reference should be.
  (tmp_path / 'data').symlink_to(ablation.out / 'data')
  first.workdir.parent.mkdir()
  first.workdir.write_text('')
  digests = first.digest, second.digest
  again = _ablation(
    study, tmp_path, seeds=('0',), rows=('icem',), units=digests
  )
  assert again.work() == 1
  assert other.report([]) == 1
  with (_folder(other) / 'rows.csv').open() as file:
    rows = list(csv.DictReader(file))
  assert [row['status'] for row in rows] == ['failed', 'failed']
  assert all(str(first.workdir) in row['sentence'] for row in rows)


def _rows(out):
  """Rows of the table, without digests: an imported file counts in these."""
  with (out / 'studies/tiny/dropout-small/rows.csv').open() as file:
    rows = list(csv.DictReader(file))
  for row in rows:
    del row['unit'], row['training']
  return rows


@pytest.mark.slow
def test_killed_anywhere_it_ends_with_the_same_rows(done, tmp_path):
  """Killed at random moments: nothing is lost, nothing is trained twice."""
  _, ablation, _ = done
  rng = random.Random(0)
  command = [
    '--study=tiny/dropout',
    '--seeds=0',
    '--rows=0.5,icem',
    f'--out={tmp_path}',
    '--jobs=1',
  ]
  for _ in range(int(os.environ.get('JEPA_WM_KILLS', '2'))):
    process = ablate(*command, start_new_session=True)
    with pytest.raises(subprocess.TimeoutExpired):
      process.wait(rng.uniform(4.0, 12.0))
    os.killpg(process.pid, 9)
    process.communicate()
  code, _, err = finish(ablate(*command))
  assert code == 0, err
  known = {(x['row'], x['seed']): x for x in _rows(ablation.out)}
  found = _rows(tmp_path)
  assert len(found) == 3
  for row in found:
    assert row == known[row['row'], row['seed']]
  # One log of each training, whatever was killed when.
  wanted = _logged(ablation.units[0].workdir)
  for run in (tmp_path / 'runs').iterdir():
    assert _logged(run) == wanted


def _logged(run):
  lines = (run / 'metrics.jsonl').read_text().splitlines()
  return [json.loads(line)['step'] for line in lines]


def test_each_of_several_processes_begins_at_another_row(
  study, tmp_path, monkeypatch
):
  ablation = _ablation(study, tmp_path, seeds=('0', '1'), jobs=1)
  trainings = [group[0].training for group in ablation.groups()]
  started, done = [], set()

  def start(line, place, log):
    started.append(line)
    # Another process is done with the first row by now.
    done.update({line, trainings[0]})
    return subprocess.Popen([sys.executable, '-I', '-S', '-c', ''])

  monkeypatch.setattr(launching, '_start', start)
  monkeypatch.setattr(recipes, 'is_done', lambda unit: unit.training in done)
  monkeypatch.setattr(launching.launchers, 'place', lambda: (1, 2))
  launching.local(ablation, {name: name for name in trainings})
  half = len(trainings) // 2
  assert started == trainings[half:] + trainings[1:half]
  with pytest.raises(ValueError, match='starts its own jobs; start one'):
    launching.submitit(ablation, {}, ())


def test_a_job_is_one_line_that_needs_nothing_else(study, tmp_path):
  ablation = _ablation(study, tmp_path, seeds=('0',))
  again = 'python -m experiments.ablate --study=tiny/dropout --seeds=0 --jobs=2'
  lines = launching.commands(ablation, again)
  # Units of one training are one job.
  assert len(lines) == 3 and len(ablation.units) == 4
  for line in lines.values():
    assert line.startswith(
      'python -m experiments.ablate --study=tiny/dropout --seeds=0 '
      f'--out={tmp_path} --units='
    )


def test_seeds_of_one_program_are_one_job(study, tmp_path):
  ablation = _ablation(study, tmp_path, seeds=('0', '1'), vmap_seeds=True)
  again = 'python -m experiments.ablate --study=tiny/dropout --vmap_seeds'
  lines = launching.commands(ablation, again)
  assert len(lines) == 3
  assert all('--vmap_seeds' in line for line in lines.values())
  groups = [[unit.seed for unit in group] for group in ablation.groups()]
  assert sorted(groups) == [[0, 1], [0, 1], [0, 1, 0, 1]]
  assert '6 trainings, 8 units' in ablation.told()
  assert ablation.told().endswith('; 3 programs')
  # Nothing that decides a result is another.
  alone = _ablation(study, tmp_path, seeds=('0', '1'))
  assert alone.units == ablation.units


@pytest.mark.slow
def test_seeds_of_one_program_fill_the_table_of_separate_runs(
  done, study, tmp_path, capsys
):
  _, ablation, _ = done
  (tmp_path / 'data').symlink_to(ablation.out / 'data')
  asked = {'seeds': ('0', '1'), 'rows': ('wild',), 'vmap_seeds': True}
  joint = _ablation(study, tmp_path, **asked)
  digests = tuple(unit.digest for unit in joint.units)
  assert _ablation(study, tmp_path, **asked, units=digests).work() == 0
  assert capsys.readouterr().out.count('in one program') == 2
  assert joint.report([]) == 0
  known = {(x['row'], x['seed']): x for x in _rows(ablation.out)}
  rows = _rows(tmp_path)
  assert len(rows) == 4
  for row in rows:
    wanted = known[row['row'], row['seed']]
    assert row['status'] == wanted['status']
    assert (
      row['sentence'].split(str(tmp_path))[0]
      == (wanted['sentence'].split(str(ablation.out))[0])
    )
    name = 'collapse/latent_std_mean'
    if wanted[name]:
      assert float(row[name]) == pytest.approx(
        float(wanted[name]), rel=1e-3, nan_ok=True
      )
  kept = lambda out, run: {x.name for x in (out / 'runs' / run).iterdir()}
  for run in {unit.training for unit in joint.units}:
    assert kept(tmp_path, run) == kept(ablation.out, run)


def test_what_would_be_done_is_told(study, tmp_path):
  told = _ablation(study, tmp_path, seeds=('0', '1')).told()
  assert '0.5: model.predictor.dropout=0.5 (was 0.0)' in told
  assert 'icem: planner=icem' in told
  assert '6 trainings, 8 units' in told
  assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
  'given, sentence',
  [
    ({'rows': ('0.6',)}, "got '0.6'. Did you mean '0.5'"),
    ({'rows': ('later',)}, 'cannot be run: it is not built'),
    ({'size': 'ful'}, "got 'ful'. Did you mean 'full'"),
    ({'size': 'full'}, 'needs episodes at 224 pixels; give.*--data'),
    ({'data': 'nowhere'}, 'No episodes at nowhere'),
    ({'seeds': ('0', '0')}, 'different whole numbers.*got 0,0'),
    ({'seeds': ('a',)}, 'different whole numbers.*got a'),
    ({'seeds': ('9' * 20,)}, 'below 2.*got 99'),
    ({'study': ('a', 'a')}, 'study names one twice: a,a'),
    ({'out': ''}, "out must be a folder, got ''"),
    ({'data': ''}, "data must be a folder, got ''"),
    ({'seeds': ()}, 'name one at least'),
    ({'jobs': 0}, 'jobs must be at least 1'),
    ({'vmap_seeds': True, 'seeds': ('3',)}, 'in one program, got 3 alone'),
    ({'num_pairs': 0}, 'num_pairs must be at least 1'),
  ],
)
def test_what_cannot_be_run_is_refused_in_a_sentence(
  study, tmp_path, given, sentence
):
  with pytest.raises((ValueError, OSError), match=sentence):
    _ablation(study, tmp_path, **given)
  assert list(tmp_path.iterdir()) == []


def test_episodes_of_another_world_are_refused(study, tmp_path):
  recipe = recipes.Collecting(num_episodes=12, episode_length=30, image_size=8)
  recipes.collect(recipe, tmp_path / 'rooms', progress=False)
  size = dataclasses.replace(
    study.sizes['small'], data={'environment': 'push_t'}
  )
  other = dataclasses.replace(study, sizes={**study.sizes, 'small': size})
  with pytest.raises(
    ValueError, match=r"'push_t', and .*rooms has .*'two_room'"
  ):
    _ablation(other, tmp_path / 'out', data=str(tmp_path / 'rooms'))
  # Of its own world they are taken.
  _ablation(study, tmp_path / 'out', data=str(tmp_path / 'rooms'))


def test_units_of_other_code_are_refused(study, tmp_path):
  with pytest.raises(ValueError, match=r"no unit 'abc'.*--emit=commands"):
    _ablation(study, tmp_path, units=('abc',)).work()


@pytest.mark.parametrize(
  'told',
  [
    '',
    '{"status": "fin',
    '[]',
    '{"status": "finished", "old": 1}',
    '{"status": "finished", "outcomes": [1], "metrics": null}',
  ],
)
def test_a_result_that_cannot_be_read_is_none(study, tmp_path, told):
  unit = _ablation(study, tmp_path, seeds=('0',), rows=('ref',)).units[0]
  unit.folder.mkdir(parents=True)
  (unit.folder / 'unit.json').write_text(told)
  assert not recipes.is_done(unit)


@pytest.mark.parametrize('other', ['--dry_run', '--emit=commands', '--list'])
def test_a_job_is_not_also_something_else(other):
  ablate_door.FLAGS(['', '--units=abc', other])
  try:
    with pytest.raises(ValueError, match='exclude each other'):
      ablate_door.run()
  finally:
    ablate_door.FLAGS.unparse_flags()
    for name in ('units', 'dry_run', 'emit', 'list'):
      ablate_door.FLAGS[name].unparse()


def test_a_misspelt_field_of_the_episodes_is_met_by_the_nearest(tmp_path):
  small = dataclasses.replace(
    tiny_study.TINY.sizes['small'], data={'num_episode': 3}
  )
  other = dataclasses.replace(
    tiny_study.TINY, sizes={'small': small}, differs={}
  )
  with pytest.raises(ValueError, match=r"tiny/dropout: data.*'num_episodes'"):
    _ablation(other, tmp_path)


def test_rows_of_other_episodes_are_other_trainings(tmp_path):
  grid = named.grid('lewm.py:two_room_tiny', ['data.path=a,b'])
  for name in 'ab':
    path = tmp_path / name
    path.mkdir()
    (path / 'dataset_info.json').write_text(f'"{name}"')
  rows = {
    name: recipes.Row(train={'data.path': str(tmp_path / name)})
    for name in 'ab'
  }
  grid = dataclasses.replace(grid, rows=rows, reference='a')
  first, second = _ablation(grid, tmp_path / 'out', seeds=('0',)).units
  assert first.training != second.training
  with pytest.raises(ValueError, match='leave out --data'):
    _ablation(grid, tmp_path, data=str(tmp_path / 'a'))
  (tmp_path / 'b' / 'dataset_info.json').unlink()
  with pytest.raises(OSError, match=r'No episodes at .*b'):
    _ablation(grid, tmp_path)


def test_a_misspelt_study_is_met_by_the_nearest():
  with pytest.raises(ValueError, match="Did you mean 'lewm/dropout'"):
    named.find(['lewm/droput'])


def test_a_grid_is_a_study_of_all_combinations():
  study = named.grid(
    'lewm.py:two_room_tiny',
    ['model.predictor.dropout=0.0,0.5', 'num_steps=20,30'],
  )
  assert study.reference == 'dropout=0.0 num_steps=20'
  assert list(study.rows) == [
    'dropout=0.0 num_steps=20',
    'dropout=0.0 num_steps=30',
    'dropout=0.5 num_steps=20',
    'dropout=0.5 num_steps=30',
  ]
  tuples = named.grid(
    'vjepa.py:digits_tiny', ['model.masks.percent=(25,),(50,)']
  )
  assert [row.train for row in tuples.rows.values()] == [
    {'model.masks.percent': (25,)},
    {'model.masks.percent': (50,)},
  ]
  assert tuples.measure == 'probe'


@pytest.mark.parametrize(
  'field, sentence',
  [
    ('model.predictor.dropuot=0.1', "Did you mean 'dropout'"),
    ('model.predictor.dropout', 'must be field=value,value'),
    ('model.predictor.dropout=0.1,0.1', 'twice'),
    ('model.predictor.dropout=much', 'must be float'),
    ('seed=3,4', 'name seeds with --seeds'),
  ],
)
def test_a_grid_that_is_none_is_refused(field, sentence):
  with pytest.raises(ValueError, match=sentence):
    named.grid('lewm.py:two_room_tiny', [field])


@pytest.mark.slow
def test_submitit_runs_the_same_rows(done, study, tmp_path):
  pytest.importorskip('submitit')
  _, ablation, _ = done
  (tmp_path / 'data').symlink_to(ablation.out / 'data')
  code, out, err = finish(
    ablate(
      '--study=tiny/dropout',
      '--seeds=0',
      '--rows=0.5',
      f'--out={tmp_path}',
      '--launcher=submitit',
      '--slurm=cluster=local',
      '--slurm=timeout_min=5',
    )
  )
  assert code == 0, out + err
  known = _rows(ablation.out)
  assert len(_rows(tmp_path)) == 2
  assert all(row in known for row in _rows(tmp_path))
