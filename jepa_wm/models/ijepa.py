"""I-JEPA: predicts blocks of an image from another block of it."""

import dataclasses
from typing import ClassVar

from jepa_wm import fields
from jepa_wm.models import jepa, masked, masked_wanted, model, settings, targets
from jepa_wm.networks import masked_predictor, positions, sizes, video_vit
from jepa_wm.objectives import hidden_tokens, mask_settings
from jepa_wm.objectives import terms as terms_lib


@model.MODELS.register
@dataclasses.dataclass(frozen=True)
class IJEPA(settings.MaskedSettings):
  """The settings of I-JEPA; the defaults are the published ViT-H/14.

  An image is a clip of one frame. Each target block is predicted on its own.
  The distance is the smooth L1 of the released code; the paper's text says L2.

  Source: I-JEPA, arXiv 2301.08243, and its released code (ijepa at 52c1ae9).

  Its fields are those of `settings.MaskedSettings`.
  """

  name: ClassVar[str] = 'ijepa'
  is_of_images: ClassVar[bool] = True

  encoder: video_vit.VideoViTConfig = fields.one_of(
    video_vit.CLIP_ENCODERS,
    video_vit.VideoViTConfig(
      image_size=224,
      patch_size=14,
      tubelet_size=1,
      num_frames=1,
      **sizes.VIT['huge'],
      positions=positions.SinCos(order='column_first'),
      init_style='plain',
    ),
  )
  predictor: masked_predictor.MaskedPredictorConfig = fields.one_of(
    masked_predictor.MASKED_PREDICTORS,
    masked_predictor.MaskedPredictorConfig(
      num_heads=16, num_mask_tokens=1, mask_token_std=0.02
    ),
  )
  masks: mask_settings.MaskSettings = fields.one_of(
    mask_settings.MASKS, mask_settings.ImageMasks()
  )
  terms: jepa.Terms = fields.some_of(
    terms_lib.TERMS, (hidden_tokens.HiddenTokens(distance='smooth_l1'),)
  )
  target: targets.Target = fields.one_of(
    targets.MASKED_TARGETS,
    targets.EMA(momentum=0.996, momentum_end=1.0, momentum_steps=187_500),
  )
  num_levels: int = 1
  target_norm: str = masked_wanted.NORMS[0]
  target_input: str = masked_wanted.INPUTS[0]
  inference_layers: int = 1
  inference_encoder: str = masked.ENCODERS[0]
  dtype: str = 'float32'

  def __post_init__(self) -> None:
    if self.encoder.num_frames != 1 or self.encoder.tubelet_size != 1:
      raise ValueError(
        'ijepa is for images: encoder.num_frames and encoder.tubelet_size must '
        f'be 1, got {self.encoder.num_frames} and {self.encoder.tubelet_size}; '
        'vjepa takes clips.'
      )
    super().__post_init__()
