"""A gated recurrent unit that steps latents by actions."""

import dataclasses
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
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


class RecurrentCache(NamedTuple):
  """What a `RecurrentPredictor` remembers of a window.

  Attributes:
    conditions: `[..., M, C]`, the encoded actions.
    memory: `[..., P, memory_dim]`, after each of the first `P` tokens.
  """

  conditions: jax.Array
  memory: jax.Array


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

  @nn.compact
  def __call__(
    self,
    latents: jax.Array,
    conditions: jax.Array,
    *,
    cache: RecurrentCache | None = None,
    last_only: bool = False,
    train: bool = False,
  ) -> tuple[jax.Array, RecurrentCache]:
    """See `predictors.WindowPredictor`; outputs are `D + memory_dim` wide."""
    del train
    *lead, num_tokens, size = latents.shape
    memory = jnp.zeros((*lead, 0, self.memory_dim), self.dtype)
    num_known = 0
    if cache is not None:
      num_known, memory = cache.conditions.shape[-2], cache.memory
    predictors.check_window(latents, conditions, self.history, num_known)
    conditions = conditions.astype(self.dtype)
    if cache is not None:
      conditions = jnp.concatenate([cache.conditions, conditions], axis=-2)
    cell = nn.GRUCell(size + self.memory_dim, **self.dtypes, name='cell')
    num_past = memory.shape[-2]
    new = latents[..., num_past:, :].astype(self.dtype)
    inputs = conditions[..., num_past:, :]
    if not self.memory_dim:
      if last_only:
        new, inputs = new[..., -1:, :], inputs[..., -1:, :]
      _, tokens = cell(new, inputs)
      memory = jnp.zeros((*lead, num_tokens, 0), self.dtype)
      return tokens, RecurrentCache(conditions, memory)

    def step(cell, carried, token):
      latent, condition = token
      hidden, _ = cell(jnp.concatenate([latent, carried], -1), condition)
      return hidden[..., size:], hidden

    scan = nn.scan(
      step, variable_broadcast='params', split_rngs={'params': False}
    )
    first = jnp.zeros((*lead, self.memory_dim), self.dtype)
    _, tokens = scan(
      cell,
      memory[..., -1, :] if num_past else first,
      (jnp.moveaxis(new, -2, 0), jnp.moveaxis(inputs, -2, 0)),
    )
    tokens = jnp.moveaxis(tokens, 0, -2)
    memory = jnp.concatenate([memory, tokens[..., size:]], axis=-2)
    if last_only:
      tokens = tokens[..., -1:, :]
    return tokens, RecurrentCache(conditions, memory)

  @nn.nowrap
  def slide(self, memory: RecurrentCache) -> RecurrentCache:
    """The memory began with the token that is gone."""
    return RecurrentCache(
      memory.conditions[..., 1:, :], memory.memory[..., :0, :]
    )
