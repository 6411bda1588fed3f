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
)


@predictors.PREDICTORS.register
@dataclasses.dataclass(frozen=True)
class BlockCausalConfig:
  """The settings of a `RobotPredictor`; the defaults are V-JEPA 2-AC's.

  Attributes:
    history: longest window, frames.
    width: size of a token inside.
    depth: blocks.
    num_heads: attention heads; they share the width evenly.
    mlp_dim: hidden width of the MLPs.
    rotary_style: one of `rotary.STYLES`.
  """

  name: ClassVar[str] = 'block_causal'

  history: int = 8
  width: int = 1024
  depth: int = 24
  num_heads: int = 16
  mlp_dim: int = 4096
  rotary_style: str = 'vjepa2'

  def __post_init__(self) -> None:
    """Checks every field.

    Raises:
      ValueError: a field out of its range; the message names it.
    """
    fields.check(self, {'rotary_style': rotary.STYLES})
    if self.width % self.num_heads:
      raise ValueError(
        f'width={self.width} must be a multiple of num_heads={self.num_heads}.'
      )

  def build(
    self, grid: tuple[int, int], dtype: Any, *, state_dim: int = 0
  ) -> nn.Module:
    """See `predictors.PredictorConfig`."""
    core = block_causal.TokenPredictor(
      **{x.name: getattr(self, x.name) for x in dataclasses.fields(self)},
      grid=grid,
      dtype=dtype,
    )
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

  def after(
    self,
    latents: jax.Array,
    conditions: jax.Array,
    *,
    past: block_causal.Past | None = None,
    last_only: bool = False,
    train: bool = False,
  ) -> tuple[jax.Array, block_causal.Past]:
    """See `frames.FramePredictor`."""
    size = latents.shape[-1] - self.state_dim
    flat, states = latents[..., :size], latents[..., size:]
    split = flat.reshape(*flat.shape[:-1], self.num_tokens, -1)
    predicted, past = self.core(
      split,
      (conditions, states) if self.state_dim else (conditions,),
      past=past,
      last_only=last_only,
      train=train,
    )
    after = tokens.normalized(predicted, 'token')
    after = after.reshape(*after.shape[:-2], -1)
    if self.state_dim:
      first = states.shape[-2] - after.shape[-2]
      moved = poses.integrate(
        states[..., first:, :], conditions[..., first:, :]
      )
      after = jnp.concatenate([after, moved], axis=-1)
    return after, past
