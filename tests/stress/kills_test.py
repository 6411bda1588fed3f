"""Killed at any file operation and given again, a command ends the same."""

import shutil
import signal

import numpy as np
import pytest

from tests.stress import working


def try_one(forks, things, folder, name, point, wanted):
  """What is wrong after a kill at that point; '' where nothing is."""
  work = working.KILLED[name]
  work.prepare(things, folder)
  killed = forks.run(work.module, *work.argv, cwd=folder, kill_at=point)
  where = f'{name} killed at {point}, {killed.last.strip()[-90:]}'
  if killed.code not in (0, -signal.SIGKILL):
    return f'{where} ended with {killed.code}: {killed.err[-300:]}'
  again = forks.run(work.module, *work.argv, cwd=folder)
  if again.code:
    return f'{where}, then: {again.err.strip()[-300:]}'
  found = work.left(folder)
  shutil.rmtree(folder)
  more, less = found.keys() - wanted.keys(), wanted.keys() - found.keys()
  if more or less:
    return f'{where} leaves {sorted(more)[:4]}, lacks {sorted(less)[:4]}'
  other = [x for x in found if found[x] != wanted[x]]
  return f'{where}: others are {other[:4]}' if other else ''


def points(count, most):
  """So many of the operations, evenly spread."""
  if count <= most:
    return list(range(1, count + 1))
  return np.unique(np.linspace(1, count, most).round().astype(int)).tolist()


@pytest.mark.stress
@pytest.mark.timeout(1500)
@pytest.mark.parametrize('name', working.KILLED)
def test_every_kill_is_made_good(forks, things, tmp_path, wholes, name):
  wanted, count = wholes(name)
  tried = points(count, working.KILLED[name].most)
  found = [
    try_one(forks, things, tmp_path / str(x), name, x, wanted) for x in tried
  ]
  print(f'{name}: killed at {len(tried)} of {count} operations')
  assert not any(found), '\n'.join(filter(None, found))


@pytest.mark.stress
def test_there_are_five_hundred_of_them(wholes):
  tried = [min(wholes(x)[1], work.most) for x, work in working.KILLED.items()]
  assert sum(tried) >= 500


@pytest.mark.stress
def test_an_overwriting_command_never_leaves_nothing(forks, things, tmp_path):
  """The old or the new is there at every point."""
  work = working.KILLED['collect']
  argv = (*work.argv, '--overwrite')
  first = tmp_path / 'first'
  work.prepare(things, first)
  assert not forks.run(work.module, *argv, cwd=first).code
  whole = forks.run(work.module, *argv, cwd=first, count=True)
  for point in points(whole.count, 40):
    folder = tmp_path / 'again'
    shutil.copytree(first, folder, symlinks=True)
    forks.run(work.module, *argv, cwd=folder, kill_at=point)
    read = forks.run(
      'tests.stress.readings:read', 'walks', folder / 'out', cwd=folder
    )
    again = forks.run(work.module, *argv, cwd=folder)
    assert (read.code, again.code) == (0, 0), (point, read.err, again.err)
    shutil.rmtree(folder)


@pytest.mark.stress
def test_some_kills_of_a_collection(forks, things, tmp_path, wholes):
  wanted, count = wholes('collect')
  for point in points(count, 4):
    folder = tmp_path / str(point)
    assert not try_one(forks, things, folder, 'collect', point, wanted)
