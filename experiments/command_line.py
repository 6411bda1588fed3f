"""What the command lines of this package do alike."""

import os
import pathlib
import re
import shlex
import tempfile
from collections.abc import Iterable
from typing import Any

from absl import app, flags, logging

# A value, or one of a list, that begins with somebody's home; shells leave it.
_HOME = re.compile(r'(?<=[=,])~[^,]*')


def parse(own_flags: flags.FlagValues, argv: list[str]) -> list[str]:
  """Parses a command line whose flags are kept apart from absl's.

  Args:
    own_flags: of the command.
    argv: the command and its arguments.

  Returns:
    The arguments that are no flags. Paths of all begin where `~` points to.
  """
  argv = at_home(argv)
  for name in own_flags:
    flags.FLAGS[name] = own_flags[name]
    # What --help shows is what belongs to the main module.
    flags.FLAGS.register_key_flag_for_module(argv[0], own_flags[name])
  rest = app.parse_flags_with_usage(argv)
  own_flags.mark_as_parsed()
  if not flags.FLAGS['verbosity'].present:
    logging.set_verbosity(logging.WARNING)
  return rest


def at_home(argv: Iterable[str]) -> list[str]:
  """Arguments whose values begin where `~` points to, as every shell means it.

  Shells leave a `~` behind `=` alone, and a folder of that name would be made.
  """
  return [
    _HOME.sub(lambda home: os.path.expanduser(home[0]), argument)
    for argument in argv
  ]


def writable(out: pathlib.Path) -> pathlib.Path:
  """Makes the folder and tries to write to it.

  Raises:
    OSError: it cannot be made or written to.
  """
  try:
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=out) as probe:
      probe.write(b'0' * 2**20)
  except OSError as error:
    reason = error.strerror or str(error)
    raise OSError(
      f'out: cannot write to {str(out)!r} ({reason}); choose another folder '
      'with --out.'
    ) from error
  return out


def again(module: str, own_flags: flags.FlagValues) -> str:
  """The command line that does the same again."""

  def values(name: str) -> Iterable[Any]:
    value = own_flags[name].value
    if not isinstance(value, list):
      return [value]
    if own_flags[name].flag_type().startswith('multi'):
      return value
    return [','.join(map(str, value))]

  given = [
    f'--{name}={value}'
    for name in own_flags
    if own_flags[name].present
    for value in values(name)
  ]
  return shlex.join(['python', '-m', module, *given])
