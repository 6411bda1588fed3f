"""Heads read latents: each is learnt on those of one frozen encoder."""

from collections.abc import Mapping
from typing import Any

from jepa_wm import fields
from jepa_wm.models.heads.head import (
  HEADS,
  Fits,
  Head,
  Learner,
  Roles,
  Sizes,
)

__all__ = [
  'HEADS',
  'Fits',
  'Head',
  'Learner',
  'Roles',
  'Sizes',
  'from_config',
]


def from_config(config: Mapping[str, Any], sizes: Sizes) -> Any:
  """Builds the head that settings describe.

  Args:
    config: `{'name': 'decoder', **fields}`; fields left out have their
      defaults.
    sizes: of the latents that it reads.

  Returns:
    A `Learner`, or a `Fits` where its settings say so.

  Raises:
    ValueError: no such head, no such field, a field out of its range, or
      latents that it cannot read.
  """
  return fields.from_dict(HEADS, config).build(sizes)
