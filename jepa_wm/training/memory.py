"""How a step of training fits the devices: what lies where."""

import dataclasses

import jax

from jepa_wm import fields, sharding
from jepa_wm.networks import remat


@dataclasses.dataclass(frozen=True, kw_only=True)
class Memory:
  """What spares a device memory; it changes a step in its last bits alone.

  Attributes:
    sharding: one of `sharding.LAYOUTS`, how parameters, the optimiser's state
      and what follows the parameters lie on the devices.
    remat: one of `remat.POLICIES`, what the blocks of transformers keep for the
      backward pass.
    accumulate: chunks that a batch is encoded in, one after the other; the loss
      and its gradient are those of the whole batch, see `accumulation`.

  Raises:
    ValueError: a field out of its range.
  """

  sharding: str = 'replicated'
  remat: str = 'none'
  accumulate: int = 1

  def __post_init__(self) -> None:
    choices = {'sharding': sharding.LAYOUTS, 'remat': (*remat.POLICIES,)}
    fields.check(self, choices)

  def check_default(self, what: str) -> None:
    """Refuses fields that `what` does not know of.

    Raises:
      ValueError: one is set; names it.
    """
    for field in dataclasses.fields(self):
      value = getattr(self, field.name)
      if value != field.default:
        raise ValueError(
          f'config.{field.name}={value} does not go with {what}: leave it at '
          f'{field.default}.'
        )

  def inert(self) -> list[str]:
    """A sentence for each field that has no effect here."""
    if self.sharding == 'replicated' or jax.device_count() > 1:
      return []
    return [
      f'--config.sharding={self.sharding} has no effect: there is one device.'
    ]
