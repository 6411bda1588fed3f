import pytest

from tests.stress import forks as forks_lib
from tests.stress import working


def pytest_collection_modifyitems(config, items):
  """The longest file comes first: no worker is left alone with it."""
  if 'stress' in config.option.markexpr:
    items.sort(key=lambda item: item.path.name != 'kills_test.py')


@pytest.fixture(scope='session')
def forks():
  """Starts commands in a tenth of a second."""
  with forks_lib.Forks() as started:
    yield started


@pytest.fixture(scope='session')
def things(forks, tmp_path_factory):
  """A folder with what commands take: `things.make`."""
  folder = tmp_path_factory.mktemp('things')
  done = forks.run('tests.stress.things:make', str(folder), cwd=folder)
  assert done.code == 0, done.err[-2000:]
  return folder


@pytest.fixture(scope='session')
def wholes(forks, things, tmp_path_factory):
  """What each command leaves that nobody kills, and its file operations."""
  known = {}

  def whole(name):
    if name not in known:
      work = working.KILLED[name]
      folder = tmp_path_factory.mktemp('wholes') / name
      work.prepare(things, folder)
      ended = forks.run(work.module, *work.argv, cwd=folder, count=True)
      assert ended.code == 0, ended.err[-2000:]
      known[name] = work.left(folder), ended.count
    return known[name]

  return whole
