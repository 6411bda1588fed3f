"""V-JEPA 2-AC: what an action does to a frozen video encoder's tokens."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from jepa_wm import fields
from jepa_wm.models import jepa, model, modules, settings, targets
from jepa_wm.networks import poses, predictors, robot, tokens, video_vit
from jepa_wm.objectives import teacher_forcing
from jepa_wm.objectives import terms as terms_lib
from jepa_wm.types import ActionSpec


@model.MODELS.register
@dataclasses.dataclass(frozen=True)
class VJEPA2AC(settings.ActingSettings):
  """The settings of V-JEPA 2-AC; the predictor's defaults are published.

  A block-causal transformer sees the tokens of a window of frames, each with
  the action taken there and, with `encoder.proprio_dim`, the state of the
  robot. In planning, states are integrated from actions, which then must be in
  the state's own units (statistics of mean 0 and deviation 1). A latent is a
  frame's tokens in a row, followed by the state; without one it can be a goal
  and no start.

  Source: V-JEPA 2, arXiv 2506.09985, section 3, and its released code (vjepa2
  at c2963a4).

  Attributes:
    action_dim: see `settings.ActingSettings`, as all that is not here.
    encoder: frozen; tokens of any encoder, and the state: 7 numbers, the pose
      and gripper of a robot, which is also what actions are, or none.
  """

  name: ClassVar[str] = 'vjepa2_ac'

  action_dim: int = poses.SIZE
  action_block: int = 1
  encoder: tokens.TokensConfig = fields.one_of(
    tokens.TOKENS,
    tokens.TokensConfig(
      encoder=video_vit.VideoViTConfig(), norm='token', proprio_dim=poses.SIZE
    ),
  )
  predictor: predictors.PredictorConfig = fields.one_of(
    predictors.PREDICTORS, robot.BlockCausalConfig()
  )
  terms: jepa.Terms = fields.some_of(
    terms_lib.TERMS, (teacher_forcing.TeacherForcing(),)
  )
  target: targets.Target = fields.one_of(targets.TARGETS, targets.Frozen())
  dtype: str = 'float32'

  def __post_init__(self) -> None:
    found = self.encoder.proprio_dim, self.action_dim, self.action_block
    if self.encoder.proprio_dim and found != (poses.SIZE, poses.SIZE, 1):
      raise ValueError(
        'encoder.proprio_dim must be 0, or 7 with action_dim=7 and '
        f'action_block=1 (pose and gripper), got proprio_dim={found[0]}, '
        f'action_dim={found[1]} and action_block={found[2]}.'
      )
    super().__post_init__()

  def build(self) -> jepa.Jepa:
    """Fills the five slots."""
    dtype = jnp.dtype(self.dtype)
    encoder = self.encoder
    return jepa.Jepa(
      config=self,
      encoder=encoder,
      networks=modules.Networks(
        encoder=encoder.build(dtype),
        predictor=self.predictor.build(
          encoder.grid, dtype, state_dim=encoder.proprio_dim
        ),
      ),
      latent_dim=encoder.features,
      action_spec=ActionSpec(self.action_dim, self.action_block),
      terms=self.terms,
      target=self.target,
      token_grid=encoder.grid,
      state_dim=encoder.proprio_dim,
      distance_fn=Energy(encoder.num_tokens * encoder.token_features),
    )


@dataclasses.dataclass(frozen=True)
class Energy:
  """Mean absolute distance of tokens; states do not count.

  Attributes:
    size: numbers of a latent that are tokens.
  """

  size: int

  def __call__(self, latents: jax.Array, goal: jax.Array) -> jax.Array:
    """Latents and goals `[..., size]` or longer, broadcast, to `[...]`."""
    return jnp.abs(latents[..., : self.size] - goal[..., : self.size]).mean(-1)
