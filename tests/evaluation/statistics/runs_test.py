import csv
import io
import shutil

import pytest

from jepa_wm.evaluation.planning import planning_benchmark
from jepa_wm.evaluation.statistics import runs


def test_a_run_is_read_back_as_it_was(drawn_run, tmp_path):
  runs.save(drawn_run, tmp_path / 'deep' / 'run')
  assert runs.load(tmp_path / 'deep' / 'run') == drawn_run
  runs.save(drawn_run, tmp_path / 'deep' / 'run')  # Again, over the first.
  assert [path.name for path in (tmp_path / 'deep').iterdir()] == ['run']


def test_what_is_drawn_of_a_run(drawn_run):
  assert set(drawn_run.pictures) == {
    'search.png',
    'search_dark.png',
    'map.svg',
    'curve.svg',
    'episodes.gif',
    'reached.gif',
  }
  assert all(drawn_run.episodes) and all(e.success for e in drawn_run.episodes)


def test_every_kind_of_episode_survives_csv(tmp_path):
  kinds = [
    planning_benchmark.Episode(3, True, False, 12, 50.123456789, 17.0),
    planning_benchmark.Episode(
      5, False, False, None, 1e-7, 90.0, False, 'a "b", c'
    ),
    planning_benchmark.Episode(2**31, True, True, 0, 3.0, 0.0, True),
  ]
  record = {
    'checkpoint': 'runs/a,b',
    'planner': {'name': 'cem'},
    'protocol': {'name': 'short'},
    'shift': None,
    'seed': 4,
    'num_pairs': len(kinds),
  }
  run = runs.Run(record, kinds, {})
  text = runs.episodes_csv([run] * 2)
  rows = list(csv.DictReader(io.StringIO(text)))
  assert len(rows) == 6
  assert rows[0]['checkpoint'] == 'runs/a,b' and rows[0]['seed'] == '4'
  runs.save(run, tmp_path / 'run')
  assert runs.load(tmp_path / 'run').episodes == kinds


@pytest.mark.parametrize(
  'name', ['record.json', 'episodes.csv', 'findings.json']
)
def test_a_cut_off_run_is_not_one(drawn_run, tmp_path, name):
  runs.save(drawn_run, tmp_path / 'run')
  path = tmp_path / 'run' / name
  path.write_text(path.read_text()[: -len(path.read_text()) // 3])
  with pytest.raises(ValueError, match=r'not a finished run .* remove it'):
    runs.load(tmp_path / 'run')
  path.unlink()
  if name != 'findings.json':
    with pytest.raises(FileNotFoundError):
      runs.load(tmp_path / 'run')


def test_a_save_that_is_cut_short_leaves_nothing(
  drawn_run, tmp_path, monkeypatch
):
  def full(*arguments):
    raise OSError('No space left on device')

  monkeypatch.setattr(runs, 'episodes_csv', full)
  with pytest.raises(OSError, match='No space'):
    runs.save(drawn_run, tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


def test_identity_follows_the_content():
  assert runs.identify({'a': 1, 'b': 2}) == runs.identify({'b': 2, 'a': 1})
  assert runs.identify({'a': 1}) != runs.identify({'a': 2})


def test_what_was_changed_afterwards_is_found_out(drawn_run, tmp_path):
  for change in (
    lambda run: edit(run / 'record.json', 'seed', 'seeds'),
    lambda run: edit(run / 'episodes.csv', ',1,', ',0,'),
    lambda run: (run / 'search.png').write_bytes(b'another'),
    lambda run: (run / 'reached.gif').unlink(),
    lambda run: (run / 'missed.gif').write_bytes(b'more'),
  ):
    runs.save(drawn_run, tmp_path / 'run')
    change(tmp_path / 'run')
    with pytest.raises(ValueError, match=r'changed after|not a finished'):
      runs.load(tmp_path / 'run')
  runs.save(drawn_run, tmp_path / 'run')
  (tmp_path / 'run' / '.DS_Store').touch()
  assert runs.load(tmp_path / 'run') == drawn_run


def test_a_run_in_the_folder_of_another_is_not_that_one(drawn_run, tmp_path):
  first, second = (
    tmp_path / 'runs' / f'a-seed{seed}-{runs.identify({"seed": seed})}'
    for seed in (0, 1)
  )
  runs.save(drawn_run, first)
  shutil.copytree(first, second)
  with pytest.raises(ValueError, match=r'another one .* remove it to measure'):
    runs.load(second)
  shutil.rmtree(second)
  runs.save(drawn_run, tmp_path / 'run')
  shutil.copytree(tmp_path / 'run', second)
  with pytest.raises(ValueError, match=r'another one .* remove it to measure'):
    runs.load(second)
  runs.save(drawn_run, second)
  (tmp_path / 'runs').rename(tmp_path / 'moved')
  assert runs.load(tmp_path / 'moved' / second.name) == drawn_run
  # A name that says nothing promises nothing.
  shutil.copytree(tmp_path / 'moved' / first.name, tmp_path / 'any')
  assert runs.load(tmp_path / 'any') == drawn_run


def edit(path, old, new):
  text = path.read_text()
  assert old in text
  path.write_text(text.replace(old, new, 1))
