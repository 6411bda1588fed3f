"""What a predictor is: settings, a module, and the state that it carries.

Every kind is in a file of its own: a Linen module with the methods of
`Predictor`, and the frozen dataclass of its settings, registered in
`PREDICTORS`. What a predictor remembers, and for how long, is its own matter:
outside of it a state is opaque. `Window` is for those that look back on a
window of latents, which grows to `history` and then slides.
"""

from collections.abc import Callable
from typing import Any, ClassVar, Protocol

import flax.struct
import jax
import jax.numpy as jnp

from jepa_wm import fields

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


class PredictorConfig(Protocol):
  """The settings of a predictor.

  Attributes:
    name: of its kind in a config.
  """

  name: ClassVar[str]

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


def start_window(
  predictor: Any, latents: jax.Array, conditions: jax.Array
) -> Window:
  """Starts the window of a predictor, which looks at its past once.

  Args:
    predictor: a module that takes `cache` and `last_only` when called.
    latents: `[..., L, D]`, oldest first.
    conditions: `[..., L - 1, C]`.
  """
  memory = None
  if conditions.shape[-2]:
    _, memory = predictor(latents[..., :-1, :], conditions, last_only=True)
  return Window(latents, memory)


def advance_window(
  predictor: Any,
  state: Window,
  condition: jax.Array,
  readout_fn: ReadoutFn,
  *,
  slide_fn: Callable[[Any], Any],
) -> Window:
  """Moves the window of a predictor one latent on.

  What the predictor remembers of a growing window is not computed again; what
  only other tokens than the last need is left out.

  Args:
    predictor: a module that takes `cache` and `last_only` when called, and
      knows the longest window, `history`.
    state: before the step.
    condition: `[..., C]`, of the action taken.
    readout_fn: makes the next latent of what is predicted.
    slide_fn: what is left of a memory when the first latent drops out.
  """
  outputs, memory = predictor(
    state.latents,
    jnp.expand_dims(condition, -2),
    cache=state.memory,
    last_only=True,
  )
  latent = readout_fn(state.latents[..., -1:, :], outputs)
  return slid(
    state.latents,
    latent,
    memory,
    history=predictor.history,
    slide_fn=slide_fn,
  )


def slid(
  latents: jax.Array,
  latent: jax.Array,
  memory: Any,
  *,
  history: int,
  slide_fn: Callable[[Any], Any],
) -> Window:
  """A window one latent on, the oldest dropped if need be.

  Args:
    latents: `[..., L, D]`, those before.
    latent: `[..., 1, D]`, the next one.
    memory: of `latents`.
    history: longest window.
    slide_fn: what is left of a memory when the first latent drops out.
  """
  latents = jnp.concatenate([latents, latent], axis=-2)
  if latents.shape[-2] > history:
    latents = latents[..., 1:, :]
    memory = slide_fn(memory) if history > 1 else None
  return Window(latents, memory)
