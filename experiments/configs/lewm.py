"""LeWorldModel: the small default, the plain recipe, full size, other worlds.

  --config=experiments/configs/lewm.py:two_room_small   (the default)
  --config=experiments/configs/lewm.py:two_room_plain   published recipe, small
  --config=experiments/configs/lewm.py:two_room         published size
  --config=experiments/configs/lewm.py:two_room_tiny    seconds, for a look
  --config=experiments/configs/lewm.py:push_t_small     64 px, read as points
  --config=experiments/configs/lewm.py:push_t_predictor on what the former made
  --config=experiments/configs/lewm.py:reacher_small    dm_control's arm
  --config=experiments/configs/lewm.py:cube_small       OGBench's cube

Every field of the family is a flag, those left at their defaults too:
`--config.model.regularizer=vcreg`.

Source: LeWorldModel, arXiv 2603.19312, and its released configuration.
"""

import dataclasses

import ml_collections

from experiments.configs import variants
from jepa_wm.data import augmentation

VARIANTS = (
  'two_room_small',
  'two_room_plain',
  'two_room',
  'two_room_tiny',
  'push_t_small',
  'push_t_predictor',
  'reacher_small',
  'cube_small',
)


def get_config(variant: str = 'two_room_small') -> ml_collections.ConfigDict:
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
  config.frozen_encoder = ''
  config.num_steps = 3000
  config.log_every = 100
  config.eval_every = 1000
  config.checkpoint_every = 1000
  config.data = ml_collections.ConfigDict(
    {
      'source': 'cache',
      'path': 'data/two_room',
      'num_frames': 4,
      'batch_size': 128,
      'num_eval_windows': 512,
    }
  )
  config.optimizer = ml_collections.ConfigDict(
    {
      'learning_rate': 1e-3,
      'weight_decay': 1e-3,
      'warmup_fraction': 0.02,
      'clip_norm': 1.0,
    }
  )
  config.augmentation = ml_collections.ConfigDict(
    dataclasses.asdict(augmentation.Augmentation())
  )
  # Networks for two CPU cores: patches of 8 pixels, then one 3x3 convolution.
  small = {
    'name': 'lewm',
    'image_size': 64,
    'encoder': 'conv',
    'encoder_channels': (64, 32),
    'encoder_strides': (8, 1),
    'encoder_blocks': (0, 0),
    'encoder_features': 128,
    'projector_dim': 256,
    'predictor_dim': 128,
    'predictor_depth': 2,
    'predictor_heads': 4,
    'predictor_head_dim': 32,
    'predictor_mlp_dim': 256,
    'dropout': 0.0,
    'num_projections': 256,
  }
  if variant == 'two_room_small':
    config.model = ml_collections.ConfigDict(
      {
        **small,
        'latent_dim': 8,
        'history': 1,
        'rollout_steps': 3,
        'sigreg_weight': 0.09,
        'temporal_similarity_weight': 5.0,
      }
    )
  elif variant == 'two_room_plain':
    config.model = ml_collections.ConfigDict(
      {**small, 'latent_dim': 192, 'history': 3, 'dropout': 0.1}
    )
  elif variant == 'two_room':
    # The released configuration: 10,000 episodes, 10 epochs of the paper at
    # batch 128 are about 60,000 steps.
    config.model = ml_collections.ConfigDict({'name': 'lewm'})
    config.model.dtype = 'bfloat16'
    config.num_steps = 60_000
    config.data.path = 'data/two_room_224'
    config.optimizer.learning_rate = 5e-5
    config.optimizer.warmup_fraction = 0.01
  elif variant in ('push_t_small', 'push_t_predictor'):
    # A disc of 4 pixels and a block whose angle matters. Its maps are read as
    # points, and InfoNCE alone shapes the latent: README.md here says why.
    config.data.path = 'data/push_t'
    config.data.batch_size = 64
    config.num_steps = 6000
    config.eval_every = config.checkpoint_every = 2000
    config.optimizer.learning_rate = 2e-3
    config.optimizer.clip_norm = 10.0
    config.model = ml_collections.ConfigDict(
      {
        **small,
        'pixel_norm': 'white_ground',
        'encoder': 'keypoints',
        'encoder_channels': (16, 32, 32),
        'encoder_strides': (2, 2, 1),
        'encoder_blocks': (0, 0, 0),
        'encoder_features': 256,
        'projector': 'linear',
        'predictor_dim': 192,
        'prediction': 'change',
        'latent_dim': 16,
        'history': 1,
        'rollout_steps': 3,
        'regularizer': 'info_nce',
        'prediction_gradient': 0.0,
      }
    )
    if variant == 'push_t_predictor':
      # A step without pixels costs a fraction, so there are more of them, each
      # of as many predictions as a plan has.
      config.frozen_encoder = 'runs/push_t'
      config.num_steps = 14_000
      config.log_every = 500
      config.data.num_frames = 6
      config.model.rollout_steps = 5
      config.optimizer.learning_rate = 1e-3
  elif variant in ('reacher_small', 'cube_small'):
    config.data.path = f'data/{variant.removesuffix("_small")}'
    config.data.num_frames = 5
    config.num_steps = 2000
    config.model = ml_collections.ConfigDict(
      {
        **small,
        # A picture says nothing of velocities, hence two.
        'action_dim': 2 if variant == 'reacher_small' else 5,
        'latent_dim': 16 if variant == 'reacher_small' else 32,
        'history': 2,
        'rollout_steps': 3,
        'sigreg_weight': 0.09,
        'temporal_similarity_weight': 1.0,
      }
    )
  else:
    config.num_steps = 20
    config.log_every = 5
    config.eval_every = config.checkpoint_every = 10
    config.data.batch_size = 16
    config.data.num_eval_windows = 64
    config.model = ml_collections.ConfigDict(
      {
        **small,
        'encoder_channels': (16, 8),
        'encoder_features': 32,
        'projector_dim': 32,
        'predictor_dim': 32,
        'predictor_depth': 1,
        'num_projections': 32,
        'latent_dim': 8,
        'history': 1,
      }
    )
  variants.fill_in(config)
  return config
