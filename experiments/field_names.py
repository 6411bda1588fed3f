"""Which field of a config a command line sets that the config has not."""

import pathlib
import re
import traceback
from collections.abc import Sequence
from typing import Any

import ml_collections
from absl import flags
from ml_collections.config_flags import config_flags

from experiments.configs import variants
from jepa_wm import fields

_FILE = re.compile(r'--?config=(.*)', re.DOTALL)
_FIELD = re.compile(r'--?(?:no)?config\.([\w.]+)')


WRONG = (
  flags.Error,
  OSError,
  LookupError,
  AttributeError,
  TypeError,
  ValueError,
)
"""What a command line raises, or a field that the config does not have."""


def wrong(argv: Sequence[str], error: Exception) -> str:
  """What is wrong with a config, or with its file.

  Args:
    argv: a command line that could not be parsed.
    error: what it raised, one of `WRONG`.

  Returns:
    A sentence; empty where something else is wrong.
  """
  said = unknown_field(argv)
  if not said and isinstance(error, AttributeError | KeyError):
    # A mistake in the config's own file.
    place = traceback.extract_tb(error.__traceback__)[-1]
    said = (
      f'The config cannot be read ({type(error).__name__}: {error.args[0]}, '
      f'in {place.filename}, line {place.lineno}).'
    )
  return said


def check_file(argv: Sequence[str]) -> None:
  """Refuses a config file that can be none, before it is run.

  Raises:
    ValueError: a folder or device, not Python's, or too large.
  """
  for argument, after in zip(argv, (*argv[1:], '')):
    if argument in ('--config', '-config'):
      argument = f'--config={after}'
    if found := _FILE.match(argument):
      variants.check_file(pathlib.Path(found[1].partition(':')[0]))


def unknown_field(argv: Sequence[str]) -> str:
  """What is wrong with the first field that the config does not have.

  Args:
    argv: a command line that could not be parsed.

  Returns:
    A sentence with the nearest field, or all of that level; empty where no
    field is wrong.
  """
  given = [found[1] for x in argv if (found := _FILE.match(x))]
  try:
    config = config_flags.ConfigFileFlagParser('config').parse(given[0])
  except (AttributeError, LookupError, OSError, TypeError, ValueError):
    return ''  # Of the file, about which something else is said.
  if not isinstance(config, ml_collections.ConfigDict):
    return ''  # So is of one that is not there.
  try:
    for argument in argv:
      if found := _FIELD.match(argument):
        _find(config, found[1].split('.'))
  except fields.UnknownNameError as error:
    return str(error)
  return ''


def _find(config: Any, path: Sequence[str]) -> None:
  """Follows a path.

  Raises:
    UnknownNameError: it leads nowhere.
  """
  where = 'config'
  for name in path:
    is_section = isinstance(config, ml_collections.ConfigDict)
    fields.check_names(where, [name], list(config) if is_section else [])
    config, where = config[name], f'{where}.{name}'
