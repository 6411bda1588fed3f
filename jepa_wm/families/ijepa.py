"""I-JEPA: predicts blocks of an image from another block of it."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import jax

from jepa_wm.families import masked
from jepa_wm.objectives import masking
from jepa_wm.types import Params


@dataclasses.dataclass(frozen=True)
class IJEPA(masked.MaskedFamily):
  """I-JEPA as plain fields; the defaults are the published ViT-H/14.

  An image is a clip of one frame. Each target block is predicted on its own.
  The distance is the smooth L1 of the released code; the paper's text says L2.

  Source: I-JEPA, arXiv 2301.08243, and its released code (ijepa at 52c1ae9).

  Attributes, beside those of `masked.MaskedFamily`:
    num_targets: target blocks of an image.
    target_percent: smallest and largest share of a target block, percent.
    context_percent: of the context block, before the targets are taken out.
  """

  name: ClassVar[str] = 'ijepa'

  image_size: int = 224
  patch_size: int = 14
  tubelet_size: int = 1
  num_frames: int = 1
  frame_stride: int = 1
  encoder_dim: int = 1280
  encoder_depth: int = 32
  encoder_heads: int = 16
  encoder_mlp_dim: int = 5120
  predictor_heads: int = 16
  num_mask_tokens: int = 1
  mask_token_std: float = 0.02
  positions: str = 'sincos'
  init_style: str = 'plain'
  prediction_distance: str = 'smooth_l1'
  target_momentum: float = 0.996
  target_momentum_end: float = 1.0
  target_momentum_steps: int = 187_500
  min_context: int = 11
  num_targets: int = 4
  target_percent: tuple[int, ...] = (15, 20)
  context_percent: tuple[int, ...] = (85, 100)

  def __post_init__(self):
    """Checks every field, and that the masks leave a context.

    Raises:
      ValueError: a field out of its range; the message names it.
    """
    if self.num_frames != 1 or self.tubelet_size != 1:
      raise ValueError(
        'ijepa is for images: num_frames and tubelet_size must be 1, got '
        f'{self.num_frames} and {self.tubelet_size}; vjepa takes clips.'
      )
    super().__post_init__()

  @property
  def table_order(self) -> str:
    """One of `sincos.ORDERS`."""
    return 'column_first'

  @property
  def mask_specs(self) -> Sequence[masking.ImageMaskSpec]:
    """The one kind of mask.

    Raises:
      ValueError: a range that is none, or blocks that hide everything.
    """
    for name in ('target_percent', 'context_percent'):
      if len(getattr(self, name)) != 2:
        raise ValueError(
          f'{name} must be the smallest and the largest share, got '
          f'{getattr(self, name)}.'
        )
    target, context = (
      (low / 100, high / 100)
      for low, high in (self.target_percent, self.context_percent)
    )
    return (
      masking.ImageMaskSpec(
        self.grid[1:],
        num_targets=self.num_targets,
        target_scale=target,
        context_scale=context,
        min_context=self.min_context,
      ),
    )

  def tokens(self, variables: Params, pixels: jax.Array) -> jax.Array:
    """Encodes all tokens of images.

    Args:
      variables: as `inference_variables` gives them.
      pixels: uint8 `[..., image_size, image_size, 3]`.

    Returns:
      float32 `[..., P, D]`, after the encoder's last LayerNorm.

    Raises:
      ValueError: pixels of another size or dtype.
    """
    return super().tokens(variables, pixels[..., None, :, :, :])
