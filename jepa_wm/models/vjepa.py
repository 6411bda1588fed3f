"""V-JEPA 1, 2 and options of 2.1: predicts the hidden parts of clips."""

import dataclasses
from typing import ClassVar

from jepa_wm import fields
from jepa_wm.models import jepa, masked, masked_wanted, model, settings, targets
from jepa_wm.networks import masked_predictor, video_vit
from jepa_wm.objectives import hidden_tokens, mask_settings
from jepa_wm.objectives import terms as terms_lib


@model.MODELS.register
@dataclasses.dataclass(frozen=True)
class VJEPA(settings.MaskedSettings):
  """The settings of V-JEPA; the defaults are V-JEPA 2's ViT-L/16.

  V-JEPA 1 is `encoder.positions=sincos`, `encoder.init_style='plain'`,
  `predictor.num_mask_tokens=2`, `predictor.mask_token='per_kind'`, as many
  heads in the predictor as in the encoder, and a momentum from 0.998 to 1;
  V-JEPA 2.1 turns on `terms.hidden_tokens.context_weight`, `num_levels=4` and
  `encoder.positions.style='interleaved'`.

  Source: V-JEPA, arXiv 2404.08471; V-JEPA 2, arXiv 2506.09985, and its released
  code (vjepa2 at c2963a4).

  Attributes:
    encoder: see `settings.MaskedSettings`, as all that is not here.
    target: the moving average of the encoder; V-JEPA 1's has `stretch=1.25`.
    frame_stride: steps of the recording from one frame of a clip to the next.
  """

  name: ClassVar[str] = 'vjepa'

  encoder: video_vit.VideoViTConfig = fields.one_of(
    video_vit.CLIP_ENCODERS, video_vit.VideoViTConfig()
  )
  predictor: masked_predictor.MaskedPredictorConfig = fields.one_of(
    masked_predictor.MASKED_PREDICTORS, masked_predictor.MaskedPredictorConfig()
  )
  masks: mask_settings.MaskSettings = fields.one_of(
    mask_settings.MASKS, mask_settings.VideoMasks()
  )
  terms: jepa.Terms = fields.some_of(
    terms_lib.TERMS, (hidden_tokens.HiddenTokens(),)
  )
  target: targets.Target = fields.one_of(
    targets.MASKED_TARGETS, targets.EMA(momentum=0.99925, momentum_end=0.99925)
  )
  frame_stride: int = 4
  num_levels: int = 1
  target_norm: str = masked_wanted.NORMS[0]
  target_input: str = masked_wanted.INPUTS[0]
  inference_layers: int = 1
  inference_encoder: str = masked.ENCODERS[0]
  dtype: str = 'float32'

  @property
  def stride(self) -> int:
    """See `settings.MaskedSettings`."""
    return self.frame_stride
