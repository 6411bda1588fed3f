"""Memory that is freed is there for the next who asks."""

import os
import pathlib
import platform
import subprocess
import sys

import pytest

MODULE = pathlib.Path(__file__).parents[1] / 'jepa_wm' / 'allocation.py'

# In a process of its own, without JAX: what it does cannot be undone.
PROGRAM = """
import resource, runpy, sys
keep_freed = runpy.run_path(sys.argv[1])['keep_freed']
print(keep_freed())
count = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
use = lambda: bytearray(2**26)
use()
before = count()
for _ in range(8):
  use()
print((count() - before) * resource.getpagesize())
"""


def _run(**environment):
  """Whether memory is kept, and the bytes that were mapped anew."""
  plain = {x: y for x, y in os.environ.items() if not x.startswith('MALLOC_')}
  plain.pop('GLIBC_TUNABLES', None)
  said = subprocess.run(
    [sys.executable, '-c', PROGRAM, str(MODULE)],
    env=plain | environment,
    check=True,
    capture_output=True,
    text=True,
  ).stdout.split()
  return said[0] == 'True', int(said[1])


@pytest.mark.skipif(
  platform.libc_ver()[0] != 'glibc', reason='only glibc can be told'
)
def test_freed_memory_is_used_again():
  is_kept, mapped = _run()
  assert is_kept
  # `bytearray` asks for cleared memory, and writes it where it is not new.
  assert mapped < 2**26


@pytest.mark.parametrize('name', ['MALLOC_TOP_PAD_', 'GLIBC_TUNABLES'])
def test_who_has_chosen_is_left_alone(name):
  value = '131072' if name.startswith('MALLOC') else 'glibc.malloc.perturb=0'
  is_kept, mapped = _run(**{name: value})
  assert not is_kept
  if platform.libc_ver()[0] == 'glibc':
    assert mapped >= 8 * 2**26
