"""Published systems: which networks, which objectives, which defaults."""

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any

from jepa_wm.families.lewm import LeWM
from jepa_wm.families.pldm import PLDM

FAMILIES = {family.name: family for family in (LeWM, PLDM)}

__all__ = ['FAMILIES', 'PLDM', 'LeWM', 'from_config', 'to_config']


def from_config(config: Mapping[str, Any]) -> Any:
  """Builds a family from its name and fields.

  Args:
    config: `{'name': 'lewm', **fields}`; fields left out have their defaults.

  Returns:
    The family, a frozen dataclass.

  Raises:
    ValueError: no name, no such family, no such field (the message suggests
      the nearest), or a field out of its range.
  """
  fields = dict(config)
  name = fields.pop('name', None)
  if name not in FAMILIES:
    raise ValueError(
      f"The config's name must be one of {sorted(FAMILIES)}, got {name!r}."
      + _suggestion(name, FAMILIES)
    )
  family = FAMILIES[name]
  known = [field.name for field in dataclasses.fields(family)]
  for field in fields:
    if field not in known:
      raise ValueError(
        f'The family {name!r} has no field {field!r}.'
        + (_suggestion(field, known) or f' It has {", ".join(known)}.')
      )
  return family(**fields)


def to_config(family: Any) -> dict[str, Any]:
  """The name and all fields of `family`, which `from_config` reads back."""
  return {'name': family.name, **dataclasses.asdict(family)}


def _suggestion(word: Any, known: Any) -> str:
  near = difflib.get_close_matches(str(word), list(known), n=1)
  return f' Did you mean {near[0]!r}?' if near else ''
