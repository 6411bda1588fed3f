"""Files that are damaged, or made to harm: one sentence each, and none runs."""

import pathlib
import random
import shutil
import zlib

import pytest

from tests.stress import damage, readings

MOST_SECONDS, MOST_BYTES = 20.0, 2 * 2**30


def cases(things, name, changes=6, most=60):
  """File and damage, at most so many of a thing, the same every time."""
  found = [
    (inside, title)
    for inside in readings.places(things, name)
    for title in damage.of(inside.name or name, changes)
  ]
  random.Random(name).shuffle(found)
  return found[:most]


def fault(where, ended, folder):
  """What is wrong with how a reading ended; '' where nothing is."""
  if list(folder.rglob(damage.PWNED)):
    return f'{where} ran code'
  if ended.seconds > MOST_SECONDS or ended.peak > MOST_BYTES:
    return f'{where} took {ended.seconds:.1f} s, {ended.peak / 2**30:.1f} GB'
  if ended.has_traceback or ended.code not in (0, 1):
    return f'{where} ended with {ended.code}: {ended.err[-600:]}'
  is_one = len(ended.err.strip().splitlines()) <= 1 and len(ended.err) < 2000
  if ended.code == 1 and not (is_one and ended.err.strip()):
    return f'{where} says {ended.err[:300]!r} ... {ended.err[-300:]!r}'
  return ''


def try_one(forks, things, folder, name, inside, title):
  """The fault of one damage."""
  folder.mkdir()
  thing = readings.copy(things, name, folder)
  file = thing / inside if inside.parts else thing
  where = f'{name}: {inside or ""} with {title}'
  made = damage.of(file.name, 99)[title]
  rng = random.Random(zlib.crc32(where.encode()))
  file.write_bytes(made(file.read_bytes(), rng))
  ended = forks.run(
    'tests.stress.readings:read', name, str(thing), cwd=folder, timeout=30
  )
  found = fault(where, ended, folder)
  shutil.rmtree(folder)
  return found


@pytest.mark.stress
@pytest.mark.parametrize('name', readings.READINGS)
def test_a_damaged_file_is_one_sentence(forks, things, tmp_path, name):
  tried = cases(things, name)
  found = [
    try_one(forks, things, tmp_path / str(number), name, *case)
    for number, case in enumerate(tried)
  ]
  print(f'{name}: {len(tried)} damaged files')
  assert not any(found), '\n'.join(filter(None, found))


@pytest.mark.stress
def test_what_is_whole_is_read(forks, things):
  for name in readings.READINGS:
    root = things / name.partition('+')[0]
    ended = forks.run('tests.stress.readings:read', name, root, cwd=things)
    assert ended.code == 0, (name, ended.err)


PLANTED = f"""
import pathlib
pathlib.Path({damage.PWNED!r}).touch()
"""


@pytest.mark.stress
@pytest.mark.parametrize('name', ['rlds', 'walks'])
def test_a_module_in_a_folder_is_not_imported(forks, things, tmp_path, name):
  """Nor is a class that `features.json` names, of that module or another."""
  for kind in ('planted.Feature', 'os.system', 'tensorflow_datasets.core.x'):
    folder = tmp_path / kind
    folder.mkdir()
    thing = readings.copy(things, name, folder)
    for file in (*thing.rglob('*.json'), *thing.rglob('features.json')):
      (file.parent / 'planted.py').write_text(PLANTED)
      text = file.read_text()
      if 'pythonClassName' in text:
        old = text.split('"pythonClassName": "')[1].split('"')[0]
        file.write_text(text.replace(old, kind))
    (thing / f'{name}.py').write_text(PLANTED)
    ended = forks.run('tests.stress.readings:read', name, thing, cwd=folder)
    assert not fault(kind, ended, folder)


def test_some_damaged_checkpoints(forks, things, tmp_path):
  tried = cases(things, 'model', most=8)
  found = [
    try_one(forks, things, tmp_path / str(number), 'model', *case)
    for number, case in enumerate(tried)
  ]
  assert not any(found), '\n'.join(filter(None, found))


def test_the_folder_of_the_tests_holds_nothing_of_them():
  assert not list(pathlib.Path.cwd().glob(damage.PWNED))
