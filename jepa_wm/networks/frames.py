"""Predictors of frames of tokens, as steps of flat latents."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jepa_wm.networks import attention, block_causal, predictors


class Memory(NamedTuple):
  """What a block-causal predictor remembers of a window.

  Attributes:
    conditions: `[..., M, C]`, what was given with the first M frames.
    past: of the first F frames, F at most M, each `[..., F * S, *]` with S
      tokens a frame; valid while the frames keep their positions.
  """

  conditions: jax.Array
  past: block_causal.Past


def slide(memory: Memory) -> Memory:
  """What is left of a full window's memory when its first frame drops out."""
  past = tuple(
    attention.KeysValues(*(x[..., :0, :] for x in block))
    for block in memory.past
  )
  return Memory(memory.conditions[..., 1:, :], past)


class FramePredictor(nn.Module):
  """A predictor of tokens, as one of latents that are frames of tokens.

  Attributes:
    core: frames `[..., T, P, F]` and conditions to the frames that follow, one
      of `concatenated.ConcatenationPredictor`, `block_causal.TokenPredictor`.
    num_tokens: tokens `P` of a frame.
  """

  core: Any
  num_tokens: int

  @property
  def history(self) -> int:
    """Longest window, frames."""
    history: int = self.core.history
    return history

  def __call__(
    self, latents: jax.Array, conditions: jax.Array, *, train: bool = False
  ) -> tuple[jax.Array, block_causal.Past]:
    """See `predictors.Predictor`; outputs are the next latents."""
    return self.after(latents, conditions, train=train)

  def after(
    self,
    latents: jax.Array,
    conditions: jax.Array,
    *,
    past: block_causal.Past | None = None,
    last_only: bool = False,
    train: bool = False,
  ) -> tuple[jax.Array, block_causal.Past]:
    """Latents after a window, and what is remembered of it.

    Args:
      latents: `[..., L, P * F]`.
      conditions: `[..., L, C]`.
      past: of the first frames of this window.
      last_only: whether only the latent after the window is asked for.
      train: whether dropout is on.
    """
    frames = latents.reshape(*latents.shape[:-1], self.num_tokens, -1)
    predicted, past = self.core(
      frames, (conditions,), past=past, last_only=last_only, train=train
    )
    return predicted.reshape(*predicted.shape[:-2], -1), past

  def start(
    self, latents: jax.Array, conditions: jax.Array
  ) -> predictors.Window:
    """See `predictors.Predictor`."""
    memory = None
    if conditions.shape[-2]:
      _, past = self.after(latents[..., :-1, :], conditions, last_only=True)
      memory = Memory(conditions, past)
    return predictors.Window(latents, memory)

  def advance(
    self,
    state: predictors.Window,
    condition: jax.Array,
    readout_fn: predictors.ReadoutFn,
  ) -> predictors.Window:
    """See `predictors.Predictor`.

    Keys and values of a growing window are computed once, and the last block
    answers for the newest frame alone.
    """
    conditions, past = jnp.expand_dims(condition, -2), None
    if state.memory is not None:
      before, past = state.memory
      conditions = jnp.concatenate([before, conditions], axis=-2)
    outputs, past = self.after(
      state.latents, conditions, past=past, last_only=True
    )
    latent = readout_fn(state.latents[..., -1:, :], outputs)
    return predictors.slid(
      state.latents,
      latent,
      Memory(conditions, past),
      history=self.history,
      slide_fn=slide,
    )

  @nn.nowrap
  def read(self, state: predictors.Window) -> jax.Array:
    """See `predictors.Predictor`."""
    return state.newest
