"""How tokens of a grid know where they are: settings by name."""

import dataclasses
from typing import ClassVar, Protocol

import jax
import jax.numpy as jnp

from jepa_wm import fields
from jepa_wm.networks import rotary, sincos

POSITIONS = fields.Registry('positions', 'jepa_wm.networks')

Grid = tuple[int, int, int]
"""Tokens in time, height and width; an id is `(t * H + h) * W + w`."""

_LEAST_ROTARY_CHANNELS = 6


class Positions(fields.Named, Protocol):
  """Something added to tokens, or something that turns heads, or both."""

  def table(self, grid: Grid, width: int, trained: Grid) -> jax.Array | None:
    """What is added to the tokens of `grid`, `[P, width]`; None for nothing.

    Args:
      grid: of the tokens.
      width: size of a token.
      trained: grid of the clips in training, from which a table is stretched.
    """
    ...

  def rotation(
    self, ids: jax.Array, grid: Grid, head_dim: int
  ) -> rotary.Rotation | None:
    """How queries and keys `[..., K]` of these ids turn; None for not."""
    ...

  def check(self, where: str, width: int, num_heads: int) -> None:
    """Makes sure that tokens of this size can be placed.

    Raises:
      ValueError: they cannot; the message begins with `where`.
    """
    ...


@POSITIONS.register
@dataclasses.dataclass(frozen=True)
class Rotary:
  """Queries and keys turn by where they are in time, height and width.

  Source: V-JEPA 2 (arXiv 2506.09985), section 2.1.

  Attributes:
    style: one of `rotary.STYLES`.
  """

  name: ClassVar[str] = 'rotary'

  style: str = 'vjepa2'

  def __post_init__(self) -> None:
    fields.check(self, {'style': rotary.STYLES})

  def table(self, grid: Grid, width: int, trained: Grid) -> None:
    """See `Positions`: nothing is added."""
    del grid, width, trained

  def rotation(
    self, ids: jax.Array, grid: Grid, head_dim: int
  ) -> rotary.Rotation:
    """See `Positions`."""
    return rotary.rotation(
      rotary.grid_positions(ids, grid), head_dim=head_dim, style=self.style
    )

  def check(self, where: str, width: int, num_heads: int) -> None:
    """See `Positions`."""
    if width // num_heads < _LEAST_ROTARY_CHANNELS:
      raise ValueError(
        f'{where}.width={width} over {where}.num_heads={num_heads} leaves '
        f'{width // num_heads} channels a head, rotary positions need '
        f'{_LEAST_ROTARY_CHANNELS}: take fewer heads.'
      )


@POSITIONS.register
@dataclasses.dataclass(frozen=True)
class SinCos:
  """A fixed table of sines and cosines is added to the tokens.

  Attributes:
    order: one of `sincos.ORDERS`, which channels are of which axis.
  """

  name: ClassVar[str] = 'sincos'

  order: str = 'time_first'

  def __post_init__(self) -> None:
    fields.check(self, {'order': sincos.ORDERS})

  def table(self, grid: Grid, width: int, trained: Grid) -> jax.Array:
    """See `Positions`."""
    table = sincos.resized_table(
      grid, width, trained_grid=trained, order=self.order
    )
    return jnp.asarray(table)

  def rotation(self, ids: jax.Array, grid: Grid, head_dim: int) -> None:
    """See `Positions`: nothing turns."""
    del ids, grid, head_dim

  def check(self, where: str, width: int, num_heads: int) -> None:
    """See `Positions`."""
    del num_heads
    if width % 2:
      raise ValueError(
        f'{where}.width={width} must be even for sincos positions.'
      )
