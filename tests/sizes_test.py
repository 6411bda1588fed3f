"""Files stay short enough to read in one go, and so do functions."""

import ast
import pathlib

ROOT = pathlib.Path(__file__).parents[1]
FOLDERS = ('jepa_wm', 'experiments', 'benchmarks', 'examples')
LONGEST_FILE, LONGEST_BODY = 400, 60
# Those that are longer, to become fewer.
NUM_LONG_BODIES = 4


def sources():
  for folder in FOLDERS:
    for path in sorted((ROOT / folder).rglob('*.py')):
      yield path.relative_to(ROOT).as_posix(), path.read_text()


def num_lines(function):
  """Lines of a function's body, its docstring left out."""
  body = function.body
  if ast.get_docstring(function) is not None:
    body = body[1:]
  return body[-1].end_lineno - body[0].lineno + 1 if body else 0


def test_files_are_short():
  long = {n for n, text in sources() if text.count('\n') > LONGEST_FILE}
  assert not long, sorted(long)


def test_functions_are_short():
  long = {
    f'{name} {node.name}'
    for name, text in sources()
    for node in ast.walk(ast.parse(text))
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    and num_lines(node) > LONGEST_BODY
  }
  assert len(long) <= NUM_LONG_BODIES, sorted(long)
