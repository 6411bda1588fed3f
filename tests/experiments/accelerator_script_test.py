"""The script that measures on accelerators, without one."""

import os
import pathlib
import subprocess

import pytest

SCRIPT = pathlib.Path(__file__).parents[2] / 'benchmarks' / 'accelerator.sh'

# In place of Python: a benchmark that fails halfway, and others.
PYTHON = """#!/bin/sh
echo "a line of $2"
test "$2" != benchmarks.sigreg
"""


def accelerator(*arguments, path='', seconds='60'):
  """The script of accelerators, with what it finds first in `path`."""
  own = {'PATH': f'{path}:{os.environ["PATH"]}', 'ACCELERATOR_SECONDS': seconds}
  return subprocess.run(
    [SCRIPT, *map(str, arguments)],
    env={**os.environ, **own},
    capture_output=True,
    text=True,
  )


@pytest.mark.parametrize(
  ('arguments', 'seconds', 'sentence'),
  [
    (['--quik'], '60', 'There is no option --quik'),
    ([''], '60', "The folder's name is empty"),
    (['{there}/a', '{there}/b'], '60', 'Give one folder, got '),
    (['{there}/a'], 'abc', "at least 30, got 'abc'."),
    (['{there}/a'], '7', "at least 30, got '7'."),
    (['{there}/file/a'], '60', 'cannot be made (Not a directory)'),
    (['{there}/taken'], '60', 'lines.jsonl cannot be written'),
  ],
)
def test_it_measures_nothing_and_says_why(
  tmp_path, arguments, seconds, sentence
):
  (tmp_path / 'file').touch()
  (tmp_path / 'taken' / 'lines.jsonl').mkdir(parents=True)
  before = {*tmp_path.rglob('*')}
  given = [argument.format(there=tmp_path) for argument in arguments]
  done = accelerator(*given, seconds=seconds)
  assert done.returncode == 1 and done.stdout == ''
  assert sentence in done.stderr and done.stderr.count('\n') == 1
  assert {*tmp_path.rglob('*')} == before


def test_it_keeps_what_could_be_measured(tmp_path):
  python = tmp_path / 'bin' / 'python'
  python.parent.mkdir()
  python.write_text(PYTHON)
  python.chmod(0o755)
  done = accelerator(tmp_path / 'made' / 'here', path=python.parent)
  assert done.returncode == 1
  said = done.stderr.splitlines()
  assert [x.split(':')[0] for x in said] == [
    'sigreg_float32',
    'sigreg_bfloat16',
  ]
  folder = tmp_path / 'made' / 'here'
  measured = (folder / 'lines.jsonl').read_text().splitlines()
  assert len(measured) == 9
  assert measured[0] == 'a line of benchmarks.plan_latency'
  assert (folder / 'rows.md').read_text() == 'a line of benchmarks.rows\n'
