"""On a full disk a command says so in a sentence, and leaves what was there."""

import pytest

from tests.stress import kills_test, working


@pytest.mark.stress
@pytest.mark.parametrize('name', working.WORKS)
def test_a_full_disk_is_one_sentence(forks, things, tmp_path, name):
  work = working.WORKS[name]
  folder = tmp_path / 'whole'
  work.prepare(things, folder)
  whole = forks.run(work.module, *work.argv, cwd=folder, count=True)
  assert whole.code == 0, whole.err[-1000:]
  found = []
  for point in kills_test.points(whole.count, 12):
    folder = tmp_path / str(point)
    work.prepare(things, folder)
    ended = forks.run(work.module, *work.argv, cwd=folder, fail_at=point)
    where = f'{name} with a disk full from {point} on'
    if ended.has_traceback or ended.code not in (0, 1):
      found.append(f'{where} ended with {ended.code}: {ended.err[-700:]}')
    elif ended.code and 'No space left' not in ended.err:
      found.append(f'{where} says {ended.err[-300:]}')
    again = forks.run(work.module, *work.argv, cwd=folder)
    if again.code:
      found.append(f'{where}, then: {again.err[-300:]}')
  assert not found, '\n'.join(found)
