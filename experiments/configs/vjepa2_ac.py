"""V-JEPA 2-AC: on Two Room with a frozen encoder of ours, or as published.

  --config=experiments/configs/vjepa2_ac.py:two_room_small  (the default), on
      the shipped LeWM's convolutions, 2 x 2 tokens
  --config=experiments/configs/vjepa2_ac.py:published       the released
      predictor over V-JEPA 2's ViT-g at 256 px, for DROID; add
      --config.frozen_encoder=vitg.pt, the released file
  --config=experiments/configs/vjepa2_ac.py:two_room_tiny   seconds, for a look

`--config.frozen_encoder=runs/mine` takes the encoder of any run of ours, and a
file or folder of published weights that of V-JEPA, I-JEPA or DINOv2.

Source: V-JEPA 2, arXiv 2506.09985, and its released configuration.
"""

from typing import Any

import ml_collections

from experiments.configs import variants
from jepa_wm import exports

VARIANTS = ('two_room_small', 'published', 'two_room_tiny')


def get_config(variant: str = 'two_room_small') -> ml_collections.ConfigDict:
  """The fields of a run of one of `VARIANTS`; a ValueError for another."""
  variants.check(variant, VARIANTS)
  config = variants.begin(3000, data={'batch_size': 64})
  if variant == 'published':
    # Up for 4,500 steps of batch 256, level for 85,500, down to 0 for 4,500.
    model: dict[str, Any] = {
      'name': 'vjepa2_ac',
      'encoder': {'encoder': {'name': 'video_vit', 'size': 'giant'}},
      'dtype': 'bfloat16',
    }
    config.num_steps = 94_500
    config.data.path = 'data/droid'
    config.data.num_frames = 8
    config.data.batch_size = 256
    config.optimizer = ml_collections.ConfigDict(
      {
        'start_learning_rate': 7.5e-5,
        'learning_rate': 4.25e-4,
        'weight_decay': 0.04,
        'warmup_fraction': 4500 / config.num_steps,
        'decay': 'linear',
        'decay_fraction': 4500 / config.num_steps,
        'clip_norm': 0.0,
        'first_step': 1,
        'decayed': 'matrices',
      }
    )
  else:
    config.frozen_encoder = 'two_room_small'
    model = {
      'name': 'vjepa2_ac',
      'action_dim': 2,
      'action_block': 5,
      'encoder': {
        'encoder': exports.read_encoder('two_room_small'),
        'pool': 4,
        'norm': 'dataset',
        'proprio_dim': 0,
      },
      'predictor': {
        # As long as plans are, so that no window slides.
        'history': 6,
        'width': 96,
        'depth': 2,
        'num_heads': 4,
        'mlp_dim': 256,
      },
    }
  if variant == 'two_room_tiny':
    variants.shorten(config)
    model['predictor'] |= {'width': 32, 'depth': 1}
  config.model = ml_collections.ConfigDict(model)
  variants.fill_in(config)
  return config
