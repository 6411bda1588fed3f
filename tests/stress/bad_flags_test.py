"""Every flag of every command, with values that it should not have."""

import os
import random

import pytest

from tests.stress import doors, meanings
from tests.stress import forks as forks_lib

MOST_SECONDS, MOST_BYTES = 20.0, 2 * 2**30

MOST = int(os.environ.get('JEPA_WM_BAD_FLAGS', '60'))
"""Flags and fields of a kind of command that are tried, drawn evenly; a large
number in the environment tries all, in half an hour."""


@pytest.fixture(scope='module')
def place(forks, things):
  """Where commands run: configs are named as in the repository."""
  made = forks.run('tests.stress.things:make_more', str(things), cwd=things)
  assert made.code == 0, made.err[-2000:]
  link = things / 'experiments'
  if not link.exists():
    link.symlink_to(forks_lib.ROOT / 'experiments')
  return things


def fault(door_name, flag, kind, ended):
  """What is wrong with how a command ended; '' where nothing is."""
  where = f'{door_name} --{flag} ({kind})'
  if ended.has_traceback or ended.code not in (0, 1, forks_lib.BEGAN):
    return f'{where} ended with {ended.code}: {ended.err[-400:]}'
  if ended.seconds > MOST_SECONDS or ended.peak > MOST_BYTES:
    return f'{where} took {ended.seconds:.1f} s and {ended.peak / 2**30:.1f} GB'
  if ended.code == 1:
    is_one = ended.sentence and ended.sentence[-1] in '.?)'
    return '' if is_one else f'{where} says {ended.err[-400:]!r}'
  if meanings.meaning(door_name, flag, kind):
    return ''
  told = 'has no effect' in ended.err
  return '' if told else f'{where} is taken'


def try_some(forks, place, name, most=MOST):
  """Faults of a command's flags, how many were tried, and of how many."""
  door = doors.DOORS[name]
  given = {'cwd': place, 'stop_at': door.stop_at, 'timeout': 30}
  plain = forks.run(door.module, *door.argv, **given)
  assert plain.code == forks_lib.BEGAN, plain.err
  every = list(door.bad())
  cases = random.Random(name).sample(every, min(most, len(every)))
  found = []
  for flag, kind, argv in cases:
    ended = forks.run(door.module, *door.argv, *argv, **given)
    found.append(fault(name, flag, kind, ended))
  return [x for x in found if x], len(cases), len(every)


@pytest.mark.stress
@pytest.mark.parametrize('name', doors.DOORS)
def test_a_bad_value_is_refused_or_means_something(forks, place, name):
  found, count, all_there_are = try_some(forks, place, name)
  print(f'{name}: {count} of {all_there_are} bad flags and fields')
  assert not found, '\n'.join(found)


def test_some_bad_values_of_a_command(forks, things):
  found, *_ = try_some(forks, things, 'collect', most=35)
  assert not found, '\n'.join(found)
