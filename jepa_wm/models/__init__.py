"""Published systems: one page each, which fills the slots of `jepa.Jepa`."""

from collections.abc import Mapping
from typing import Any

from jepa_wm import fields
from jepa_wm.models.model import MODELS, Advances, Encodes, Learns, Level

__all__ = ['MODELS', 'Advances', 'Encodes', 'Learns', 'Level', 'from_config']


def from_config(config: Mapping[str, Any]) -> Any:
  """Builds the model that a config describes.

  Args:
    config: `{'name': 'lewm', **fields}`, nested as `fields.to_dict` has it;
      fields left out have their defaults.

  Returns:
    A `model.Learns`, whose `config` says all of it.

  Raises:
    ValueError: no name, no such model, no such field (the message suggests the
      nearest), or a field out of its range.
  """
  return fields.from_dict(MODELS, config).build()
