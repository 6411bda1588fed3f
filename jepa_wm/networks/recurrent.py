"""A gated recurrent unit that steps latents by actions."""

import dataclasses
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from jepa_wm import fields
from jepa_wm.networks import layers, predictors, windows


@predictors.PREDICTORS.register
@dataclasses.dataclass(frozen=True)
class RecurrentConfig:
  """The settings of a `RecurrentPredictor`.

  Attributes:
    history: longest window of latents.
    memory_dim: numbers that the GRU carries beside the latent.
  """

  name: ClassVar[str] = 'recurrent'

  history: int = 1
  memory_dim: int = 0

  def __post_init__(self) -> None:
    fields.check(self, may_be_zero=('memory_dim',))

  def build(
    self, grid: tuple[int, int], dtype: Any, *, state_dim: int = 0
  ) -> nn.Module:
    """See `predictors.PredictorConfig`; a latent is one vector to it."""
    del grid, state_dim
    return RecurrentPredictor(**vars(self), dtype=dtype)


class RecurrentPredictor(predictors.WindowPredictor, layers.Module):
  """One GRU cell whose hidden state is the latent and whose input the action.

  As published the next latent depends on nothing else, so that the tokens of a
  window do not know each other. With `memory_dim` the hidden state is wider:
  the latent's part is overwritten by every latent of the window, the rest, 0
  at its start, is carried through it.

  Source: PLDM, arXiv 2502.14819, and EB-JEPA, arXiv 2602.03604 (one layer);
  the cell is that of arXiv 1406.1078 as PyTorch has it, whose reset gate acts
  after the product.

  Its fields are those of `RecurrentConfig`.
  """

  history: int
  memory_dim: int = 0

  @property
  def num_remembered(self) -> int:
    """None without a memory: the next latent depends on the newest alone."""
    return self.history - 1 if self.memory_dim else 0

  @nn.compact
  def __call__(
    self,
    latents: jax.Array,
    conditions: jax.Array,
    *,
    look: windows.Look | None = None,
    train: bool = False,
  ) -> tuple[jax.Array, windows.Memory]:
    """See `predictors.WindowPredictor`; outputs are `D + memory_dim` wide."""
    del train
    predictors.check_window(latents, conditions, self.history, look)
    conditions = conditions.astype(self.dtype)
    latents = latents.astype(self.dtype)
    *lead, _, size = latents.shape
    cell = nn.GRUCell(size + self.memory_dim, **self.dtypes, name='cell')
    if not self.memory_dim:
      _, tokens = cell(latents, conditions)
      return tokens, windows.Memory(conditions, ())
    inputs, first = conditions, jnp.zeros((*lead, self.memory_dim), self.dtype)
    if look is not None:
      given, past = look.memory
      if past is None:
        inputs = windows.whole(given, look.place, conditions)
      elif past.shape[-2]:
        first = past[..., -1, :]

    def step(cell: Any, carried: jax.Array, token: Any) -> Any:
      latent, condition = token
      hidden, _ = cell(jnp.concatenate([latent, carried], -1), condition)
      return hidden[..., size:], hidden

    scan = nn.scan(
      step, variable_broadcast='params', split_rngs={'params': False}
    )
    _, tokens = scan(
      cell,
      first,
      (jnp.moveaxis(latents, -2, 0), jnp.moveaxis(inputs, -2, 0)),
    )
    tokens = jnp.moveaxis(tokens, 0, -2)
    memory = windows.Memory(conditions, tokens[..., size:])
    if look is not None and look.memory.past is None:
      tokens = windows.take(tokens, look.place)
    return tokens, memory
