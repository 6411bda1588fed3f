"""Two commands at once on one folder: both right, or one refused by name."""

import itertools
import re

import pytest

from tests.stress import working

# Who writes folders; probes and plans may share one, as may readers.
NAMES = list(working.WORKS)
PAIRS = list(itertools.combinations_with_replacement(NAMES, 2))

# How the second is told: by the holder, or by what is there.
REFUSALS = re.compile(
  r'(works|in use|is there already|holds .*, which is not of what is written|'
  r'is not empty|unfinished conversion|was made with|is a file, where)'
)


@pytest.mark.stress
@pytest.mark.parametrize(('one', 'other'), PAIRS, ids='-'.join)
def test_both_are_right_or_one_is_refused(forks, things, tmp_path, one, other):
  folder = tmp_path / 'shared'
  works = [working.WORKS[one], working.WORKS[other]]
  works[0].prepare(things, folder)
  for work in works:
    for need in work.needs:
      if not (folder / need).exists():
        (folder / need).symlink_to(things / need)
  numbers = [forks.start(x.module, *x.argv, cwd=folder) for x in works]
  ended = [forks.finish(number) for number in numbers]
  for found in ended:
    assert not found.has_traceback, found.err[-1500:]
    assert found.code in (0, 1)
    if found.code:
      assert REFUSALS.search(found.err), found.err[-500:]
  assert 0 in [x.code for x in ended], [x.err[-300:] for x in ended]
