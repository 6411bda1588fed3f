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

VARIANTS = ('digits_small', 'digits_tiny', 'vit_h14')


def get_config(variant: str = 'digits_small') -> ml_collections.ConfigDict:
  """The fields of a run.

  Args:
    variant: one of `VARIANTS`.

  Returns:
    What `experiments.train` takes.

  Raises:
    ValueError: there is no such variant.
  """
  variants.check(variant, VARIANTS)
  config = ml_collections.ConfigDict()
  config.seed = 0
  config.log_every = 100
  config.checkpoint_every = 1000
  if variant == 'vit_h14':
    # 300 epochs of ImageNet.
    config.num_steps, config.eval_every = 187_500, 5000
    source = {'source': 'cache', 'path': 'data/images'}
    batch_size, num_eval_windows = 2048, 4096
    schedule: dict[str, Any] = {
      'start_learning_rate': 2e-4,
      'final_learning_rate': 1e-6,
      'warmup_fraction': 40 / 300,
      'weight_decay_schedule': 'cosine',
      'final_weight_decay': 0.4,
      'clip_norm': 0.0,
      'first_step': 1,
      'decayed': 'matrices',
    }
    model: dict[str, Any] = {'dtype': 'bfloat16'}
  else:
    tiny = variant == 'digits_tiny'
    config.num_steps = 60 if tiny else 3000
    config.eval_every = 60 if tiny else 1000
    source = {'source': 'digits', 'background': 'noise'}
    batch_size, num_eval_windows = (16, 64) if tiny else (64, 1024)
    schedule = {'warmup_fraction': 0.1, 'clip_norm': 10.0}
    model = {
      'encoder': {
        'image_size': 64,
        'patch_size': 8,
        'width': 64 if tiny else 128,
        'depth': 2 if tiny else 4,
        'num_heads': 4,
        'mlp_dim': 128 if tiny else 512,
      },
      'predictor': {
        'width': 48 if tiny else 96,
        'depth': 1 if tiny else 2,
        'num_heads': 4,
        'mlp_dim': 96 if tiny else 384,
      },
      # On a grid of 8 x 8 four targets may leave less than the published 11.
      'masks': {'num_buckets': 2 if tiny else 6, 'min_context': 4},
      'target': {
        'momentum': 0.98 if tiny else 0.99,
        'momentum_steps': config.num_steps,
      },
    }
  config.data = ml_collections.ConfigDict(
    {
      **source,
      'num_frames': 1,
      'batch_size': batch_size,
      'num_eval_windows': num_eval_windows,
    }
  )
  config.optimizer = ml_collections.ConfigDict(
    {'learning_rate': 1e-3, 'weight_decay': 0.04, **schedule}
  )
  config.model = ml_collections.ConfigDict({'name': 'ijepa', **model})
  variants.fill_in(config)
  return config
