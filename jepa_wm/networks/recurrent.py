"""A gated recurrent unit that steps latents by actions."""

import dataclasses
from typing import Any, ClassVar

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from jepa_wm import fields
from jepa_wm.networks import layers, predictors


@predictors.PREDICTORS.register
@dataclasses.dataclass(frozen=True)
class RecurrentConfig:
  """The settings of a `RecurrentPredictor`.

  Attributes:
    history: longest window of latents.
    memory_dim: numbers that the GRU carries beside the latent, for ever.
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


@flax.struct.dataclass
class Carried:
  """The state of a `RecurrentPredictor`: of one size, whatever was seen.

  Attributes:
    newest: `[..., D]`, the newest latent.
    memory: `[..., memory_dim]`, what is carried beside it; None where nothing
      is.
  """

  newest: jax.Array
  memory: jax.Array | None = None


class RecurrentPredictor(layers.Module):
  """One GRU cell whose hidden state is the latent and whose input the action.

  As published the next latent depends on nothing else, so that the tokens of a
  window do not know each other. With `memory_dim` the hidden state is wider:
  the latent's part is overwritten by every latent, the rest, 0 at the start, is
  carried on, also beyond a window of `history`.

  Source: PLDM, arXiv 2502.14819, and EB-JEPA, arXiv 2602.03604 (one layer);
  the cell is that of arXiv 1406.1078 as PyTorch has it, whose reset gate acts
  after the product.

  Its fields are those of `RecurrentConfig`.
  """

  history: int
  memory_dim: int = 0

  @nn.compact
  def __call__(
    self,
    latents: jax.Array,
    conditions: jax.Array,
    *,
    memory: jax.Array | None = None,
    train: bool = False,
  ) -> tuple[jax.Array, jax.Array | None]:
    """See `predictors.Predictor`; outputs are `D + memory_dim` wide.

    Args:
      latents: `[..., T, D]`.
      conditions: `[..., T, C]`.
      memory: `[..., memory_dim]`, carried from before; 0 where None.
      train: changes nothing.

    Returns:
      Outputs, and what is carried after them.
    """
    del train
    predictors.check_window(latents, conditions, self.history, None)
    conditions = conditions.astype(self.dtype)
    latents = latents.astype(self.dtype)
    *lead, _, size = latents.shape
    cell = nn.GRUCell(size + self.memory_dim, **self.dtypes, name='cell')
    if not self.memory_dim:
      _, tokens = cell(latents, conditions)
      return tokens, None
    if memory is None:
      memory = jnp.zeros((*lead, self.memory_dim), self.dtype)

    def step(cell: Any, carried: jax.Array, token: Any) -> Any:
      latent, condition = token
      hidden, _ = cell(jnp.concatenate([latent, carried], -1), condition)
      return hidden[..., size:], hidden

    scan = nn.scan(
      step, variable_broadcast='params', split_rngs={'params': False}
    )
    memory, tokens = scan(
      cell,
      memory,
      (jnp.moveaxis(latents, -2, 0), jnp.moveaxis(conditions, -2, 0)),
    )
    return jnp.moveaxis(tokens, 0, -2), memory

  def start(
    self, latents: jax.Array, conditions: jax.Array, *, grows: bool = False
  ) -> Carried:
    """See `predictors.Predictor`."""
    del grows  # It has one size.
    newest = latents[..., -1, :]
    if not self.memory_dim:
      return Carried(newest)
    if not conditions.shape[-2]:
      lead = newest.shape[:-1]
      return Carried(newest, jnp.zeros((*lead, self.memory_dim), self.dtype))
    _, memory = self(latents[..., :-1, :], conditions)
    return Carried(newest, memory)

  def advance(
    self,
    state: Carried,
    condition: jax.Array,
    readout_fn: predictors.ReadoutFn,
  ) -> Carried:
    """See `predictors.Predictor`."""
    newest = jnp.expand_dims(state.newest, -2)
    outputs, memory = self(
      newest, jnp.expand_dims(condition, -2), memory=state.memory
    )
    return Carried(readout_fn(newest, outputs)[..., 0, :], memory)

  def absorb(
    self, state: Carried, condition: jax.Array, latent: jax.Array
  ) -> Carried:
    """See `predictors.Predictor`."""
    seen = jnp.expand_dims(latent, -2)
    return self.advance(state, condition, lambda newest, outputs: seen)

  @nn.nowrap
  def read(self, state: Carried) -> jax.Array:
    """See `predictors.Predictor`."""
    return state.newest
