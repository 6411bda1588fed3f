"""The example in the README does what it says, in as few lines."""

import os
import pathlib
import re
import subprocess
import sys

import compiler
import pytest

_ROOT = pathlib.Path(__file__).parents[2]
_EXAMPLE = _ROOT / 'experiments' / 'bring_your_own.py'


def test_it_has_fewer_than_60_lines():
  assert len(_EXAMPLE.read_text().splitlines()) < 60


@pytest.mark.slow
def test_it_runs_as_written_and_beats_its_floor(tmp_path):
  environment = {
    **os.environ,
    'PYTHONPATH': str(_ROOT),
    'XDG_CACHE_HOME': str(tmp_path / 'cache'),
    # It trains for a minute: compiled to run fast, in half the time to compile.
    'XLA_FLAGS': f'{compiler.FLAGS} --xla_backend_optimization_level=1',
  }
  done = subprocess.run(
    [sys.executable, '-m', 'experiments.bring_your_own'],
    cwd=tmp_path,
    env=environment,
    capture_output=True,
    text=True,
    timeout=900,
  )
  assert done.returncode == 0, done.stderr[-2000:]
  heading, _, row = done.stdout.strip().splitlines()[-3:]
  cells = dict(
    zip(re.split(r'\s{2,}', heading.strip()), re.split(r'\s{2,}', row.strip()))
  )
  percent = lambda name: float(cells[name].removesuffix('%'))
  assert percent('success') > percent('random floor') + 20.0, cells
