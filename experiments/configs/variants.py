"""What all configs do: refuse a variant there is not, make all fields flags."""

from collections.abc import Sequence

import ml_collections

from jepa_wm import families
from jepa_wm.training import optimizers


def check(variant: str, known: Sequence[str]) -> None:
  """Refuses a variant that a config does not have.

  Args:
    variant: what was asked for.
    known: the variants of the config.

  Raises:
    ValueError: `variant` is none of `known`.
  """
  if variant not in known:
    raise ValueError(
      f'There is no variant {variant!r} in this config; choose one of '
      f'{", ".join(known)}.'
    )


def fill_in(config: ml_collections.ConfigDict) -> None:
  """Adds the fields of `model` and `optimizer` left at their defaults.

  Only what a config holds can be a flag.

  Args:
    config: with `model`, a family's name and fields, and `optimizer`; changed.

  Raises:
    ValueError: a field that there is not, or out of its range.
  """
  family = families.from_config(config.model.to_dict())
  config.model = ml_collections.ConfigDict(families.to_config(family))
  config.optimizer = ml_collections.ConfigDict(
    optimizers.to_config(**config.optimizer)
  )
