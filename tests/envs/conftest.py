"""What tests of worlds share."""

import pytest

from jepa_wm.envs import stable_worldmodel


@pytest.fixture(scope='module')
def swm():
  """Skips what stands beside stable-worldmodel where that does not load."""
  pytest.importorskip('torch')
  pytest.importorskip('pymunk')
  try:
    stable_worldmodel.import_theirs()
  except ModuleNotFoundError as error:
    pytest.skip(str(error))
