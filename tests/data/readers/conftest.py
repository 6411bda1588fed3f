"""Fixtures that others wrote: `tests/golden/readers/README.md`."""

import pathlib
import shutil

import pytest

GOLDEN = pathlib.Path(__file__).parents[2] / 'golden' / 'readers'


@pytest.fixture
def golden():
  return GOLDEN


@pytest.fixture
def copied(tmp_path):
  """Copies a fixture where it may be damaged."""

  def copy(name):
    target = tmp_path / name
    if (GOLDEN / name).is_dir():
      shutil.copytree(GOLDEN / name, target)
    else:
      shutil.copy(GOLDEN / name, target)
    return target

  return copy
