"""Settings as frozen dataclasses: checked, named, read from plain dicts.

A setting is a frozen dataclass whose fields all have defaults. Where one of
several kinds may stand (an encoder, a term), each kind has a class attribute
`name`, is registered under it, and the field that holds it is made by `one_of`
or `some_of`. `from_dict` and `to_dict` then read and write the whole tree.
"""

import dataclasses
import difflib
import importlib
import math
import pkgutil
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_REGISTRY, _MANY = 'registry', 'many'


class Registry:
  """Kinds of one thing by name, each registered in a file of its own.

  Attributes:
    kind: what the things are called in messages ('encoder').
    package: package whose modules register them; all are imported when a name
      is first looked up, so that a new kind is a new file and no other edit.
  """

  def __init__(self, kind: str, package: str):
    self.kind, self.package = kind, package
    self._classes: dict[str, Any] = {}
    self._is_complete = False

  def register(self, cls: Any) -> Any:
    """Registers a frozen dataclass under its `name`; a decorator.

    Raises:
      ValueError: another class has that name.
    """
    before = self._classes.setdefault(cls.name, cls)
    if before.__qualname__ != cls.__qualname__:
      raise ValueError(f'There are two {self.kind}s named {cls.name!r}.')
    self._classes[cls.name] = cls
    return cls

  def names(self) -> tuple[str, ...]:
    """Names of all kinds, sorted."""
    self._import_all()
    return tuple(sorted(self._classes))

  def find(self, name: Any, *, where: str = '') -> Any:
    """The class registered as `name`.

    Args:
      name: of the kind.
      where: the config path of the name, for the message.

    Raises:
      ValueError: there is no such kind; the message suggests the nearest.
    """
    if name not in self._classes:
      self._import_all()
    if name not in self._classes:
      field = f'{where}.name' if where else f"The config's {self.kind} name"
      raise ValueError(
        f'{field} must be one of {list(self.names())}, got {name!r}.'
        + suggestion(name, self._classes)
      )
    return self._classes[name]

  def _import_all(self) -> None:
    if self._is_complete:
      return
    package = importlib.import_module(self.package)
    for module in pkgutil.iter_modules(package.__path__):
      importlib.import_module(f'{self.package}.{module.name}')
    self._is_complete = True


def one_of(registry: Registry, default: Any) -> Any:
  """A field that holds one registered kind; `{'name': ..., **fields}`."""
  return dataclasses.field(default=default, metadata={_REGISTRY: registry})


def some_of(registry: Registry, default: tuple[Any, ...]) -> Any:
  """A field that holds a tuple of kinds; `{name: fields}`, order kept."""
  return dataclasses.field(
    default=default, metadata={_REGISTRY: registry, _MANY: True}
  )


def from_dict(
  registry: Registry, config: Mapping[str, Any], *, where: str = ''
) -> Any:
  """Builds a registered dataclass, and all that it holds, from plain dicts.

  Args:
    registry: of the outermost thing.
    config: `{'name': ..., **fields}`; fields left out have their defaults, and
      a kind left out (`{'predictor': {'depth': 2}}`) is the default's.
    where: path of `config` in a larger config, for messages.

  Raises:
    ValueError: no such kind, no such field (the message suggests the nearest),
      or a field out of its range.
  """
  fields = dict(config)
  cls = registry.find(fields.pop('name', None), where=where)
  return _build(cls, fields, where)


def to_dict(value: Any) -> dict[str, Any]:
  """The name and all fields of `value`, which `from_dict` reads back."""
  found: dict[str, Any] = {'name': value.name}
  for field in dataclasses.fields(value):
    held = getattr(value, field.name)
    if field.metadata.get(_MANY):
      held = {part.name: _without_name(to_dict(part)) for part in held}
    elif _REGISTRY in field.metadata and held is not None:
      held = to_dict(held)
    found[field.name] = held
  return found


def check(
  value: Any,
  choices: Mapping[str, Sequence[Any]] | None = None,
  *,
  may_be_zero: Sequence[str] = (),
  shares: Sequence[str] = (),
) -> None:
  """Checks every field of `value` by the kind of its default.

  An integer must be positive, a number finite and not negative, a tuple hold
  integers that are not negative; lists, which is what JSON has, become tuples.
  Fields of `one_of` and `some_of` check themselves.

  Args:
    value: a frozen dataclass whose fields all have defaults, checked while it
      is being made.
    choices: for every field of text, the values it may have.
    may_be_zero: integers for which zero means something.
    shares: numbers that must be at most 1.

  Raises:
    ValueError: a field out of its range; the message names it.
  """
  choices = choices or {}
  for field in dataclasses.fields(value):
    if _REGISTRY in field.metadata:
      continue
    name, held = field.name, getattr(value, field.name)
    if isinstance(field.default, tuple):
      _check_integers(name, held)
      object.__setattr__(value, name, tuple(held))
    elif isinstance(field.default, bool):
      if not isinstance(held, bool):
        raise ValueError(f'{name} must be true or false, got {held!r}.')
    elif isinstance(field.default, int):
      least = 0 if name in may_be_zero else 1
      if not _is_integer(held) or held < least:
        kind = 'an integer of at least 0' if not least else 'a positive integer'
        raise ValueError(f'{name} must be {kind}, got {held!r}.')
    elif isinstance(field.default, float):
      number = _is_integer(held) or isinstance(held, float)
      if not number or not math.isfinite(held) or held < 0:
        raise ValueError(
          f'{name} must be a finite number of at least 0, got {held!r}.'
        )
      if name in shares and held > 1:
        raise ValueError(f'{name} must be at most 1, got {held!r}.')
    elif held not in choices[name]:
      raise ValueError(
        f'{name} must be one of {tuple(choices[name])}, got {held!r}.'
      )


def suggestion(word: Any, known: Iterable[str]) -> str:
  """' Did you mean ...?' with the nearest of `known`, or nothing."""
  near = difflib.get_close_matches(str(word), list(known), n=1)
  return f' Did you mean {near[0]!r}?' if near else ''


def _build(cls: Any, config: Mapping[str, Any], where: str) -> Any:
  known = {field.name: field for field in dataclasses.fields(cls)}
  values = {}
  for name, value in config.items():
    if name not in known:
      raise ValueError(
        f'{where or "The config"} ({cls.name!r}) has no field {name!r}.'
        + (suggestion(name, known) or f' It has {", ".join(known)}.')
      )
    field, path = known[name], f'{where}.{name}' if where else name
    registry = field.metadata.get(_REGISTRY)
    if field.metadata.get(_MANY):
      value = tuple(
        _build(registry.find(kind, where=path), fields, f'{path}.{kind}')
        for kind, fields in value.items()
      )
    elif registry is not None and isinstance(value, Mapping):
      value = from_dict(
        registry, {'name': _default_name(field), **value}, where=path
      )
    values[name] = value
  try:
    return cls(**values)
  except ValueError as error:
    raise ValueError(f'{where}: {error}' if where else str(error)) from error


def _default_name(field: Any) -> Any:
  return None if field.default is None else field.default.name


def _without_name(config: dict[str, Any]) -> dict[str, Any]:
  return {key: value for key, value in config.items() if key != 'name'}


def _check_integers(name: str, held: Any) -> None:
  integers = isinstance(held, (list, tuple)) and all(
    _is_integer(x) and x >= 0 for x in held
  )
  if not integers or not held:
    raise ValueError(
      f'{name} must list integers that are not negative, got {held!r}.'
    )


def _is_integer(value: Any) -> bool:
  """Whether `value` is an integer and no bool, which Python counts as one."""
  return isinstance(value, int) and not isinstance(value, bool)
