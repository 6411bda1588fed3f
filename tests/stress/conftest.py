import pytest

from tests.stress import forks as forks_lib


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
