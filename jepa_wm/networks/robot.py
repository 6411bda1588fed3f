"""V-JEPA 2-AC's predictor: tokens that are seen, a state that is integrated."""

import dataclasses
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from jepa_wm import fields
from jepa_wm.networks import (
  block_causal,
  frames,
  poses,
  predictors,
  rotary,
  tokens,
  transformer,
)


@predictors.PREDICTORS.register
@dataclasses.dataclass(frozen=True)
class BlockCausalConfig(transformer.Sizes):
  """The settings of a `RobotPredictor`; the defaults are V-JEPA 2-AC's.

  Attributes:
    history: longest window, frames.
    rotary_style: one of `rotary.STYLES`.
    conditioning: how actions and states reach the tokens, one of
      `block_causal.CONDITIONING`.
  """

  name: ClassVar[str] = 'block_causal'

  history: int = 8
  rotary_style: str = 'vjepa2'
  conditioning: str = 'token'

  def __post_init__(self) -> None:
    choices = {
      'rotary_style': rotary.STYLES,
      'conditioning': block_causal.CONDITIONING,
    }
    fields.check(self, choices)
    if self.width % self.num_heads:
      raise ValueError(
        f'width={self.width} must be a multiple of num_heads={self.num_heads}.'
      )

  def build(
    self, grid: tuple[int, int], dtype: Any, *, state_dim: int = 0
  ) -> nn.Module:
    """See `predictors.PredictorConfig`."""
    core = block_causal.TokenPredictor(**vars(self), grid=grid, dtype=dtype)
    return RobotPredictor(
      core, num_tokens=grid[0] * grid[1], state_dim=state_dim
    )


class RobotPredictor(frames.FramePredictor):
  """One whose latents end in the state of a robot, which actions integrate.

  The core sees the state as a second condition; the tokens that it predicts are
  normalised, each on its own.

  Source: V-JEPA 2, arXiv 2506.09985, section 3, and its released code.

  Attributes:
    state_dim: numbers of a latent after its tokens, 0 for none.
  """

  state_dim: int = 0

  @nn.nowrap
  def seen(
    self, latents: jax.Array, conditions: jax.Array
  ) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    """See `frames.FramePredictor`."""
    size = latents.shape[-1] - self.state_dim
    frames, _ = super().seen(latents[..., :size], conditions)
    states = latents[..., size:]
    return frames, (conditions, states) if self.state_dim else (conditions,)

  @nn.nowrap
  def after(
    self, predicted: jax.Array, latents: jax.Array, conditions: jax.Array
  ) -> jax.Array:
    """See `frames.FramePredictor`."""
    after = tokens.normalized(predicted, 'token')
    after = after.reshape(*after.shape[:-2], -1)
    if self.state_dim:
      states = latents[..., latents.shape[-1] - self.state_dim :]
      moved = poses.integrate(states, conditions)
      after = jnp.concatenate([after, moved], axis=-1)
    return after
