"""Frozen dataclasses as configs: checks, plain dicts, and registries of names.

A config is `{'name': 'lewm', **fields}`. A field that holds something with a
name is declared by `one_of` and written as such a mapping itself.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from jepa_wm import files

_T = TypeVar('_T')
_REGISTRY = 'registry'


class Registry(Generic[_T]):
  """Classes or functions by name."""

  def __init__(self, kind: str):
    """Makes an empty one.

    Args:
      kind: what it holds, for its sentences: 'family', 'encoder'.
    """
    self.kind = kind
    self._entries: dict[str, _T] = {}

  def register(self, name: str) -> Callable[[_T], _T]:
    """A decorator that adds a class or function under `name`.

    Raises:
      ValueError: the name is taken.
    """
    if name in self._entries:
      raise ValueError(
        f'The name {name!r} is that of another {self.kind} already.'
      )

    def add(entry: _T) -> _T:
      self._entries[name] = entry
      return entry

    return add

  def get(self, name: Any) -> _T:
    """What is registered under `name`.

    Raises:
      ValueError: nothing is; the message suggests the nearest name.
    """
    if not isinstance(name, str) or name not in self._entries:
      raise ValueError(
        f"The {self.kind}'s name must be one of {self.names()}, got {name!r}."
        + files.nearest(name, self._entries)
      )
    return self._entries[name]

  def name_of(self, entry: Any) -> str:
    """The name under which `entry` is registered.

    Raises:
      ValueError: under none.
    """
    for name, known in self._entries.items():
      if known is entry:
        return name
    raise ValueError(
      f'{entry!r} is no {self.kind} with a name, those are {self.names()}.'
    )

  def names(self) -> list[str]:
    """All names, sorted."""
    return sorted(self._entries)


def one_of(registry: Registry[Any], default: Any) -> Any:
  """A dataclass field that holds one or a tuple of what a registry names."""
  return dataclasses.field(default=default, metadata={_REGISTRY: registry})


def from_dict(registry: Registry[type[_T]], config: Mapping[str, Any]) -> _T:
  """Builds a dataclass from its name and fields.

  Args:
    registry: of the dataclasses by name.
    config: `{'name': ..., **fields}`; fields left out have their defaults. A
      field that holds a dataclass is a mapping: with a name, it is built anew
      (from the registry of `one_of`, or `registry` where the field declares
      none); without one, its fields replace those of the default.

  Raises:
    ValueError: no name, no such name, no such field (the message suggests the
      nearest), or a field out of its range.
  """
  fields = dict(config)
  name = fields.pop('name', None)
  kind: Any = registry.get(name)
  return kind(
    **_values(kind, f'The {registry.kind} {name!r}', fields, registry)
  )


def to_dict(registry: Registry[Any], value: Any) -> dict[str, Any]:
  """The name and all fields of a dataclass, which `from_dict` reads back.

  Args:
    registry: of the dataclass.
    value: the dataclass.

  Raises:
    ValueError: a dataclass that its registry does not know.
  """
  return {
    'name': registry.name_of(type(value)),
    **_values_of(value, registry),
  }


def check_names(
  of: str, given: Sequence[str] | Mapping[str, Any], known: Sequence[str]
) -> None:
  """Refuses names of fields that are not known.

  Args:
    of: what has the fields, for the sentence: "The family 'lewm'".
    given: names.
    known: those there are.

  Raises:
    ValueError: the first that is not there; the nearest is suggested.
  """
  for name in given:
    if name not in known:
      raise ValueError(
        f'{of} has no field {name!r}.'
        + (files.nearest(name, known) or f' It has {", ".join(known)}.')
      )


def check(
  config: Any,
  choices: Mapping[str, tuple[Any, ...]],
  *,
  may_be_zero: Sequence[str] = (),
) -> None:
  """Checks every field of `config` by the kind of its default.

  An integer must be positive, a number finite and not negative, a tuple hold
  integers that are not negative; lists, which is what JSON has, become tuples.

  Args:
    config: a frozen dataclass whose fields all have defaults, checked while it
      is being made.
    choices: for every field of text, the values it may have, beside those in
      its class attribute `choices`, if it has one.
    may_be_zero: integers for which zero means something.

  Raises:
    ValueError: a field out of its range; the message names it.
  """
  choices = {**getattr(config, 'choices', {}), **choices}
  for field in dataclasses.fields(config):
    name, value = field.name, getattr(config, field.name)
    if isinstance(field.default, tuple):
      integers = isinstance(value, (list, tuple)) and all(
        _is_integer(x) and x >= 0 for x in value
      )
      if not integers or not value:
        raise ValueError(
          f'{name} must list integers that are not negative, got {value!r}.'
        )
      object.__setattr__(config, name, tuple(value))
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


def _values(
  kind: Any, of: str, given: Mapping[str, Any], registry: Registry[Any]
) -> dict[str, Any]:
  """Fields as a dataclass takes them, out of those of a plain dict."""
  known = {field.name: field for field in dataclasses.fields(kind)}
  check_names(of, given, list(known))
  return {
    name: _built(value, known[name], registry) for name, value in given.items()
  }


def _built(
  value: Any, field: dataclasses.Field[Any], registry: Registry[Any]
) -> Any:
  """Inverts `_plain`."""
  own = field.metadata.get(_REGISTRY)
  if isinstance(value, (list, tuple)) and own is not None:
    return tuple(_built(entry, field, registry) for entry in value)
  if not isinstance(value, Mapping):
    return value
  if 'name' in value:
    return from_dict(registry if own is None else own, value)
  default: Any = field.default
  if dataclasses.is_dataclass(default) and not isinstance(default, type):
    fields = _values(type(default), field.name, value, own or registry)
    return dataclasses.replace(default, **fields)
  return from_dict(own, value) if own is not None else value


def _plain(
  value: Any, field: dataclasses.Field[Any], registry: Registry[Any]
) -> Any:
  """The value of a field as a plain dict has it."""
  own = field.metadata.get(_REGISTRY)
  if isinstance(value, tuple) and own is not None:
    return [_plain(entry, field, registry) for entry in value]
  if not dataclasses.is_dataclass(value) or isinstance(value, type):
    return value
  if own is None and type(value) is type(field.default):
    return _values_of(value, registry)
  return to_dict(registry if own is None else own, value)


def _values_of(value: Any, registry: Registry[Any]) -> dict[str, Any]:
  """All fields of a dataclass as a plain dict has them."""
  return {
    field.name: _plain(getattr(value, field.name), field, registry)
    for field in dataclasses.fields(value)
  }


def _is_integer(value: Any) -> bool:
  """Whether `value` is an integer and no bool, which Python counts as one."""
  return isinstance(value, int) and not isinstance(value, bool)
