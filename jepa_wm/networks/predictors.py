"""What a predictor is: settings, a module, and the state that it carries.

Every kind is in a file of its own: a Linen module with the methods of
`Predictor`, and the frozen dataclass of its settings, registered in
`PREDICTORS`. What a predictor remembers, and for how long, is its own matter:
outside of it a state is opaque.
`WindowPredictor` is for those that look back on a window of latents, which
fills up to `history` and then slides.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp

from jepa_wm import fields
from jepa_wm.networks import transformer, windows

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

  def start(
    self, latents: jax.Array, conditions: jax.Array, *, grows: bool = False
  ) -> Any:
    """Starts a state from the past.

    Args:
      latents: `[..., L, D]`, `L` from 1 to `history`, oldest first.
      conditions: `[..., L - 1, C]`, of the actions between them.
      grows: whether `advance` may change the shapes of the state in its first
        steps, where that costs less; without it never does.

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

  def absorb(self, state: Any, condition: jax.Array, latent: jax.Array) -> Any:
    """Steps a state by what was seen, in place of what would be predicted.

    Args:
      state: what `start`, `advance` or `absorb` returned.
      condition: `[..., C]`, of the action taken in it.
      latent: `[..., D]`, what that led to.
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


class WindowPredictor(nn.Module):
  """A `Predictor` whose state is a `windows.Window`.

  Calling it maps windows, in training and in rollouts, where the newest token
  alone is asked for. Once windows slide, every latent moves to another position
  at every step, and all of the window is computed again but for what was made
  of its conditions; so it always is where the state is of one shape. A state
  that grows remembers what it computed until then.
  """

  @property
  def num_remembered(self: Any) -> int:
    """Tokens before the newest that a state holds; 0 where none matter."""
    number: int = self.history - 1
    return number

  def __call__(
    self,
    latents: jax.Array,
    conditions: jax.Array,
    *,
    look: windows.Look | None = None,
    train: bool = False,
  ) -> tuple[jax.Array, windows.Memory]:
    """Predicts one step on for the tokens of a window, or for its newest.

    Args:
      latents: `[..., T, D]`, `T` at most `history`.
      conditions: `[..., T, C]`, the encoded actions taken at them; with a
        `look` that of the newest alone.
      look: asks for the newest token alone. Where it has a past, `latents` are
        that token; else they are the window, whatever comes after it.
      train: whether dropout is on.

    Returns:
      Outputs `[..., T, E]`, with a `look` `[..., 1, E]`; and what may be
      remembered: what was made of these conditions, the past of these latents.

    Raises:
      ValueError: the window is longer than `history`, or the two do not match.
    """
    raise NotImplementedError

  def start(
    self: Any,
    latents: jax.Array,
    conditions: jax.Array,
    *,
    grows: bool = False,
  ) -> windows.Window:
    """See `Predictor`."""
    newest, room = latents[..., -1, :], self.num_remembered
    if not room:
      return windows.Window(newest)
    number = conditions.shape[-2]
    earlier = latents[..., :number, :]
    if number:
      _, memory = self(earlier, conditions)
    else:
      # For its shapes alone: a compiler leaves out what it computes.
      shape = *conditions.shape[:-2], 1, conditions.shape[-1]
      _, memory = self(latents, jnp.zeros(shape, conditions.dtype))
      memory = jax.tree.map(lambda leaf: leaf[..., :0, :], memory)
    if grows:
      return windows.Window(newest, earlier, memory)
    pad = lambda leaf: windows.pad(leaf, room)
    given = jax.tree.map(pad, memory.given)
    place = jnp.full(newest.shape[:-1], number, jnp.int32)
    return windows.Window(
      newest, pad(earlier), windows.Memory(given, None), place
    )

  def advance(
    self: Any,
    state: windows.Window,
    condition: jax.Array,
    readout_fn: ReadoutFn,
  ) -> windows.Window:
    """See `Predictor`."""
    newest = jnp.expand_dims(state.newest, -2)
    condition = jnp.expand_dims(condition, -2)
    if state.earlier is None or state.memory is None:
      outputs, _ = self(newest, condition)
      return windows.Window(readout_fn(newest, outputs)[..., 0, :])
    room, (given, past), place = self.num_remembered, state.memory, state.place
    window = newest
    if past is None:
      window = windows.whole(state.earlier, place, newest)
    outputs, found = self(
      window, condition, look=windows.Look(state.memory, place)
    )
    push = lambda buffer, token: windows.push(buffer, place, token, room)
    given = jax.tree.map(push, given, found.given)
    if state.earlier.shape[-2] == room:
      past = None  # From now on it slides.
    elif past is not None:
      join = lambda *parts: jnp.concatenate(parts, axis=-2)
      past = jax.tree.map(join, past, found.past)
    return windows.Window(
      readout_fn(newest, outputs)[..., 0, :],
      push(state.earlier, newest),
      windows.Memory(given, past),
      None if place is None else jnp.minimum(place + 1, room),
    )

  def absorb(
    self: Any, state: windows.Window, condition: jax.Array, latent: jax.Array
  ) -> windows.Window:
    """See `Predictor`; what a window cannot hold is forgotten."""
    seen = jnp.expand_dims(latent, -2)
    return self.advance(state, condition, lambda newest, outputs: seen)

  @nn.nowrap
  def read(self, state: windows.Window) -> jax.Array:
    """See `Predictor`."""
    return state.newest


def check_window(
  latents: jax.Array,
  conditions: jax.Array,
  history: int,
  look: windows.Look | None,
) -> None:
  """Checks a window of latents and what is given with them.

  Args:
    latents: `[..., T, D]`.
    conditions: `[..., T, C]`, or `[..., 1, C]` with a `look`.
    history: longest window.
    look: as of `WindowPredictor`.

  Raises:
    ValueError: they do not fit each other or `history`.
  """
  *lead, num_tokens, _ = latents.shape
  if num_tokens > history:
    raise ValueError(
      f'latents hold a window of {num_tokens} steps, but the predictor was '
      f'built for history={history}; pass the last {history}.'
    )
  number = num_tokens if look is None else 1
  if conditions.shape[:-1] != (*lead, number):
    raise ValueError(
      f'conditions must be as many as latents, {[*lead, number, "C"]}, got '
      f'{list(conditions.shape)} for latents {list(latents.shape)}.'
    )
