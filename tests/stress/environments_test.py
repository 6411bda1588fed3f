"""Shells, terminals and machines that are not as they should be.

Each is a process of its own: what is tried begins before the first import.
"""

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from tests.stress import forks as forks_lib

ROOT = forks_lib.ROOT

_SEARCH = '--num_samples=4', '--num_elites=2', '--num_iterations=1'

COMMANDS = {
  'plan': (
    'plan', '--checkpoint=model', '--num_pairs=2', '--diagnostics=',
    '--out=out', *_SEARCH,
  ),
  'train': ('train', '--config=config.py', '--workdir=out'),
  'collect': (
    'collect', '--num_episodes=2', '--image_size=16', '--episode_length=30',
    '--min_episode_length=1', '--held_out_fraction=0.5', '--out=out',
  ),
  'list': ('ablate', '--list'),
  'help': ('plan', '--help'),
}  # fmt: skip
"""Command lines that work in seconds, in the folder of `things.make`."""

NOWHERE = '/proc/nowhere'
"""A folder that nobody can make, not even root."""


ENVIRONMENTS = {
  # Terminals.
  'ascii': ('plan', {'PYTHONIOENCODING': 'ascii'}),
  'latin-1': ('list', {'PYTHONIOENCODING': 'latin-1'}),
  'C': ('plan', {'LC_ALL': 'C', 'PYTHONUTF8': '0', 'PYTHONCOERCECLOCALE': '0'}),
  'C, trains': (
    'train', {'LC_ALL': 'C', 'PYTHONUTF8': '0', 'PYTHONCOERCECLOCALE': '0'},
  ),
  'dumb': ('collect', {'TERM': 'dumb', 'COLUMNS': '-3'}),
  'columns': ('plan', {'TERM': '', 'COLUMNS': 'many', 'LINES': 'x'}),
  'narrow help': ('help', {'COLUMNS': '1'}),
  # Folders.
  'no home': ('plan', {'HOME': None, 'JAX_COMPILATION_CACHE_DIR': None}),
  'home nowhere': (
    'plan', {'HOME': NOWHERE, 'JAX_COMPILATION_CACHE_DIR': None},
  ),
  'cache nowhere': (
    'train', {'XDG_CACHE_HOME': NOWHERE, 'JAX_COMPILATION_CACHE_DIR': None},
  ),
  'compiled nowhere': ('plan', {'JAX_COMPILATION_CACHE_DIR': NOWHERE}),
  'temporary nowhere': ('train', {'TMPDIR': NOWHERE}),
  'fonts nowhere': ('train', {'MPLCONFIGDIR': NOWHERE}),
  # Switches of Python and of libraries.
  'no such backend': ('plan', {'MPLBACKEND': 'nonsense'}),
  'no such toolkit': ('train', {'MPLBACKEND': 'gtk3agg'}),
  'optimised': ('plan', {'PYTHONOPTIMIZE': '2'}),
  'optimised, trains': ('train', {'PYTHONOPTIMIZE': '2'}),
  'warnings': ('train', {'PYTHONWARNINGS': 'error'}),
  'warnings, collects': ('collect', {'PYTHONWARNINGS': 'error'}),
  'warnings, plans': ('plan', {'PYTHONWARNINGS': 'error'}),
}  # fmt: skip
"""Command and changes of the environment under which it works."""

REFUSED = {
  'no gpu': ('collect', {'JAX_PLATFORMS': 'gpu'}, 'JAX_PLATFORMS'),
  'no cuda': ('train', {'JAX_PLATFORMS': 'cuda'}, 'JAX_PLATFORMS'),
  'no cuda, plans': ('plan', {'JAX_PLATFORMS': 'cuda'}, 'JAX_PLATFORMS'),
  'nonsense': ('plan', {'JAX_PLATFORMS': 'nonsense'}, 'JAX_PLATFORMS'),
}
"""Command, changes of the environment, and what the sentence names."""

LIMITS = {
  'no output': ('plan', 'exec >&-', ''),
  'no streams': ('collect', 'exec <&- >&- 2>&-', ''),
  'few files': ('train', 'ulimit -n 64', ''),
  'too few files': ('train', 'ulimit -n 16', 'open files'),
  'some files': ('train', 'ulimit -S -n 64', ''),
  'one GiB': ('plan', 'ulimit -v 1048576', 'ulimit -v'),
  'two GiB of data': ('train', 'ulimit -d 2097152', 'ulimit -d'),
  'enough': ('plan', 'ulimit -v 4194304', ''),
  'small files': ('collect', 'ulimit -f 8', 'too large'),
}
"""Command, what a shell does before it, and what a sentence says; '' where it
works."""


