"""Heads read latents: each is learnt on those of one frozen encoder."""

from collections.abc import Mapping
from typing import Any

from jepa_wm import fields
from jepa_wm.models.heads.head import HEADS, Head, Roles, Sizes

__all__ = ['HEADS', 'Head', 'Roles', 'Sizes', 'from_config']


def from_config(config: Mapping[str, Any], sizes: Sizes) -> Head:
  """Builds the head that settings describe.

  Args:
    config: `{'name': 'decoder', **fields}`; fields left out have their
      defaults.
    sizes: of the latents that it reads.

  Raises:
    ValueError: no such head, no such field, a field out of its range, or
      latents that it cannot read.
  """
  built: Head = fields.from_dict(HEADS, config).build(sizes)
  return built
