"""What the command lines of this package do alike."""

import dataclasses
import io
import os
import re
import shlex
import sys
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import jax
from absl import app, flags, logging

# A value, or one of a list, that begins with somebody's home; shells leave it.
_HOME = re.compile(r'(?<=[=,])~[^,]*')


_T = TypeVar('_T')

# A name in the section `Attributes` of a docstring, and what is said of it.
_ATTRIBUTE = re.compile(r'^    (\w+): (.*(?:\n      .*)*)', re.MULTILINE)

_DEFINE: dict[Any, Any] = {
  bool: flags.DEFINE_bool,
  int: flags.DEFINE_integer,
  float: flags.DEFINE_float,
  str: flags.DEFINE_string,
  tuple[str, ...]: flags.DEFINE_list,
  tuple[float, ...]: flags.DEFINE_multi_float,
}


def define(
  own_flags: flags.FlagValues,
  kind: Any,
  *,
  leave_out: Sequence[str] = (),
  choices: Mapping[str, Iterable[str]] | None = None,
) -> None:
  """Makes a flag of each field of a dataclass.

  Name, type and default are the field's, the text is what the dataclass says
  of it under `Attributes`; its own checks are the bounds.

  Args:
    own_flags: of the command.
    kind: a dataclass whose fields are numbers, text or tuples of such; numbers
      of a tuple are given one by one, text with commas.
    leave_out: fields that get no flag.
    choices: what a field of text may be.
  """
  texts = dict(_ATTRIBUTE.findall(kind.__doc__))
  hints = typing.get_type_hints(kind)
  for field in dataclasses.fields(kind):
    if field.name in leave_out:
      continue
    given = field.default is not dataclasses.MISSING
    default: Any = field.default if given else None
    text = ' '.join(texts[field.name].split())
    text = text[0].upper() + text[1:]
    if choices and field.name in choices:
      flags.DEFINE_enum(
        field.name,
        default,
        list(choices[field.name]),
        text,
        flag_values=own_flags,
      )
      continue
    hint = hints[field.name]
    if isinstance(hint, types.UnionType):
      (hint,) = (x for x in typing.get_args(hint) if x is not types.NoneType)
    if isinstance(default, tuple):
      default = list(default)
    if hint == tuple[float, ...]:
      text = f'{text.removesuffix(".")}; once for each.'
    _DEFINE[hint](field.name, default, text, flag_values=own_flags)


def read(own_flags: flags.FlagValues, kind: type[_T], **given: Any) -> _T:
  """Makes the dataclass of the flags that `define` has made of it.

  Args:
    own_flags: of the command, parsed.
    kind: the dataclass.
    **given: fields that have no flag of their own.

  Raises:
    ValueError: a field out of its range.
  """
  values = dict(given)
  for field in dataclasses.fields(typing.cast(Any, kind)):
    if field.name in own_flags and field.name not in given:
      value = own_flags[field.name].value
      if isinstance(value, list):
        value = tuple(part for part in value if part != '')
      values[field.name] = value
  return kind(**values)


def parse(own_flags: flags.FlagValues, argv: list[str]) -> list[str]:
  """Parses a command line whose flags are kept apart from absl's.

  Args:
    own_flags: of the command.
    argv: the command and its arguments.

  Returns:
    The arguments that are no flags. Paths of all begin where `~` points to.
  """
  prepare()
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


def prepare() -> None:
  """Makes the process one that commands run in, whatever the shell says.

  Terminals show `?` for what they have no letter for: a table has lines that
  ASCII and Latin-1 have not, and nobody's results are lost for a letter. JAX
  promotes dtypes, on which optimisers of others rely.
  """
  jax.config.update('jax_numpy_dtype_promotion', 'standard')
  for stream in (sys.stdout, sys.stderr):
    if isinstance(stream, io.TextIOWrapper):
      stream.reconfigure(errors='replace')


def at_home(argv: Iterable[str]) -> list[str]:
  """Arguments whose values begin where `~` points to, as every shell means it.

  Shells leave a `~` behind `=` alone, and a folder of that name would be made.
  """
  return [
    _HOME.sub(lambda home: os.path.expanduser(home[0]), argument)
    for argument in argv
  ]


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
