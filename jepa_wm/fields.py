"""Settings as frozen dataclasses: checked, named, read from plain dicts.

A setting is a frozen dataclass whose fields all have defaults and are checked
as it is made: a field out of its range is a ValueError that names it (`check`,
which every `__post_init__` calls, often before checks of its own). Where one of
several kinds may stand (an encoder, a term), each kind has a class attribute
`name`, is registered under it, and the field that holds it is made by `one_of`
or `some_of`. `from_dict` and `to_dict` then read and write the whole tree.
"""

import dataclasses
import importlib
import pkgutil
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Protocol

from jepa_wm import bounds, files

_REGISTRY, _MANY = 'registry', 'many'


class Named(Protocol):
  """What a `Registry` holds.

  Attributes:
    name: of its kind in a config.
  """

  name: ClassVar[str]


class UnknownNameError(ValueError):
  """A name that nothing has; says the nearest, and all there are."""


class Registry:
  """Kinds of one thing by name, each registered in a file of its own."""

  def __init__(self, kind: str, package: str = ''):
    """Makes an empty one.

    Args:
      kind: what the things are called in messages ('encoder').
      package: whose modules register them; all are imported when a name is
        first looked up, so that a new kind is a new file and no other edit.
    """
    self.kind, self._package = kind, package
    self._classes: dict[str, Any] = {}
    self._is_complete = not package

  def register(self, cls: Any) -> Any:
    """Registers a frozen dataclass under its `name`; a decorator.

    Raises:
      ValueError: another class has that name.
    """
    if cls.name in self._classes:
      raise ValueError(
        f'The name {cls.name!r} is that of another {self.kind} already.'
      )
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
      UnknownNameError: there is no such kind.
    """
    field = f'{where}.name' if where else f"The {self.kind}'s name"
    check_choice(field, name, self.names(), is_open=True)
    return self._classes[name]

  def holds(self, value: Any) -> bool:
    """Whether `value` is of a registered kind."""
    self._import_all()
    return isinstance(value, tuple(self._classes.values()))

  def _import_all(self) -> None:
    if self._is_complete:
      return
    package = importlib.import_module(self._package)
    for module in pkgutil.iter_modules(package.__path__):
      importlib.import_module(f'{self._package}.{module.name}')
    self._is_complete = True


def one_of(registry: Registry, default: Any) -> Any:
  """A field that holds one registered kind; `{'name': ..., **fields}`."""
  return dataclasses.field(default=default, metadata={_REGISTRY: registry})


def some_of(registry: Registry, default: tuple[Any, ...]) -> Any:
  """A field that holds a tuple of kinds, each at most once; `{name: fields}`.

  `check` puts them in one order, whatever the order of a dict: those of the
  default in its order, then the others by name.
  """
  return dataclasses.field(
    default=default, metadata={_REGISTRY: registry, _MANY: True}
  )


def from_dict(
  registry: Registry, config: Mapping[str, Any], *, where: str = ''
) -> Any:
  """Builds a registered dataclass, and all that it holds, from plain dicts.

  Args:
    registry: of the outermost thing.
    config: `{'name': ..., **fields}`; fields left out have their defaults. Of a
      field of `one_of`, `{'name': ..., **fields}` is built anew, and fields
      without a name replace those of the default.
    where: path of `config` in a larger config, for messages.

  Raises:
    ValueError: no such kind, no such field (the message suggests the nearest),
      or a field out of its range.
  """
  if not isinstance(config, Mapping):
    raise ValueError(
      f'{where or registry.kind} must be a mapping of a name and fields, got '
      f'{config!r:.60}.'
    )
  fields = dict(config)
  cls = registry.find(fields.pop('name', None), where=where)
  return _build(cls, fields, where or f'The {registry.kind} {cls.name!r}')


def to_dict(value: Any) -> dict[str, Any]:
  """The name and all fields of `value`, which `from_dict` reads back."""
  found: dict[str, Any] = {'name': value.name}
  for field in dataclasses.fields(value):
    held = getattr(value, field.name)
    if field.metadata.get(_MANY):
      held = {part.name: to_dict(part) for part in held}
      for part in held.values():
        del part['name']
    elif _REGISTRY in field.metadata and held is not None:
      held = to_dict(held)
    found[field.name] = held
  return found


def with_kind(
  registry: Registry, config: dict[str, Any], path: Sequence[str], name: str
) -> dict[str, Any]:
  """A nested config with another kind at `path`, or one more of `some_of`.

  Args:
    registry: of the outermost thing.
    config: what `to_dict` gave.
    path: fields from there to the one that holds a kind: `('encoder',)`.
    name: of the kind.

  Returns:
    The config with all fields of the kind: those that the one before had, too,
    keep their values, the others have their defaults. It is not checked.

  Raises:
    ValueError: no such field, or no such kind.
  """
  cls = registry.find(config['name'])
  known = {x.name: x for x in dataclasses.fields(cls)}
  check_names(f'The {registry.kind} {cls.name!r}', path[:1], list(known))
  field, before = known[path[0]], config[path[0]]
  own = field.metadata.get(_REGISTRY)
  if own is None:
    raise ValueError(f'{path[0]} holds no kind with a name.')
  if path[1:]:
    after = with_kind(own, before, path[1:], name)
  else:
    after = to_dict(own.find(name, where=path[0])())
  if field.metadata.get(_MANY):
    del after['name']
    after = {name: after, **before}
  elif not path[1:]:
    shared = (before or {}).keys() & after.keys() - {'name'}
    after |= {x: before[x] for x in shared}
  return {**config, path[0]: after}


def check_choice(
  what: str, value: Any, known: Iterable[Any], *, is_open: bool = False
) -> None:
  """Refuses a `value` of `what` that is none of the `known` names.

  Raises:
    UnknownNameError: it is none; of an `is_open` one users add their own.
  """
  known = list(known)
  if value in known:
    return
  hint = files.nearest(value, known)
  if is_open and not hint:
    hint = ' One of your own needs its file imported first (--import=FILE.py).'
  shown = (str(x) if str(x).split() == [str(x)] else repr(x) for x in known)
  names = ', '.join(shown) or '(there is none)'
  raise UnknownNameError(f'{what} must be one of {names}, got {value!r}.{hint}')


def check_names(where: str, given: Iterable[str], known: Sequence[str]) -> None:
  """Refuses names of fields that are not known.

  Args:
    where: what has the fields, for the sentence: "The model 'lewm'".
    given: names.
    known: those there are.

  Raises:
    UnknownNameError: the first that is not there; the nearest is suggested.
  """
  has = f' It has {", ".join(known)}.' if known else ' It has no fields.'
  for name in given:
    if name not in known:
      hint = files.nearest(name, known) or has
      raise UnknownNameError(f'{where} has no field {name!r}.{hint}')


def check_types(where: str, kind: Any, given: Mapping[str, Any]) -> None:
  """Refuses values of plain fields that are of another type than those.

  Args:
    where: what has the fields, for the sentence: 'config.data'.
    kind: a dataclass; its fields of text, numbers and truth are looked at.
    given: values by name.
  """
  hints = typing.get_type_hints(kind)
  for name, value in given.items():
    hint = hints[name]
    # `Mapping[str, float]` has arguments, and is no choice of them.
    kinds = {hint}
    if isinstance(hint, types.UnionType):
      kinds = set(typing.get_args(hint))
    if not kinds <= {str, int, float, bool, type(None)}:
      continue
    own = {type(value)} | ({float} if bounds.is_whole(value) else set())
    if not own & kinds:
      wanted = ' or '.join(sorted(x.__name__ for x in kinds))
      raise ValueError(f'{where}.{name} must be {wanted}, got {value!r:.60}.')


def check_counts(
  value: Any, least: Mapping[str, int], most: Mapping[str, int] | None = None
) -> None:
  """Checks fields that count something, or seed it; None is left alone.

  Args:
    value: what has them.
    least: of each.
    most: of some.

  Raises:
    ValueError: one that is no whole number of 63 bits, or out of its range.
  """
  for name, low in least.items():
    held = getattr(value, name)
    if held is None:
      continue
    if not bounds.is_whole(held):
      raise ValueError(f'{name} must be a whole number, got {held!r}.')
    if held < low:
      raise ValueError(f'{name} must be at least {low}, got {held}.')
    if held > (high := (most or {}).get(name, 2**63 - 1)):
      raise ValueError(f'{name} must be at most {high}, got {held}.')


def check(
  value: Any,
  choices: Mapping[str, Sequence[Any]] | None = None,
  *,
  may_be_zero: Sequence[str] = (),
  shares: Sequence[str] = (),
  most: Mapping[str, int] | None = None,
) -> None:
  """Checks every field of `value` by the kind of its default.

  An integer must be positive, a number finite and not negative, a tuple hold
  integers, or numbers if its default does, that are not negative; all must be
  within `bounds`, and a list is made a tuple. What fields of `one_of` and
  `some_of` hold checks itself.

  Args:
    value: a frozen dataclass whose fields all have defaults.
    choices: for every field of text, the values it may have.
    may_be_zero: integers for which zero means something.
    shares: numbers that must be at most 1; `most` says it of integers.

  Raises:
    ValueError: a field out of its range; the message names it.
  """
  for field in dataclasses.fields(value):
    name, held = field.name, getattr(value, field.name)
    if field.metadata.get(_MANY):
      object.__setattr__(value, name, _ordered(name, held, field.default))
    if _REGISTRY in field.metadata:
      continue
    if isinstance(field.default, tuple):
      object.__setattr__(value, name, _listed(name, held, field.default))
    elif isinstance(field.default, bool):
      if not isinstance(held, bool):
        raise ValueError(f'{name} must be true or false, got {held!r}.')
    elif isinstance(field.default, int):
      least, own = int(name not in may_be_zero), (most or {}).get(name)
      bounds.check_whole(name, held, least=least, most=own)
    elif isinstance(field.default, float):
      share = 1.0 if name in shares else bounds.MOST_NUMBER
      bounds.check_number(name, held, most=share)
    else:
      check_choice(name, held, (choices or {})[name])


def _build(
  cls: Any, config: Mapping[str, Any], where: str, default: Any = None
) -> Any:
  """`cls` of the fields in `config`, or `default` with them replaced."""
  known = {field.name: field for field in dataclasses.fields(cls)}
  check_names(where, config, list(known))
  values = {name: _built(x, known[name]) for name, x in config.items()}
  if default is not None:
    return dataclasses.replace(default, **values)
  return cls(**values)


def _built(value: Any, field: Any) -> Any:
  """The value of a field, out of what a plain dict has for it."""
  registry = field.metadata.get(_REGISTRY)
  if registry is None:
    return value
  if not isinstance(value, Mapping):
    is_many = bool(field.metadata.get(_MANY))
    made = value if is_many and isinstance(value, tuple) else (value,)
    if value != field.default and not all(map(registry.holds, made)):
      raise ValueError(
        f'{field.name} must be a mapping of '
        f'{"names to fields" if is_many else "a name and fields"}, got '
        f'{value!r:.60}.'
      )
    return value
  if field.metadata.get(_MANY):
    defaults = {part.name: part for part in field.default}
    return tuple(
      _build(
        registry.find(name, where=field.name),
        fields,
        f'{field.name}.{name}',
        defaults.get(name),
      )
      for name, fields in value.items()
    )
  if 'name' in value or field.default is None:
    return from_dict(registry, value, where=field.name)
  return _build(type(field.default), value, field.name, field.default)


def _ordered(name: str, held: Sequence[Any], default: Any) -> tuple[Any, ...]:
  """What a field of `some_of` holds, in the one order."""
  names = [part.name for part in held]
  if twice := [x for x in names if names.count(x) > 1]:
    raise ValueError(f'{name} holds {twice[0]!r} twice.')
  first = [part.name for part in default]
  rank = lambda x: (first.index(x) if x in first else len(first), x)
  return tuple(sorted(held, key=lambda part: rank(part.name)))


def _listed(name: str, held: Any, default: tuple[Any, ...]) -> tuple[Any, ...]:
  """The tuple that a field holds, of integers or numbers as its default is."""
  known = (int, float) if isinstance(default[0], float) else (int,)
  most = bounds.MOST_NUMBER if float in known else bounds.most_of(name)
  if not isinstance(held, (list, tuple)) or not (
    held and all(type(x) in known and 0 <= x <= most for x in held)
  ):
    kind = 'numbers' if float in known else 'integers'
    raise ValueError(
      f'{name} must list {kind}, none negative or above {most:g}, got '
      f'{held!r:.60}.'
    )
  if len(held) > (longest := bounds.most_of('depth')):
    raise ValueError(f'{name} must list at most {longest}, got {len(held)}.')
  return tuple(type(default[0])(x) for x in held)
