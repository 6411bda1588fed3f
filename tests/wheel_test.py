"""A built wheel is all that is needed to collect, train and plan."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]


@pytest.mark.slow
def test_a_wheel_collects_trains_and_plans_in_an_empty_folder(tmp_path):
  # A copy, so that nothing of an earlier build is left in it.
  source, site, empty = (tmp_path / name for name in ('source', 'site', 'here'))
  ignored = shutil.ignore_patterns('__pycache__', '*.egg-info')
  shutil.copytree(ROOT / 'jepa_wm', source / 'jepa_wm', ignore=ignored)
  for name in ('pyproject.toml', 'README.md', 'LICENSE'):
    shutil.copy(ROOT / name, source)
  empty.mkdir()
  shutil.copy(ROOT / 'examples' / 'train_a_small_model.py', empty / 'small.py')

  def run(*command, **env):
    ended = subprocess.run(
      [sys.executable, *command],
      cwd=empty,
      env={**os.environ, 'PYTHONPATH': '', **env},
      capture_output=True,
      text=True,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout

  offline = ('--quiet', '--no-deps', '--no-index')
  run(
    *('-m', 'pip', 'wheel', *offline, '--no-build-isolation'),
    *('--wheel-dir', str(tmp_path), str(source)),
  )
  (wheel,) = tmp_path.glob('jepa_wm-*.whl')
  run('-m', 'pip', 'install', *offline, '--target', str(site), str(wheel))
  where, *_, told = run(
    '-c',
    'import runpy, jepa_wm; print(jepa_wm.__file__);'
    'runpy.run_path("small.py", run_name="__main__")',
    PYTHONPATH=str(site),
  ).splitlines()
  assert pathlib.Path(where).is_relative_to(site)
  assert told.endswith('of 4 pairs')
  for name in ('run/export/model.safetensors', 'plan/report.html'):
    assert (empty / 'outputs/small' / name).is_file()
