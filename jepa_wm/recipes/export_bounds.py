"""Bounds of the raw actions that an exported plan gives."""

from typing import Protocol

import numpy as np

from jepa_wm import exports
from jepa_wm.envs import worlds


class Asked(Protocol):
  """What is asked for, of `exporting.Exporting`."""

  @property
  def checkpoint(self) -> str:
    """Of the model."""
    ...

  @property
  def environment(self) -> str | None:
    """The world; None for that of the model."""
    ...

  @property
  def action_low(self) -> tuple[float, ...]:
    """Lowest raw action; empty for that of the world."""
    ...

  @property
  def action_high(self) -> tuple[float, ...]:
    """Highest raw action."""
    ...


def world_of(exporting: Asked, model: exports.WorldModel) -> str | None:
  """The world whose actions a plan gives; None where nobody knows it."""
  if exporting.environment is not None:
    return exporting.environment
  found = model.record.get('config', {}).get('data', {}).get('environment')
  return found if worlds.find(found) else None


def of(
  exporting: Asked, model: exports.WorldModel, environment: str | None
) -> tuple[np.ndarray, np.ndarray]:
  """Lowest and highest raw action `[raw]` of a plan."""
  raw = model.action_dim // model.action_block
  given = exporting.action_low, exporting.action_high
  if not exporting.action_low:
    if environment is None:
      raise ValueError(
        f'{exporting.checkpoint} does not say which world its actions are of; '
        'give the lowest and the highest with --action_low and --action_high, '
        'or name the world with --environment.'
      )
    world = worlds.get(environment).make()
    given = world.action_low, world.action_high
  low, high = (np.asarray(x, np.float32) for x in given)
  for name, bound in (('action_low', low), ('action_high', high)):
    if bound.shape not in ((1,), (raw,)):
      raise ValueError(
        f'{name}: expected one number or {raw}, one for each raw action of '
        f'{exporting.checkpoint}, got {bound.size}.'
      )
  low, high = (np.broadcast_to(x, raw) for x in (low, high))
  if not np.all(low < high):
    raise ValueError(
      f'action_low must lie below action_high, got {low.tolist()} and '
      f'{high.tolist()}.'
    )
  return low, high
