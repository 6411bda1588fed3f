"""Flags of a command, within a process that goes on."""

import contextlib


@contextlib.contextmanager
def given_flags(command, *arguments):
  """Parses arguments of a module with `FLAGS`, which forgets them after."""
  command.FLAGS([command.__name__, *arguments])
  try:
    yield
  finally:
    command.FLAGS.unparse_flags()
    for name in command.FLAGS:
      command.FLAGS[name].unparse()
