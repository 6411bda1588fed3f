"""I-JEPA: still digits on a laptop, and the published size.

  --config=experiments/configs/ijepa.py:digits_small   (the default)
  --config=experiments/configs/ijepa.py:digits_tiny    seconds, for a look
  --config=experiments/configs/ijepa.py:vit_h14        published ViT-H/14

The published one reads images, as windows of one frame, from
`--config.data.path`. Its batch of 2048 is cut to one length as a whole, where
the released code cuts what lies on one GPU.

Source: I-JEPA, arXiv 2301.08243, and its released configuration.
"""

from typing import Any

import ml_collections

from experiments.configs import variants
from jepa_wm.networks.transformer import Sizes

VARIANTS = ('digits_small', 'digits_tiny', 'vit_h14')


def get_config(variant: str = 'digits_small') -> ml_collections.ConfigDict:
  """The fields of a run of one of `VARIANTS`; a ValueError for another."""
  variants.check(variant, VARIANTS)
  if variant == 'vit_h14':
    config, model = _published()
  else:
    config, model = _digits(tiny=variant == 'digits_tiny')
  config.model = ml_collections.ConfigDict({'name': 'ijepa', **model})
  variants.fill_in(config)
  return config


def _published() -> tuple[ml_collections.ConfigDict, dict[str, Any]]:
  """The run, 300 epochs of ImageNet, and what the model does not default to."""
  config = variants.begin(
    187_500,
    data={
      'path': 'data/images',
      'num_frames': 0,
      'batch_size': 2048,
      'num_eval_windows': 4096,
    },
    optimizer={
      'start_learning_rate': 2e-4,
      'learning_rate': 1e-3,
      'final_learning_rate': 1e-6,
      'warmup_fraction': 40 / 300,
      'weight_decay': 0.04,
      'weight_decay_schedule': 'cosine',
      'final_weight_decay': 0.4,
      'clip_norm': 0.0,
      'first_step': 1,
      'decayed': 'matrices',
    },
  )
  config.eval_every = 5000
  # The momentum is at its end with the run.
  return config, {'dtype': 'bfloat16', 'target': {'momentum_steps': 0}}


def _digits(*, tiny: bool) -> tuple[ml_collections.ConfigDict, dict[str, Any]]:
  """A run on still digits and networks for two CPU cores."""
  config = variants.begin(
    60 if tiny else 3000,
    data={
      'source': 'digits',
      'background': 'noise',
      'num_frames': 0,
      'batch_size': 16 if tiny else 64,
      'num_eval_windows': 64 if tiny else 1024,
    },
    optimizer={
      'learning_rate': 1e-3,
      'weight_decay': 0.04,
      'warmup_fraction': 0.1,
      'clip_norm': 10.0,
    },
  )
  config.eval_every = 60 if tiny else 1000
  return config, {
    'encoder': {
      'image_size': 64,
      'patch_size': 8,
      **vars(Sizes(64, 2, 4, 128) if tiny else Sizes(128, 4, 4, 512)),
    },
    'predictor': vars(Sizes(48, 1, 4, 96) if tiny else Sizes(96, 2, 4, 384)),
    # On a grid of 8 x 8 four targets may leave less than the published 11.
    'masks': {'num_buckets': 2 if tiny else 6, 'min_context': 4},
    'target': {
      'momentum': 0.98 if tiny else 0.99,
      # That of the run.
      'momentum_steps': 0,
    },
  }
