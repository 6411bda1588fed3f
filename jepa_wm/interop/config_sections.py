"""Modules of a published `config.json`, in which nothing may be overlooked."""

from collections.abc import Mapping, Sequence
from typing import Any


class Section:
  """One module of a Hydra tree, read field by field.

  Args:
    config: the tree, a `config.json`.
    name: of the module in it.
    modules: those that the model has, for messages.

  Raises:
    ValueError: there is no such module; and by its methods, a field that
      is missing, unknown or of another value.
  """

  def __init__(
    self, config: Mapping[str, Any], name: str, modules: Sequence[str]
  ):
    if not isinstance(config.get(name), dict):
      raise ValueError(
        f'config.json: no {name!r}, the model has all of {", ".join(modules)}.'
      )
    self._fields, self._name = config[name], name

  def get(self, key: str, default: Any = None) -> Any:
    """The value of `key`, which must be there if it has no default."""
    value = self._fields.get(key, default)
    if value is None:
      raise ValueError(f'config.json: {self._name!r} has no {key!r}.')
    return value

  def only(self, *known: str) -> None:
    """Refuses what the model cannot be told."""
    if unknown := sorted(self._fields.keys() - {*known, '_target_'}):
      raise ValueError(
        f'config.json: {self._name!r} sets {unknown[0]!r}, which the model '
        f'has no field for; it knows {", ".join(known)}.'
      )

  def expect(self, key: str, value: Any, why: str) -> None:
    """Refuses another value than `value`, if there is any."""
    if self._fields.get(key, value) != value:
      raise ValueError(
        f'config.json: {self._name!r} has {key}={self._fields[key]!r}, the '
        f'model needs {value!r} there, {why}.'
      )
