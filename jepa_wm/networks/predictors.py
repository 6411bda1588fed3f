"""What a predictor is: settings, a module, and the state that it carries.

Every kind is in a file of its own: a Linen module with the methods of
`Predictor`, and the frozen dataclass of its settings, registered in
`PREDICTORS`. What a predictor remembers, and for how long, is its own matter:
outside of it a state is opaque. `WindowPredictor` is for those that look back
on a window of latents, which grows to `history` and then slides.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Protocol

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from jepa_wm import fields
from jepa_wm.networks import transformer

PREDICTORS = fields.Registry('predictor', 'jepa_wm.networks')

ReadoutFn = Callable[[jax.Array, jax.Array], jax.Array]
"""The newest latent `[..., D]` and the predictor's output `[..., E]` to the
next latent `[..., D]`, any leading dims."""


class Predictor(Protocol):
  """A Linen module that steps latents by conditions (encoded actions).

  Attributes:
    history: longest window of latents that it is trained on and started from.
  """

  history: int

  def __call__(
    self, latents: jax.Array, conditions: jax.Array, *, train: bool = False
  ) -> tuple[jax.Array, Any]:
    """Predicts one step on for every token of a window.

    Args:
      latents: `[..., T, D]`, `T` at most `history`.
      conditions: `[..., T, C]`, of the action taken at each latent.
      train: whether dropout is on.

    Returns:
      Outputs `[..., T, E]`, one per token, and whatever it remembers.
    """
    ...

  def start(self, latents: jax.Array, conditions: jax.Array) -> Any:
    """Starts a state from the past.

    Args:
      latents: `[..., L, D]`, `L` from 1 to `history`, oldest first.
      conditions: `[..., L - 1, C]`, of the actions between them.

    Returns:
      A state for `advance`, a pytree with the same leading dims.
    """
    ...

  def advance(
    self, state: Any, condition: jax.Array, readout_fn: ReadoutFn
  ) -> Any:
    """Steps a state by one condition `[..., C]`.

    Args:
      state: what `start` or `advance` returned.
      condition: of the action taken in it.
      readout_fn: makes the next latent of what is predicted.
    """
    ...

  def read(self, state: Any) -> jax.Array:
    """The newest latent `[..., D]` of a state."""
    ...


class PredictorConfig(fields.Named, Protocol):
  """The settings of a predictor."""

  @property
  def history(self) -> int:
    """See `Predictor`."""
    ...

  def build(
    self, grid: tuple[int, int], dtype: Any, *, state_dim: int = 0
  ) -> Any:
    """Builds the module, a `Predictor`.

    Args:
      grid: rows and columns of the tokens that a latent consists of, `(1, 1)`
        where it is one vector.
      dtype: of the computation.
      state_dim: numbers of a latent after its tokens.
    """
    ...


@dataclasses.dataclass(frozen=True)
class TransformerConfig(transformer.Sizes):
  """The settings that LeWM's and DINO-WM's predictors share.

  Attributes:
    history: longest window of latents.
    head_dim: size of a head; they need not share the width.
    dropout: rate inside the blocks.
  """

  may_be_zero: ClassVar[tuple[str, ...]] = ()
  choices: ClassVar[Mapping[str, Sequence[str]]] = {}

  history: int = 3
  head_dim: int = 64
  dropout: float = 0.1

  def __post_init__(self) -> None:
    fields.check(self, self.choices, may_be_zero=self.may_be_zero)
    if self.dropout >= 1:
      raise ValueError(f'dropout must be below 1, got {self.dropout!r}.')


@flax.struct.dataclass
class Window:
  """The latents a predictor looks back on, and what it remembers of them.

  Attributes:
    latents: `[..., L, D]`, oldest first; `L` grows from the number of observed
      frames to the predictor's `history`.
    memory: pytree of the predictor, None while there is nothing to remember.
      It grows while the window does and shrinks when it slides, because
      sliding moves every latent to another position.
  """

  latents: jax.Array
  memory: Any = None

  @property
  def newest(self) -> jax.Array:
    """The newest latent `[..., D]`."""
    return self.latents[..., -1, :]


class WindowPredictor(nn.Module):
  """A `Predictor` whose state is a `Window`: calling it says what to remember.

  What it remembers of a growing window is not computed again, and what only
  other tokens than the last need is left out.
  """

  def __call__(
    self,
    latents: jax.Array,
    conditions: jax.Array,
    *,
    cache: Any = None,
    last_only: bool = False,
    train: bool = False,
  ) -> tuple[jax.Array, Any]:
    """Predicts one step on for the tokens of a window.

    Args:
      latents: `[..., T, D]`, `T` at most `history`.
      conditions: `[..., T - M, C]`, the encoded actions taken at the last
        latents; `M` are in the cache.
      cache: memory of the first `P` tokens of this very window.
      last_only: whether only the last token is asked for.
      train: whether dropout is on.

    Returns:
      Outputs `[..., T - P, E]`, or `[..., 1, E]`, and the memory of all tokens.

    Raises:
      ValueError: the window is longer than `history`, or the two do not match.
    """
    raise NotImplementedError

  @nn.nowrap
  def slide(self, memory: Any) -> Any:
    """What is left of a full window's memory when its first token drops out."""
    raise NotImplementedError

  def start(self, latents: jax.Array, conditions: jax.Array) -> Window:
    """See `Predictor`."""
    memory = None
    if conditions.shape[-2]:
      _, memory = self(latents[..., :-1, :], conditions, last_only=True)
    return Window(latents, memory)

  def advance(
    self: Any, state: Window, condition: jax.Array, readout_fn: ReadoutFn
  ) -> Window:
    """See `Predictor`."""
    outputs, memory = self(
      state.latents,
      jnp.expand_dims(condition, -2),
      cache=state.memory,
      last_only=True,
    )
    latent = readout_fn(state.latents[..., -1:, :], outputs)
    latents = jnp.concatenate([state.latents, latent], axis=-2)
    if latents.shape[-2] > self.history:
      latents = latents[..., 1:, :]
      memory = self.slide(memory) if self.history > 1 else None
    return Window(latents, memory)

  @nn.nowrap
  def read(self, state: Window) -> jax.Array:
    """See `Predictor`."""
    return state.newest


def check_window(
  latents: jax.Array, conditions: jax.Array, history: int, num_known: int
) -> None:
  """Checks a window of latents and what is given with them.

  Args:
    latents: `[..., T, D]`.
    conditions: `[..., T - M, C]`.
    history: longest window.
    num_known: conditions `M` in the cache.

  Raises:
    ValueError: they do not fit each other or `history`.
  """
  *lead, num_tokens, _ = latents.shape
  if num_tokens > history:
    raise ValueError(
      f'latents hold a window of {num_tokens} steps, but the predictor was '
      f'built for history={history}; pass the last {history}.'
    )
  if conditions.shape[:-1] != (*lead, num_tokens - num_known):
    raise ValueError(
      'conditions must be as many as latents, less those in the cache '
      f'({num_known}), got {conditions.shape} for {latents.shape}.'
    )
