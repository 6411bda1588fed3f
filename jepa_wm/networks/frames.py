"""Predictors of frames of tokens, as steps of flat latents."""

from typing import Any

import flax.linen as nn
import jax

from jepa_wm.networks import predictors, windows


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
    look: windows.Look | None = None,
    train: bool = False,
  ) -> tuple[jax.Array, windows.Memory]:
    """See `predictors.WindowPredictor`; outputs are the next latents."""
    given = conditions
    newest = latents
    if look is not None and look.memory.past is None:
      given = windows.whole(look.memory.given, look.place, conditions)
      newest = windows.take(latents, look.place)
    frames, seen = self.seen(latents, given)
    predicted, past = self.core(frames, seen, look=look, train=train)
    outputs = self.after(predicted, newest, conditions)
    return outputs, windows.Memory(conditions, past)

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
    """Latents `[..., L, D]` of predicted frames `[..., L, P, F]`.

    Args:
      predicted: for every latent the frame after it.
      latents: `[..., L, D]`.
      conditions: `[..., L, C]`.
    """
    del latents, conditions
    return predicted.reshape(*predicted.shape[:-2], -1)