@pytest.fixture
def start(things, tmp_path):
  """Starts a command in a folder that has what it takes."""
  for name in ('model', 'walks', 'config.py'):
    (tmp_path / name).symlink_to(things / name)

  def started(name, env=None, before=':', **given):
    changed = {
      **os.environ,
      'JAX_PLATFORMS': 'cpu',
      'PYTHONPATH': str(ROOT),
      'XDG_CACHE_HOME': str(things / 'user'),
      'JAX_COMPILATION_CACHE_DIR': str(things / 'programs'),
      'XLA_FLAGS': forks_lib.compiler_flags(),
      **(env or {}),
    }
    kept = {k: x for k, x in changed.items() if x is not None}
    module, *argv = COMMANDS[name]
    return subprocess.Popen(
      [
        *('sh', '-c', f'{before}; exec "$@"', 'sh'),
        *(sys.executable, '-m', f'experiments.{module}', *argv),
      ],
      **{'cwd': tmp_path, 'env': kept}
      | {'stdout': subprocess.PIPE, 'stderr': subprocess.PIPE}
      | given,
    )

  # Not as a shell's job in the background, which Ctrl-C does not mean.
  before = signal.signal(signal.SIGINT, signal.default_int_handler)
  yield started
  signal.signal(signal.SIGINT, before)


def ended(process, *, says='', code=None):
  """Waits; no traceback, and one sentence where it failed."""
  out, err = process.communicate(timeout=120)
  out, err = ((x or b'').decode(errors='replace') for x in (out, err))
  assert 'Traceback' not in out + err, err[-3000:]
  expected = (1 if says else 0) if code is None else code
  assert process.returncode == expected, err[-3000:]
  if says:
    *before, sentence = err.strip().splitlines()
    noise = [x for x in before if '%|' not in x and 'is not kept' not in x]
    assert says in sentence and not noise, err[-3000:]
  return out


@pytest.mark.stress
@pytest.mark.parametrize('name', ENVIRONMENTS)
def test_it_works_under(start, name):
  command, env = ENVIRONMENTS[name]
  ended(start(command, env), code=1 if command == 'help' else 0)


@pytest.mark.stress
@pytest.mark.parametrize('name', REFUSED)
def test_it_is_one_sentence_under(start, tmp_path, name):
  command, env, says = REFUSED[name]
  ended(start(command, env), says=says)
  assert not [*tmp_path.glob('out/*')]


@pytest.mark.stress
@pytest.mark.parametrize('name', LIMITS)
def test_it_works_or_is_one_sentence_within(start, name):
  command, before, says = LIMITS[name]
  ended(start(command, before=before), says=says)


@pytest.mark.stress
def test_nobody_reads_to_the_end(start):
  with start('list') as process:
    process.stdout.close()
    assert process.stderr.read() == b''
  assert process.returncode == 0


@pytest.mark.stress
def test_what_is_printed_finds_no_room(start, tmp_path):
  with open('/dev/full', 'wb') as full:
    ended(start('plan', stdout=full), says='No space left on device')
  assert (tmp_path / 'out' / 'results.json').is_file()


@pytest.mark.stress
def test_the_current_folder_is_gone(start, tmp_path):
  gone = tmp_path / 'gone'
  gone.mkdir()
  process = start('plan', cwd=gone, before='rmdir "$PWD"')
  ended(process, says='current folder')


@pytest.mark.stress
def test_the_current_folder_cannot_be_written(start, things):
  process = start('collect', {'PYTHONPATH': str(ROOT)}, cwd='/proc')
  ended(process, says='the disk has 0.00 GB left')


@pytest.mark.stress
@pytest.mark.parametrize('name', ['collect', 'plan', 'train'])
@pytest.mark.parametrize('signum', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_at_any_moment_is_one_sentence(start, tmp_path, name, signum):
  """Eight of them while it imports, compiles, works and ends."""
  before = time.monotonic()
  ended(start(name))
  whole = time.monotonic() - before
  rng = random.Random(f'{name} {signum}')
  for part in range(8):
    wait = whole * (part + rng.random()) / 8
    process = start(name)
    time.sleep(max(wait, 0.15))
    process.send_signal(signum)
    _, err = process.communicate(timeout=60)
    err = err.decode(errors='replace')
    where = f'{signum.name} after {wait:.2f} of {whole:.2f} s: {err[-2000:]}'
    assert 'Traceback' not in err, where
    if process.returncode == 0 or 'is there already' in err:
      continue
    assert process.returncode in (1, 128 + signum), where
    sentence = err.strip().splitlines()[-1]
    assert sentence.startswith(('Interrupted', 'Stopped by')), where


def test_a_signal_while_it_imports_is_one_sentence(start):
  process = start('list')
  time.sleep(0.3)
  process.send_signal(signal.SIGINT)
  ended(process, says='Interrupted before anything was done.')


def test_a_command_that_may_have_little_memory_says_so(start):
  ended(start('list', before='ulimit -v 1048576'), says='ulimit -v')
