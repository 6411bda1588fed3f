"""Predictors of frames of tokens, as steps of flat latents."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jepa_wm.networks import block_causal, predictors


class Memory(NamedTuple):
  """What a block-causal predictor remembers of a window.

  Attributes:
    conditions: `[..., M, C]`, what was given with the first M frames.
    past: of the first F frames, F at most M, each `[..., F * S, *]` with S
      tokens a frame; valid while the frames keep their positions.
  """

  conditions: jax.Array
  past: block_causal.Past


class FramePredictor(predictors.WindowPredictor):
  """A predictor of tokens, as one of latents that are frames of tokens.

  Attributes:
    core: frames and what is given with them to the frames that follow, one of
      `concatenated.ConcatenationPredictor`, `block_causal.TokenPredictor`.
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
    self,
    latents: jax.Array,
    conditions: jax.Array,
    *,
    cache: Memory | None = None,
    last_only: bool = False,
    train: bool = False,
  ) -> tuple[jax.Array, Memory]:
    """See `predictors.WindowPredictor`; outputs are the next latents."""
    past = None
    if cache is not None:
      before, past = cache
      conditions = jnp.concatenate([before, conditions], axis=-2)
    frames, given = self.seen(latents, conditions)
    predicted, past = self.core(
      frames, given, past=past, last_only=last_only, train=train
    )
    outputs = self.after(predicted, latents, conditions)
    return outputs, Memory(conditions, past)

  @nn.nowrap
  def seen(
    self, latents: jax.Array, conditions: jax.Array
  ) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    """Frames `[..., L, P, F]` of a window, and what the core is given besides.

    Args:
      latents: `[..., L, D]`.
      conditions: `[..., L, C]`.
    """
    frames = latents.reshape(*latents.shape[:-1], self.num_tokens, -1)
    return frames, (conditions,)

  @nn.nowrap
  def after(
    self, predicted: jax.Array, latents: jax.Array, conditions: jax.Array
  ) -> jax.Array:
    """Latents of predicted frames `[..., P, F]`, the last ones of a window.

    Args:
      predicted: for every one of its last latents the frame after it.
      latents: `[..., L, D]`.
      conditions: `[..., L, C]`.
    """
    del latents, conditions
    return predicted.reshape(*predicted.shape[:-2], -1)

  @nn.nowrap
  def slide(self, memory: Memory) -> Memory:
    """Keys and values saw positions that have changed."""
    past = block_causal.emptied(memory.past)
    return Memory(memory.conditions[..., 1:, :], past)
