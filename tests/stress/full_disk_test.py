"""On a full disk a command says so in a sentence, and leaves what was there."""

import re
import shutil
import subprocess

import pytest

from tests.stress import kills_test, working

# That there is no room, or not enough for what is about to be written.
SENTENCE = re.compile(r'No space left|File too large|[MG]B left')
# What to do about it.
ADVICE = re.compile(
  r'[Mm]ake room|another (folder|workdir|disk)|put that right'
)
# What others say of it.
NOISE = re.compile(r'Exception|ERROR|Error:|\[Errno')

ROOM = '256m'


def check(ended, folder, where):
  """What is wrong with how a command ended on a full disk; '' for nothing."""
  if ended.has_traceback or ended.code not in (0, 1):
    return f'{where} ended with {ended.code}: {ended.err[-1500:]}'
  if not ended.code:
    return ''
  said = ended.sentence
  if not SENTENCE.search(said) or not ADVICE.search(said):
    return f'{where} says {ended.err[-600:]}'
  if 'out' not in said and str(folder) not in said:
    return f'{where} does not say where: {said}'
  if NOISE.search(ended.out + ended.err):
    return f'{where} is noisy: {ended.err[-1500:]}'
  return ''


def missing(work, folder, before):
  """What was there and is no longer as it was."""
  after = work.left(folder)
  return [x for x in before if after.get(x) != before[x]]


@pytest.mark.stress
@pytest.mark.parametrize('name', working.WORKS)
def test_a_full_disk_is_one_sentence(forks, things, tmp_path, wholes, name):
  """From every operation on that takes room, as far as Python tells of it."""
  work = working.WORKS[name]
  wanted, count = wholes(name)
  found = []
  for point in kills_test.points(count, 5):
    folder = tmp_path / str(point)
    work.prepare(things, folder)
    before = work.left(folder)
    ended = forks.run(work.module, *work.argv, cwd=folder, fail_at=point)
    where = f'{name} with a disk full from {point} on'
    found.append(check(ended, folder, where))
    if lost := missing(work, folder, before):
      found.append(f'{where} loses {lost}')
    again = forks.run(work.module, *work.argv, cwd=folder)
    # Who was not in need of room has ended.
    if again.code and ended.code:
      found.append(f'{where}, then: {again.err[-300:]}')
    elif other := set(wanted.items()) ^ set(work.left(folder).items()):
      found.append(f'{where}, then others are: {sorted(other)[:4]}')
    shutil.rmtree(folder)
  assert not any(found), '\n'.join(filter(None, found))


@pytest.fixture
def disk(tmp_path):
  """A small disk of memory, and what changes its size; needs root."""
  where = tmp_path / 'disk'
  where.mkdir()

  def mount(size, *more):
    options = ','.join([*more, f'size={size}'])
    command = ['mount', '-t', 'tmpfs', '-o', options, 'tmpfs', str(where)]
    return subprocess.run(command, capture_output=True, check=False)

  if mount(ROOM).returncode:
    pytest.skip('only root may mount a small disk')
  yield where, lambda size: mount(size, 'remount')
  subprocess.run(['umount', '--lazy', str(where)], check=True)


@pytest.mark.stress
@pytest.mark.parametrize('name', working.WORKS)
def test_a_small_disk_gets_full(forks, things, disk, wholes, name):
  """A real one, between nothing and all that a command writes."""
  where, resize = disk
  work, found = working.WORKS[name], []
  folder = where / 'there'
  used = []
  for share in (None, 0.02, 0.4, 0.8):
    work.prepare(things, folder)
    before = work.left(folder)
    used.append(shutil.disk_usage(where).used)
    if share is None:
      ended = forks.run(work.module, *work.argv, cwd=folder)
      assert ended.code == 0, ended.err[-500:]
      used.append(shutil.disk_usage(where).used)
      shutil.rmtree(folder)
      continue
    assert not resize(int(used[0] + share * (used[1] - used[0]))).returncode
    ended = forks.run(work.module, *work.argv, cwd=folder)
    said = f'{name} with {share:.0%} of the room that it needs'
    found.append(check(ended, folder, said))
    if lost := missing(work, folder, before):
      found.append(f'{said} loses {lost}')
    assert not resize(ROOM).returncode
    again = forks.run(work.module, *work.argv, cwd=folder)
    if again.code and ended.code:
      found.append(f'{said}, then: {again.err[-300:]}')
    shutil.rmtree(folder)
  assert not any(found), '\n'.join(filter(None, found))
