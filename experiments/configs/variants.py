"""What all configs do: refuse a variant there is not, make all fields flags."""

import dataclasses
from collections.abc import Sequence

import ml_collections

from jepa_wm import families
from jepa_wm.data import augmentation
from jepa_wm.data import config as data_config
from jepa_wm.training import hooks, optimizers

_RUN = {'frozen_encoder': '', **dataclasses.asdict(hooks.Intervals())}


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
  """Adds every field that a config may have and this one leaves out.

  Only what a config holds can be a flag.

  Args:
    config: with `model`, a family's name and fields, `optimizer` and `data`;
      changed.

  Raises:
    ValueError: a field that there is not, or out of its range.
  """
  family = families.from_config(config.model.to_dict())
  filled = {
    'model': families.to_config(family),
    'optimizer': optimizers.to_config(**config.optimizer),
    'data': dataclasses.asdict(data_config.DataConfig(**config.data)),
    'augmentation': dataclasses.asdict(
      augmentation.Augmentation(**config.get('augmentation', {}))
    ),
  }
  for name, fields in filled.items():
    config[name] = ml_collections.ConfigDict(fields)
  for name, value in _RUN.items():
    if name not in config:
      config[name] = value
