"""Every flag of every command, with values that it should not have."""

import itertools
import pathlib

import pytest

from tests.stress import doors, forks, meanings

MOST_SECONDS, MOST_BYTES = 20.0, 2 * 2**30


@pytest.fixture(scope='module')
def place(things):
  """Where commands run: configs are named as in the repository."""
  link = things / 'experiments'
  if not link.exists():
    link.symlink_to(pathlib.Path(forks.ROOT) / 'experiments')
  return things


def fault(door_name, flag, kind, ended):
  """What is wrong with how a command ended; '' where nothing is."""
  where = f'{door_name} --{flag} ({kind})'
  if ended.has_traceback or ended.code not in (0, 1, forks.BEGAN):
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


def try_all(forks_, place, name, every=1, first=0):
  """Faults of a command's flags, and how many were tried."""
  door = doors.DOORS[name]
  given = {'cwd': place, 'stop_at': door.stop_at, 'timeout': 30}
  plain = forks_.run(door.module, *door.argv, **given)
  assert plain.code == forks.BEGAN, plain.err
  cases = list(itertools.islice(door.bad(), first, None, every))
  found = []
  for flag, kind, argv in cases:
    ended = forks_.run(door.module, *door.argv, *argv, **given)
    found.append(fault(name, flag, kind, ended))
  return [x for x in found if x], len(cases)


@pytest.mark.stress
@pytest.mark.parametrize('name', doors.DOORS)
def test_a_bad_value_is_refused_or_means_something(forks, place, name):
  found, count = try_all(forks, place, name)
  print(f'{name}: {count} bad flags and fields')
  assert not found, '\n'.join(found)


def test_some_bad_values_of_a_command(forks, place):
  found, _ = try_all(forks, place, 'collect', every=4)
  assert not found, '\n'.join(found)
