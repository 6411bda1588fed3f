"""What the command lines of this package do alike."""

import dataclasses
import gc
import io
import logging as std_logging
import os
import re
import shlex
import sys
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import jax
from absl import flags, logging

from experiments import compile_cache, imports
from jepa_wm import allocation, fields, files

# A value, or one of a list, that begins with somebody's home; shells leave it.
_HOME = re.compile(r'(?<=[=,])~[^,]*')


_T = TypeVar('_T')

# A name in the section `Attributes` of a docstring, and what is said of it.
_ATTRIBUTE = re.compile(r'^    (\w+): (.*(?:\n      .*)*)', re.MULTILINE)

_ILLEGAL = re.compile(r'flag --([\w.]+)=(.*?): ', re.DOTALL)

_WANTED = {
  'int': 'an integer',
  'float': 'a number',
  'bool': 'true or false',
  'tuple': 'a list of values such as (1, 2)',
}

_ODDS = Mapping[str, float]

_DEFINE: dict[Any, Any] = {
  bool: flags.DEFINE_bool,
  int: flags.DEFINE_integer,
  float: flags.DEFINE_float,
  str: flags.DEFINE_string,
  tuple[str, ...]: flags.DEFINE_list,
  tuple[float, ...]: flags.DEFINE_multi_float,
  _ODDS: flags.DEFINE_list,
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
    kind: a dataclass whose fields are numbers, text, tuples of such or numbers
      by name; numbers of a tuple are given one by one, text with commas, and
      numbers by name as 'name=1,other=2'.
    leave_out: fields that get no flag.
    choices: what a field of text may be.
  """
  # `python -OO` leaves out what is said.
  texts = dict(_ATTRIBUTE.findall(kind.__doc__ or ''))
  hints = typing.get_type_hints(kind)
  for field in dataclasses.fields(kind):
    if field.name in leave_out:
      continue
    default: Any = field.default
    if field.default_factory is not dataclasses.MISSING:
      default = [f'{k}={x:g}' for k, x in field.default_factory().items()]
    elif default is dataclasses.MISSING:
      default = None
    text = ' '.join(texts.get(field.name, field.name).split())
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


def define_overwrite(own_flags: flags.FlagValues) -> flags.FlagHolder[bool]:
  """Makes the flag of commands that write episodes."""
  text = 'Replaces episodes that are there already.'
  return flags.DEFINE_bool('overwrite', False, text, flag_values=own_flags)


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
  hints = typing.get_type_hints(kind)
  for field in dataclasses.fields(typing.cast(Any, kind)):
    if field.name in own_flags and field.name not in given:
      value: Any = own_flags[field.name].value
      if isinstance(value, list):
        value = tuple(part for part in value if part != '')
      if hints[field.name] == _ODDS:
        value = _numbers(field.name, value)
      values[field.name] = value
  return kind(**values)


def parse(own_flags: flags.FlagValues, argv: list[str]) -> list[str]:
  """Parses a command line whose flags are kept apart from absl's.

  What is wrong with it ends the process in one sentence.

  Args:
    own_flags: of the command; `--import` and `--compile_cache` are added.
    argv: the command and its arguments.

  Returns:
    The command. Paths of all flags begin where `~` points to. What is compiled
    from here on is kept, unless a flag says otherwise.
  """
  prepare()
  imports.define(own_flags)
  compile_cache.define(own_flags)
  argv = at_home(argv)
  imports.import_files(argv)
  for name in own_flags:
    flags.FLAGS[name] = own_flags[name]
  show_in_help(argv[0], own_flags, own_flags)
  try:
    rest = flags.FLAGS(argv)
  except flags.Error as error:
    sys.exit(what_is_wrong(error, own_flags))
  own_flags.mark_as_parsed()
  compile_cache.use(own_flags)
  return finish(rest)


def show_in_help(
  command: str, own_flags: flags.FlagValues, names: Iterable[str]
) -> None:
  """Has `--help` show flags, wherever they were made.

  Args:
    command: the first word of the command line.
    own_flags: where they are.
    names: of them.
  """
  for name in names:
    # It shows what belongs to the main module.
    flags.FLAGS.register_key_flag_for_module(command, own_flags[name])


def finish(rest: list[str]) -> list[str]:
  """Refuses arguments that are no flags, and has absl log warnings only."""
  if rest[1:]:
    sys.exit(f'Every argument is a flag, as in --name=value, got {rest[1]!r}.')
  if not flags.FLAGS['verbosity'].present:
    logging.set_verbosity(logging.WARNING)
    # It says where its cache is and which font it has not.
    std_logging.getLogger('matplotlib').setLevel(std_logging.ERROR)
  return rest


def prepare() -> None:
  """Makes the process one that commands run in; see also `starting.begin`.

  Terminals show `?` for what they have no letter for: a table has lines that
  ASCII and Latin-1 have not, and nobody's results are lost for a letter. JAX
  promotes dtypes, on which optimisers of others rely. Memory that is freed
  is kept, and what has been imported is never looked through for garbage, nor
  is the rest as often: what tracing makes stays.
  """
  allocation.keep_freed()
  gc.freeze()
  gc.set_threshold(50_000, 10, 10)
  jax.config.update('jax_numpy_dtype_promotion', 'standard')
  for stream in (sys.stdout, sys.stderr):
    if isinstance(stream, io.TextIOWrapper):
      stream.reconfigure(errors='replace')


def what_is_wrong(error: Exception, names: Iterable[str]) -> str:
  """One sentence about a command line that cannot be parsed.

  Args:
    error: what absl or a config says.
    names: of the command's own flags.
  """
  if isinstance(error, flags.UnrecognizedFlagError):
    name = error.flagname
    if name.partition('.')[0] in names and '.' in name:
      first = name.partition('.')[0]
      return f'--{name} needs --{first}=FILE before it.'
    near = files.nearest(name, names)
    return f'There is no flag --{name}.' + (
      near.replace("'", '--', 1).replace("'", '')
      if near
      else f' Those of this command are {", ".join(f"--{x}" for x in names)}.'
    )
  found = _ILLEGAL.match(str(error))
  if found is None or found[1] not in flags.FLAGS or found[1] == 'config':
    # What is wrong comes last, behind a traceback or the places looked at.
    last = str(error).strip().splitlines()[-1].strip()
    if missing := re.search(r"No such file or directory: '(.*)'", last):
      return (
        f'There is no config file {missing[1]!r}; run the command in the '
        "repository's root, or give the whole path."
      )
    if early := re.match(r'Found (--?(\w+)[\w.]*)', last):
      return f'{early[1]} needs --{early[2]}=FILE before it.'
    said = re.sub(r'^[\w.]+Error: ', '', last)
    return said if said.endswith(('.', '?', ').')) else f'{said}.'
  name, value = found.groups()
  parser: Any = flags.FLAGS[name].parser
  if isinstance(parser, flags.EnumParser):
    try:
      fields.check_choice(name, value, parser.enum_values)
    except ValueError as unknown:
      return str(unknown)
  wanted = _WANTED.get(parser.flag_type(), f'of type {parser.flag_type()}')
  return f'{name} must be {wanted}, got {value!r}.'


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


def _numbers(flag: str, parts: Iterable[str]) -> dict[str, float]:
  """Numbers by name, of 'name=1' and the like.

  Raises:
    ValueError: a part of another form, or a name that is there twice.
  """
  found = {}
  for part in parts:
    name, _, number = (word.strip() for word in part.partition('='))
    if name in found:
      raise ValueError(f'--{flag} names {name!r} twice.')
    try:
      found[name] = float(number)
    except ValueError:
      raise ValueError(
        f'{flag} must be a list like expert=1,smooth=2, got {part!r} in it.'
      ) from None
  return found
