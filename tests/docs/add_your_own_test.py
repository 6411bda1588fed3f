"""The page is followed literally, in a folder and a process of their own."""

import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]
PAGE = ROOT / 'docs' / 'add_your_own.md'
BLOCK = re.compile(r'```python(?: title="(\w+\.py)")?\n(.*?)```', re.DOTALL)
KINDS = ('planner', 'predictor', 'term', 'diagnostic', 'world', 'reader')


def test_every_kind_is_one_file_and_what_follows_it_runs(tmp_path):
  blocks = BLOCK.findall(PAGE.read_text())
  for name, text in blocks:
    if name:
      (tmp_path / name).write_text(text)
  rest = ''.join(text for name, text in blocks if not name)
  (tmp_path / 'page.py').write_text(rest)
  ended = subprocess.run(
    [sys.executable, 'page.py'],
    cwd=tmp_path,
    env={**os.environ, 'PYTHONPATH': str(ROOT)},
    capture_output=True,
    text=True,
  )
  assert ended.returncode == 0, ended.stderr


def test_the_page_has_a_section_with_one_file_for_every_kind():
  sections = re.split(r'^## ', PAGE.read_text(), flags=re.MULTILINE)[1:]
  files = {s.splitlines()[0].split()[-1]: s.count('title="') for s in sections}
  assert files == dict.fromkeys(KINDS, 1)
