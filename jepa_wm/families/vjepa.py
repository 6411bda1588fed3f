"""V-JEPA 1, 2 and options of 2.1: predicts the hidden parts of clips."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

from jepa_wm.families import masked
from jepa_wm.objectives import masking


@dataclasses.dataclass(frozen=True)
class VJEPA(masked.MaskedFamily):
  """V-JEPA as plain fields; the defaults are V-JEPA 2's ViT-L/16.

  V-JEPA 1 is `positions='sincos'`, `init_style='plain'`, `num_mask_tokens=2`,
  `mask_token='per_kind'`, as many heads in the predictor as in the encoder, and
  a momentum from 0.998 to 1; V-JEPA 2.1 turns on `context_weight`,
  `num_levels=4` and `rope_style='interleaved'`.

  A step has as many kinds of mask as `mask_blocks` has entries; each hides a
  union of that many blocks, tubes through the whole clip.

  Source: V-JEPA, arXiv 2404.08471; V-JEPA 2, arXiv 2506.09985, and its released
  code (vjepa2 at c2963a4).

  Attributes, beside those of `masked.MaskedFamily`:
    mask_blocks: blocks of every kind of mask; short-range, long-range.
    mask_percent: share of the frame that one block covers, percent.
    mask_temporal_percent: share of the clip that one block covers, percent.
    context_temporal_percent: share of the clip, from its start, that may be
      context, percent (`p / 16` is the paper's causal multi-block[p]).
  """

  name: ClassVar[str] = 'vjepa'

  mask_blocks: tuple[int, ...] = (8, 2)
  mask_percent: tuple[int, ...] = (15, 70)
  mask_temporal_percent: int = 100
  context_temporal_percent: int = 100

  def __post_init__(self):
    """Checks every field, and that the masks leave a context.

    Raises:
      ValueError: a field out of its range; the message names it.
    """
    super().__post_init__()
    if self.num_mask_tokens < len(self.mask_blocks) and (
      self.mask_token == 'per_kind'
    ):
      raise ValueError(
        f'num_mask_tokens={self.num_mask_tokens} are too few for '
        f'{len(self.mask_blocks)} kinds of mask; take more, or '
        "mask_token='shared'."
      )

  @property
  def mask_specs(self) -> Sequence[masking.VideoMaskSpec]:
    """The kinds of mask of a step.

    Raises:
      ValueError: the lists differ in length, or a mask hides everything.
    """
    if len(self.mask_blocks) != len(self.mask_percent):
      raise ValueError(
        'mask_blocks and mask_percent must have an entry per kind of mask '
        f'each, got {self.mask_blocks} and {self.mask_percent}.'
      )
    duration = self.mask_temporal_percent / 100
    return tuple(
      masking.VideoMaskSpec(
        self.grid,
        num_blocks=num_blocks,
        spatial_scale=(percent / 100, percent / 100),
        temporal_scale=(duration, duration),
        max_temporal_keep=self.context_temporal_percent / 100,
        min_context=self.min_context,
      )
      for num_blocks, percent in zip(self.mask_blocks, self.mask_percent)
    )
