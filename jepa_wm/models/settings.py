"""What the settings of published systems are alike in."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import jax.numpy as jnp

from jepa_wm import fields
from jepa_wm.models import jepa, masked, masked_wanted, targets
from jepa_wm.networks import masked_predictor, predictors, video_vit
from jepa_wm.objectives import mask_settings
from jepa_wm.objectives import terms as terms_lib


class Settings:
  """The settings of a model: fields are checked, and that the slots fit.

  Attributes:
    choices: for fields of text, the values they may have.
    target: what encodes the latents to be predicted.
    dtype: of the networks' computation; parameters, norms, softmax, losses and
      latents are float32.
  """

  choices: ClassVar[Mapping[str, Sequence[str]]] = {}

  target: targets.Target
  dtype: str

  def __post_init__(self) -> None:
    fields.check(self, {**self.choices, 'dtype': ('float32', 'bfloat16')})
    self.build()

  def build(self) -> Any:
    """Fills the slots."""
    raise NotImplementedError


class ActingSettings(Settings):
  """The settings of a `jepa.Jepa`.

  Attributes:
    action_dim: raw action dimensions of one environment step.
    action_block: environment steps, so raw actions, per latent step.
    predictor: steps latents.
    terms: of the loss, that of the prediction first.
  """

  name: ClassVar[str]

  action_dim: int
  action_block: int
  predictor: predictors.PredictorConfig
  terms: jepa.Terms

  def with_agents(self, num_agents: int) -> Any:
    """The same settings for a group of `num_agents`.

    Variables of the model fit both.

    Raises:
      ValueError: the model is of one agent, or of fewer at most.
    """
    raise ValueError(
      f'The model {self.name!r} has the actions of one agent, and {num_agents} '
      'are to act (num_agents, or the world): take a checkpoint of '
      'multi_agent, or a world of one agent.'
    )


class MaskedSettings(Settings):
  """The settings of a `masked.Masked`, which is documented there.

  Attributes:
    encoder: of clips.
    predictor: of the tokens that a mask hides.
    masks: what is hidden.
    terms: of the loss, that of the hidden tokens first.
    num_levels: see `masked_wanted.Wanted`.
    target_norm: one of `masked_wanted.NORMS`.
    target_input: one of `masked_wanted.INPUTS`.
    inference_layers: see `masked.Masked`.
    inference_encoder: one of `masked.ENCODERS`, which `encode` uses.
    is_of_images: whether a frame is encoded, and not a clip.
  """

  choices: ClassVar[Mapping[str, Sequence[str]]] = {
    'inference_encoder': masked.ENCODERS,
    'target_norm': masked_wanted.NORMS,
    'target_input': masked_wanted.INPUTS,
  }
  is_of_images: ClassVar[bool] = False

  encoder: video_vit.VideoViTConfig
  predictor: masked_predictor.MaskedPredictorConfig
  masks: mask_settings.MaskSettings
  terms: tuple[terms_lib.Term, ...]
  num_levels: int
  target_norm: str
  target_input: str
  inference_layers: int
  inference_encoder: str

  @property
  def stride(self) -> int:
    """Steps of the recording from one frame of a clip to the next."""
    return 1

  def build(self) -> masked.Masked:
    """Fills the slots."""
    return masked.Masked(
      config=self,
      encoder=self.encoder,
      predictor=self.predictor,
      masks=self.masks,
      terms=self.terms,
      target=self.target,
      wanted=masked_wanted.Wanted(
        self.encoder,
        self.target,
        jnp.dtype(self.dtype),
        self.num_levels,
        self.target_norm,
        self.target_input,
      ),
      dtype=jnp.dtype(self.dtype),
      stride=self.stride,
      inference_layers=self.inference_layers,
      inference_encoder=self.inference_encoder,
      is_of_images=self.is_of_images,
    )
