"""Flags of a planner's own settings, whatever it has."""

import ast
from typing import Any

from absl import flags

_SIZES = {
  'num_samples': 'Candidates per iteration',
  'num_elites': 'Candidates that an iteration learns from',
  'num_iterations': 'Iterations per plan',
}


def define(own_flags: flags.FlagValues) -> None:
  """Makes them, for a command whose recipe has `options`."""
  for name, text in _SIZES.items():
    flags.DEFINE_integer(
      name,
      None,
      f"{text}; the planner's default if left out.",
      flag_values=own_flags,
    )
  flags.DEFINE_multi_string(
    'set',
    [],
    'Any other option of the planner, as name=value, such as '
    '--set=min_std=0.05; may be given more than once. One that it does not '
    'have is answered by those that it has. Of several planners those take it '
    'that have it, or the one that is named, as in --set=icem.num_kept=2.',
    flag_values=own_flags,
  )


def read(own_flags: flags.FlagValues) -> dict[str, Any]:
  """Options of the planners, from the flags for them and from `--set`.

  Raises:
    ValueError: one that is not `name=value`, whose value is no Python literal,
      or that is given twice.
  """
  options = {
    name: own_flags[name].value
    for name in _SIZES
    if own_flags[name].value is not None
  }
  others: list[str] = own_flags['set'].value or []
  for given in others:
    name, _, text = given.partition('=')
    try:
      value = ast.literal_eval(text)
    except (ValueError, SyntaxError) as error:
      raise ValueError(
        f'set must be name=value with a number, True, False, None or a quoted '
        f'string for a value, got {given!r}.'
      ) from error
    if name in options:
      raise ValueError(f'{name} is given twice, the second time as {given!r}.')
    options[name] = value
  return options
