"""Two commands at once on one folder: both right, or one refused by name."""

import itertools
import json
import os
import re
import shutil
import socket
import time

import pytest

from jepa_wm import lock
from tests.stress import working

NAMES = list(working.WORKS)
PAIRS = list(itertools.combinations_with_replacement(NAMES, 2))

MAKERS = 'collect', 'convert', 'export'
"""Who makes a folder beside its place; all others work in it."""

HOST = re.escape(socket.gethostname())

# How the second is told: by the holder, or by what is there.
REFUSALS = re.compile(
  rf'Process \d+ on {HOST} works in \S+ already|'
  r'is there already|holds results of|holds .*, which is not of what is written'
)


def prepare(things, folder, *names):
  """A folder with what all of them need in it."""
  first, *others = (working.WORKS[name] for name in names)
  first.prepare(things, folder)
  for need in {need for work in others for need in work.needs}:
    if (folder / need).exists():
      continue
    copy = shutil.copytree if (things / need).is_dir() else shutil.copy
    copy(things / need, folder / need)


def check_left(folder, before, wholes, names):
  """Compares what is there with what each of these leaves alone."""
  found = working.WORKS[names[0]].left(folder)
  wanted = {name: wholes(name)[0] for name in names}
  known = set(before).union(*wanted.values())
  missing = set().union(*wanted.values()) - found.keys()
  assert (found.keys() - known, missing) == (set(), set())
  for name, digest in found.items():
    those = [x[name] for x in (before, *wanted.values()) if name in x]
    assert digest in those, name


@pytest.mark.stress
@pytest.mark.parametrize(('one', 'other'), PAIRS)
def test_both_are_right_or_one_is_refused(
  forks, things, tmp_path, wholes, one, other
):
  folder = tmp_path / 'shared'
  prepare(things, folder, one, other)
  before = working.WORKS[one].left(folder)
  works = [working.WORKS[one], working.WORKS[other]]
  numbers = [forks.start(x.module, *x.argv, cwd=folder) for x in works]
  ended = [forks.finish(number) for number in numbers]
  for found in ended:
    assert not found.has_traceback, found.err[-1500:]
    assert found.code in (0, 1)
    if found.code:
      assert REFUSALS.search(found.sentence), found.err[-500:] + found.out
  done = [x for x, found in zip((one, other), ended) if not found.code]
  assert done, [x.err[-300:] for x in ended]
  check_left(folder, before, wholes, done)


# A study works in folders of its parts alone, and leaves alone what is held.
@pytest.mark.stress
@pytest.mark.parametrize('name', [x for x in NAMES if x != 'ablate'])
def test_the_living_are_named_and_the_dead_taken_over(
  forks, things, tmp_path, wholes, name
):
  work = working.WORKS[name]
  work.prepare(things, tmp_path / 'there')
  before = work.left(tmp_path / 'there')
  beside = tmp_path / 'there' / f'.{work.out}.lock'
  inside = tmp_path / 'there' / work.out / lock.FILE
  for path in (beside, inside):
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({'host': 'elsewhere', 'pid': 7}))
    ended = forks.run(work.module, *work.argv, cwd=tmp_path / 'there')
    told = 'Process 7 on elsewhere works in', 'is there already', 'holds run'
    assert ended.code == 1
    assert any(x in ended.sentence for x in told[: 1 + 2 * (path == inside)])
    path.unlink()
    if path == inside:
      path.parent.rmdir()
    assert work.left(tmp_path / 'there') == before
  own = beside if name in MAKERS else inside
  own.parent.mkdir(exist_ok=True)
  own.write_text(json.dumps({'host': 'elsewhere', 'pid': 7}))
  os.utime(own, (time.time() - 3600,) * 2)
  ended = forks.run(work.module, *work.argv, cwd=tmp_path / 'there')
  assert ended.code == 0, ended.err[-500:]
  check_left(tmp_path / 'there', before, wholes, [name])


@pytest.mark.stress
@pytest.mark.parametrize('other', ['train', 'train_head'])
def test_a_cache_is_made_once(forks, things, tmp_path, wholes, other):
  """By two that need it, each of which writes a folder of its own."""
  prepare(things, tmp_path / 'there', 'train', other)
  shutil.rmtree(tmp_path / 'there' / 'walks' / 'cache')
  works = [working.WORKS[x] for x in ('train', other)]
  argv = [
    [x.replace('=out', f'=out{i}') for x in work.argv]
    for i, work in enumerate(works)
  ]
  numbers = [
    forks.start(work.module, *given, cwd=tmp_path / 'there')
    for work, given in zip(works, argv)
  ]
  for number in numbers:
    ended = forks.finish(number)
    assert ended.code == 0, ended.err[-500:]
    assert not ended.has_traceback
  left = working.WORKS['train'].left(tmp_path / 'there')
  assert not [x for x in left if '/.' in x or x.startswith('.')]
  whole, _ = wholes('train')
  for name, digest in left.items():
    if name.startswith('walks/cache/'):
      assert digest == whole[name]
  export = 'export/model.safetensors'
  assert left[f'out0/{export}'] == whole[f'out/{export}']
