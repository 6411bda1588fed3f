"""A gated recurrent unit that steps latents by actions."""

import dataclasses
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jepa_wm import fields
from jepa_wm.networks import predictors


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
    """Checks every field.

    Raises:
      ValueError: a field out of its range; the message names it.
    """
    fields.check(self, may_be_zero=('memory_dim',))

  def build(
    self, grid: tuple[int, int], dtype: Any, *, state_dim: int = 0
  ) -> nn.Module:
    """See `predictors.PredictorConfig`; a latent is one vector to it."""
    del grid, state_dim
    return RecurrentPredictor(
      history=self.history, memory_dim=self.memory_dim, dtype=dtype
    )


class RecurrentCache(NamedTuple):
  """What a `RecurrentPredictor` remembers of a window.

  Attributes:
    conditions: `[..., M, C]`, the encoded actions.
    memory: `[..., P, memory_dim]`, after each of the first `P` tokens.
  """

  conditions: jax.Array
  memory: jax.Array


def slide(cache: RecurrentCache) -> RecurrentCache:
  """What is left of a full window's cache when its first token drops out.

  The memory began with the token that is gone.
  """
  return RecurrentCache(cache.conditions[..., 1:, :], cache.memory[..., :0, :])


class RecurrentPredictor(nn.Module):
  """One GRU cell whose hidden state is the latent and whose input the action.

  As published the next latent depends on nothing else, so that the tokens of a
  window do not know each other. With `memory_dim` the hidden state is wider:
  the latent's part is overwritten by every latent of the window, the rest, 0
  at its start, is carried through it.

  Source: PLDM, arXiv 2502.14819, and EB-JEPA, arXiv 2602.03604 (one layer);
  the cell is that of arXiv 1406.1078 as PyTorch has it, whose reset gate acts
  after the product.

  Attributes:
    history: longest window.
    memory_dim: numbers carried beside the latent.
    dtype: of the computation.
    param_dtype: of the parameters.
  """

  history: int
  memory_dim: int = 0
  dtype: Any = jnp.float32
  param_dtype: Any = jnp.float32

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
    """Predicts one step on for the tokens of a window.

    Args:
      latents: `[..., T, D]`, `T` at most `history`.
      conditions: `[..., T - M, C]`, the encoded actions taken at the last
        latents.
      cache: of the first tokens of this very window.
      last_only: whether only the last token is asked for.
      train: accepted as by every predictor; nothing here depends on it.

    Returns:
      `[..., T - P, D + memory_dim]`, or `[..., 1, D + memory_dim]`, and the
      cache of all tokens.

    Raises:
      ValueError: the window is longer than `history`, or the two do not match.
    """
    del train
    *lead, num_tokens, size = latents.shape
    memory = jnp.zeros((*lead, 0, self.memory_dim), self.dtype)
    num_known = 0
    if cache is not None:
      num_known, memory = cache.conditions.shape[-2], cache.memory
    if num_tokens > self.history:
      raise ValueError(
        f'latents hold a window of {num_tokens} steps, but the predictor was '
        f'built for history={self.history}; pass the last {self.history}.'
      )
    if conditions.shape[:-1] != (*lead, num_tokens - num_known):
      raise ValueError(
        'conditions must be as many as latents, less those in the cache '
        f'({num_known}), got {conditions.shape} for {latents.shape}.'
      )
    conditions = conditions.astype(self.dtype)
    if cache is not None:
      conditions = jnp.concatenate([cache.conditions, conditions], axis=-2)
    cell = nn.GRUCell(
      size + self.memory_dim,
      dtype=self.dtype,
      param_dtype=self.param_dtype,
      name='cell',
    )
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

  def start(
    self, latents: jax.Array, conditions: jax.Array
  ) -> predictors.Window:
    """See `predictors.Predictor`."""
    return predictors.start_window(self, latents, conditions)

  def advance(
    self,
    state: predictors.Window,
    condition: jax.Array,
    readout_fn: predictors.ReadoutFn,
  ) -> predictors.Window:
    """See `predictors.Predictor`."""
    return predictors.advance_window(
      self, state, condition, readout_fn, slide_fn=slide
    )

  @nn.nowrap
  def read(self, state: predictors.Window) -> jax.Array:
    """See `predictors.Predictor`."""
    return state.newest
