import os
import pathlib
import subprocess
import sys
import warnings

import jax
import pytest
from absl import flags

from experiments import compile_cache

ROOT = pathlib.Path(__file__).parents[2]

# A command that compiles two programs, and says how many were found instead.
COMMAND = """
import collections, sys
import jax
from absl import flags
from experiments import command_line
command_line.parse(flags.FlagValues(), sys.argv)
happened = collections.Counter()
listen = lambda name, **_: happened.update([name])
jax.monitoring.register_event_listener(listen)
def first(x): return x + 1.0
def second(x): return x * 2.0
print([float(jax.jit(f)(0.1)) for f in (first, second)])
print(happened['/jax/compilation_cache/cache_hits'])
"""


def start(home):
  """What the command says when its user's cache is in `home`."""
  left_out = ('JAX_COMPILATION_CACHE_DIR', 'JAX_PERSISTENT')
  environment = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith(left_out)
  }
  done = subprocess.run(
    [sys.executable, '-c', COMMAND],
    cwd=ROOT,
    env={**environment, 'XDG_CACHE_HOME': str(home)},
    capture_output=True,
    text=True,
  )
  assert (done.returncode, done.stderr) == (0, '')
  numbers, hits = done.stdout.splitlines()
  return numbers, int(hits)


def test_a_second_start_finds_what_the_first_compiled(tmp_path):
  numbers, hits = start(tmp_path)
  assert hits == 0
  (folder,) = (tmp_path / 'jepa_wm' / 'compiled').iterdir()
  whole = {path: path.read_bytes() for path in folder.iterdir()}
  assert len(whole) == 2
  # Cut off by a full disk: it is compiled anew, and whole again.
  (broken,) = folder.glob('jit_first-*')
  broken.write_bytes(whole[broken][:100])
  assert start(tmp_path) == (numbers, 1)
  assert {path.name for path in folder.iterdir()} == {x.name for x in whole}
  assert broken.stat().st_size > 100


@pytest.fixture
def use(monkeypatch):
  """`compile_cache.use` with a flag, as if JAX knew of no folder."""
  names = 'jax_compilation_cache_dir', 'jax_enable_compilation_cache'
  before = {name: getattr(jax.config, name) for name in names}
  jax.config.update('jax_compilation_cache_dir', None)
  monkeypatch.setattr(warnings, 'showwarning', warnings.showwarning)

  def call(*arguments):
    own = flags.FlagValues()
    compile_cache.define(own)
    own(['', *arguments])
    compile_cache.use(own)

  yield call
  for name, value in before.items():
    jax.config.update(name, value)


def test_off_nothing_is_kept(use, tmp_path, monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
  use('--nocompile_cache')
  assert not jax.config.jax_enable_compilation_cache
  assert list(tmp_path.iterdir()) == []


def test_a_folder_of_the_users_own_is_mended_and_else_left_to_them(
  use, tmp_path, monkeypatch, capsys
):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
  own = tmp_path / 'own' / 'programs'
  jax.config.update('jax_compilation_cache_dir', str(own))
  use()
  assert jax.config.jax_compilation_cache_dir == str(own)
  assert {*tmp_path.rglob('*')} == {own.parent, own}
  (own / 'jit_a-1-cache').write_text('cut off')
  (own / 'jit_b-1-cache').write_text('whole')
  fault = "Error reading persistent compilation cache entry for 'jit_a': cut"
  with warnings.catch_warnings():
    warnings.simplefilter('always')
    warnings.warn(fault, stacklevel=1)
  assert [x.name for x in own.iterdir()] == ['jit_b-1-cache']
  assert capsys.readouterr().err == ''


def test_a_folder_of_the_users_own_that_cannot_be_is_one_sentence(
  use, tmp_path, capsys
):
  (tmp_path / 'file').touch()
  jax.config.update('jax_compilation_cache_dir', str(tmp_path / 'file' / 'x'))
  use()
  with warnings.catch_warnings():
    warnings.simplefilter('always')
    for doing in ('reading', 'writing'):
      fault = f"Error {doing} persistent compilation cache entry for 'jit_a': x"
      warnings.warn(fault, stacklevel=1)
  said = capsys.readouterr().err
  assert said.count('\n') == 1 and str(tmp_path / 'file') in said


def test_a_full_disk_is_seen_before_anything_is_compiled(
  use, tmp_path, monkeypatch, capsys
):
  if not os.path.exists('/dev/full'):
    pytest.skip('no device that is full')
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))

  def full(**_):
    return pathlib.Path('/dev/full').open('wb')

  monkeypatch.setattr(compile_cache.tempfile, 'TemporaryFile', full)
  use()
  said = capsys.readouterr().err
  assert said.count('\n') == 1 and 'No space left' in said
  # What is there is found all the same.
  assert str(tmp_path) in jax.config.jax_compilation_cache_dir


def test_a_folder_that_cannot_be_written_is_one_sentence(
  use, tmp_path, monkeypatch, capsys
):
  (tmp_path / 'file').write_text('')
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'file'))
  use()
  said = capsys.readouterr().err
  assert said.count('\n') == 1
  assert 'not kept for the next start' in said and str(tmp_path) in said
  assert jax.config.jax_compilation_cache_dir is None


def test_a_full_disk_is_one_sentence_and_other_warnings_stay(
  use, tmp_path, monkeypatch, capsys
):
  heard = []
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
  monkeypatch.setattr(
    warnings, 'showwarning', lambda message, *args: heard.append(str(message))
  )
  use()
  text = 'Error writing persistent compilation cache entry for'
  with warnings.catch_warnings():
    warnings.simplefilter('always')
    for said in (f"{text} 'jit_a': full", f"{text} 'jit_b': full", 'Others.'):
      warnings.warn(said, stacklevel=1)
  assert capsys.readouterr().err.count('(full)') == 1
  assert heard == ['Others.']


def test_what_was_not_used_for_the_longest_goes_first(
  use, tmp_path, monkeypatch
):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
  monkeypatch.setattr(compile_cache, 'MOST_BYTES', 3 * 4096)
  folder = tmp_path / 'jepa_wm' / 'compiled' / 'elsewhere'
  folder.mkdir(parents=True)
  for number in range(5):
    path = folder / f'{number}-cache'
    path.write_bytes(b'x')
    # The one that was written first has been read last.
    os.utime(path, (100 - number, 50))
  use()
  assert sorted(x.name for x in folder.iterdir()) == [
    '0-cache',
    '1-cache',
    '2-cache',
  ]
