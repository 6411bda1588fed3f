"""DINO-WM on Two Room: on a frozen encoder of ours, or on DINOv2.

  --config=experiments/configs/dino_wm.py:two_room_small  (the default), on the
      shipped LeWM's convolutions, 2 x 2 tokens
  --config=experiments/configs/dino_wm.py:two_room        published: DINOv2 S/14
      at 224 px; add --config.frozen_encoder=FOLDER with its weights
  --config=experiments/configs/dino_wm.py:push_t          the same of Push-T
  --config=experiments/configs/dino_wm.py:two_room_tiny   seconds, for a look

`--config.frozen_encoder=runs/mine` takes the encoder of any run of ours.

Source: DINO-WM, arXiv 2411.04983, and its released configuration.
"""

from typing import Any

import ml_collections

from experiments.configs import variants
from jepa_wm import exports

VARIANTS = ('two_room_small', 'two_room', 'push_t', 'two_room_tiny')

_FULL_SIZE = {'two_room': 60_000, 'push_t': 1_130_000}
"""Steps of batch 32. Those of Push-T are about 10 epochs of 20,000 episodes of
196 frames, as LeWM trains its baselines; DINO-WM itself has 100."""


def get_config(variant: str = 'two_room_small') -> ml_collections.ConfigDict:
  """The fields of a run of one of `VARIANTS`; a ValueError for another."""
  variants.check(variant, VARIANTS)
  config = variants.begin(2500, data={'batch_size': 64})
  if variant in _FULL_SIZE:
    # 100 epochs of batch 32 in the paper.
    model: dict[str, Any] = {'name': 'dino_wm', 'dtype': 'bfloat16'}
    config.num_steps = _FULL_SIZE[variant]
    config.data.path = f'data/{variant}_224'
    config.data.batch_size = 32
    config.optimizer.learning_rate = 5e-4
  else:
    config.frozen_encoder = 'two_room_small'
    model = {
      'name': 'dino_wm',
      'encoder': {
        'encoder': exports.read_encoder('two_room_small'),
        'pool': 4,
        'norm': 'dataset',
      },
      'predictor': {
        'history': 1,
        'condition_features': 32,
        'width': 96,
        'depth': 2,
        'num_heads': 4,
        'head_dim': 16,
        'mlp_dim': 256,
        'dropout': 0.0,
      },
      'terms': {'prediction': {'steps': 3}},
    }
  if variant == 'two_room_tiny':
    variants.shorten(config)
    model['predictor'] |= {'width': 32, 'depth': 1}
    model['terms'] = {'prediction': {'steps': 1}}
  config.model = ml_collections.ConfigDict(model)
  variants.fill_in(config)
  return config
