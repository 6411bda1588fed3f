"""Files of a user, imported before a command looks up any name.

A planner, world, encoder or term of one's own (`docs/add_your_own.md`) is known
once its file is imported: `--import=my_planner.py`.
"""

import importlib
import pathlib
import re
import sys
import traceback
from collections.abc import Sequence

from absl import flags

from jepa_wm import provenance

FILES: set[str] = set()
"""Of a user, that have been imported."""

_IMPORT = re.compile(r'--?import(?:=(.*))?')


def define(own_flags: flags.FlagValues) -> None:
  """Makes the flag `--import`, once."""
  if 'import' not in own_flags:
    flags.DEFINE_list(
      'import',
      [],
      'Python files that register what the package does not have: a planner, '
      'world, encoder, term, ... of your own.',
      flag_values=own_flags,
    )


def import_files(argv: Sequence[str]) -> None:
  """Imports what `--import` names, before the flags that use it are parsed.

  A file that cannot be imported ends the process in one sentence.
  """
  for argument, after in zip(argv, (*argv[1:], '')):
    if found := _IMPORT.fullmatch(argument):
      for name in (after if found[1] is None else found[1]).split(','):
        _import_file(pathlib.Path(name).expanduser().resolve())


def _import_file(path: pathlib.Path) -> None:
  if path.suffix != '.py' or not path.is_file():
    sys.exit(f'import must name Python files, and {path} is none.')
  # Last, so that the file's neighbours hide no package.
  if str(path.parent) not in sys.path:
    sys.path.append(str(path.parent))
  try:
    module = importlib.import_module(path.stem)
  except Exception as error:
    frames = traceback.extract_tb(error.__traceback__)
    lines = [x.lineno for x in frames if x.filename == str(path)]
    where = f', line {lines[-1]}' if lines else ''
    sys.exit(f'import: {path}{where}: {type(error).__name__}: {error}')
  if pathlib.Path(module.__file__ or '').resolve() != path:
    sys.exit(
      f'import: {path} has the name of another module, {module.__file__}; '
      'rename it.'
    )
  provenance.count_in(path)
  FILES.add(str(path))


def line_of(error: BaseException) -> str:
  """The last line of a user's file that an error came by; '' if none."""
  for frame in reversed(traceback.extract_tb(error.__traceback__)):
    if frame.filename in FILES:
      return f'{frame.filename}, line {frame.lineno}'
  return ''
