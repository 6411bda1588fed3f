"""LeWorldModel: next-latent prediction, kept informative by a regulariser."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar

import jax.numpy as jnp

from jepa_wm import fields
from jepa_wm.models import jepa, model, modules, settings, targets
from jepa_wm.networks import (
  action_encoders,
  causal,
  encoders,
  looking_around,
  predictors,
  projectors,
  vit,
)
from jepa_wm.objectives import dynamics, prediction, sigreg
from jepa_wm.objectives import terms as terms_lib
from jepa_wm.types import ActionSpec


@model.MODELS.register
@dataclasses.dataclass(frozen=True)
class LeWM(settings.ActingSettings):
  """The settings of LeWorldModel; the defaults are the published model.

  The loss is `prediction + 0.09 SIGReg(Z)`, of a batch of `history + 1` frames,
  one window. The other two terms are ours, and with weight 0 only reported; any
  other of `objectives` may be added, or take SIGReg's place.

  Source: LeWorldModel, arXiv 2603.19312, and its released code (le-wm at
  c8a4417), which has 18.0 M parameters where the paper says 15 M.

  Attributes:
    action_dim: see `settings.ActingSettings`, as all that is not here.
    latent_dim: size of a latent.
    encoder: what is observed, and what makes features of it.
    projector: makes latents of the features, and another like it of what the
      predictor gives.
    actions: encodes action blocks.
    predicts: what it gives is the next 'latent', or the 'change' to it.
  """

  name: ClassVar[str] = 'lewm'
  choices: ClassVar[Mapping[str, Sequence[str]]] = {
    'predicts': ('latent', 'change')
  }

  action_dim: int = 2
  action_block: int = 5
  latent_dim: int = 192
  encoder: encoders.Encoder = fields.one_of(encoders.ENCODERS, vit.ViTConfig())
  projector: projectors.ProjectorConfig = fields.one_of(
    projectors.PROJECTORS, projectors.MLPConfig()
  )
  actions: action_encoders.ActionEncoderConfig = fields.one_of(
    action_encoders.ACTION_ENCODERS, action_encoders.BottleneckConfig()
  )
  predictor: predictors.PredictorConfig = fields.one_of(
    predictors.PREDICTORS, causal.CausalConfig()
  )
  predicts: str = 'latent'
  terms: jepa.Terms = fields.some_of(
    terms_lib.TERMS,
    (
      prediction.NextLatent(),
      sigreg.SIGReg(weight=0.09),
      dynamics.TemporalSimilarity(weight=0.0),
      dynamics.Straightening(weight=0.0),
    ),
  )
  target: targets.Target = fields.one_of(targets.TARGETS, targets.Shared())
  dtype: str = 'float32'

  def __post_init__(self) -> None:
    if isinstance(self.predictor, looking_around.LookingAroundConfig):
      self.predictor.check_fits(
        self.encoder, self.projector.name, self.predicts
      )
    super().__post_init__()

  def build(self) -> jepa.Jepa:
    """Fills the five slots."""
    dtype = jnp.dtype(self.dtype)
    action_spec = ActionSpec(self.action_dim, self.action_block)
    return jepa.Jepa(
      config=self,
      encoder=self.encoder,
      networks=modules.Networks(
        encoder=self.encoder.build(dtype),
        projector=self.projector.build(self.latent_dim, dtype),
        action_encoder=self.actions.build(dtype),
        predictor=self.predictor.build((1, 1), dtype),
        prediction_projector=self.projector.build(self.latent_dim, dtype),
        inverse_dynamics=modules.inverse_dynamics(
          self.terms, action_spec, dtype
        ),
        policy=modules.policy(self.terms, action_spec, dtype),
        decoder=modules.decoder(self.terms, self.encoder.spec, dtype),
        predicts_change=self.predicts == 'change',
      ),
      latent_dim=self.latent_dim,
      action_spec=action_spec,
      terms=self.terms,
      target=self.target,
    )
