"""Checks of a family's fields, so that a bad config fails with a sentence."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any


def check(
  family: Any,
  choices: Mapping[str, tuple[Any, ...]],
  *,
  may_be_zero: Sequence[str] = (),
) -> None:
  """Checks every field of `family` by the kind of its default.

  An integer must be positive, a number finite and not negative, a tuple hold
  integers that are not negative; lists, which is what JSON has, become tuples.

  Args:
    family: a frozen dataclass whose fields all have defaults, checked while it
      is being made.
    choices: for every field of text, the values it may have, beside those in
      its class attribute `choices`, if it has one.
    may_be_zero: integers for which zero means something.

  Raises:
    ValueError: a field out of its range; the message names it.
  """
  choices = {**getattr(family, 'choices', {}), **choices}
  for field in dataclasses.fields(family):
    name, value = field.name, getattr(family, field.name)
    if isinstance(field.default, tuple):
      integers = isinstance(value, (list, tuple)) and all(
        _is_integer(x) and x >= 0 for x in value
      )
      if not integers or not value:
        raise ValueError(
          f'{name} must list integers that are not negative, got {value!r}.'
        )
      object.__setattr__(family, name, tuple(value))
    elif isinstance(field.default, int):
      least = 0 if name in may_be_zero else 1
      if not _is_integer(value) or value < least:
        kind = 'an integer of at least 0' if not least else 'a positive integer'
        raise ValueError(f'{name} must be {kind}, got {value!r}.')
    elif isinstance(field.default, float):
      number = _is_integer(value) or isinstance(value, float)
      if not number or not math.isfinite(value) or value < 0:
        raise ValueError(
          f'{name} must be a finite number of at least 0, got {value!r}.'
        )
    elif value not in choices[name]:
      raise ValueError(f'{name} must be one of {choices[name]}, got {value!r}.')


def _is_integer(value: Any) -> bool:
  """Whether `value` is an integer and no bool, which Python counts as one."""
  return isinstance(value, int) and not isinstance(value, bool)
