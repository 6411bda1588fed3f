"""LeWorldModel: the small default, the plain recipe, full size, other worlds.

  --config=experiments/configs/lewm.py:two_room_small   (the default)
  --config=experiments/configs/lewm.py:two_room_plain   published recipe, small
  --config=experiments/configs/lewm.py:two_room         published size
  --config=experiments/configs/lewm.py:push_t           the same of Push-T
  --config=experiments/configs/lewm.py:two_room_tiny    seconds, for a look
  --config=experiments/configs/lewm.py:push_t_small     64 px, read as points
  --config=experiments/configs/lewm.py:push_t_predictor on what the former made
  --config=experiments/configs/lewm.py:reacher_small    dm_control's arm
  --config=experiments/configs/lewm.py:cube_small       OGBench's cube
  --config=experiments/configs/lewm.py:point_maze_small    a point in a U maze
  --config=experiments/configs/lewm.py:diverse_maze_small  in many layouts
  --config=experiments/configs/lewm.py:diverse_maze_predictor  what that made

Every field of the model is a flag, those left at their defaults too:
`--config.model.predictor.dropout=0.1`. Another kind of module is
`--config.model.encoder.name=vit`, whose fields then are flags; another term of
the loss is `--config.model.terms.vcreg.variance=18`.

Source: LeWorldModel, arXiv 2603.19312, and its released configuration.
"""

from typing import Any

import ml_collections

from experiments.configs import variants

VARIANTS = (
  'two_room_small',
  'two_room_plain',
  'two_room',
  'push_t',
  'two_room_tiny',
  'push_t_small',
  'push_t_predictor',
  'reacher_small',
  'cube_small',
  'point_maze_small',
  'diverse_maze_small',
  'diverse_maze_predictor',
)

FULL_SIZE = {'two_room': 60_000, 'push_t': 280_000}
"""Steps of batch 128 that are about 10 epochs, as in the paper: of 10,000
episodes of 92 frames, and of 20,000 of 196, in windows that span 16."""


def get_config(variant: str = 'two_room_small') -> ml_collections.ConfigDict:
  """The fields of a run of one of `VARIANTS`; a ValueError for another."""
  variants.check(variant, VARIANTS)
  config = variants.begin(3000, data={'batch_size': 128})
  if variant == 'two_room_small':
    model = small(latent_dim=8, history=1)
    model['terms']['prediction'] = {'steps': 3}
    model['terms']['temporal_similarity'] = {'weight': 5.0}
  elif variant.rpartition('_')[0] in ('point_maze', 'diverse_maze'):
    model = _maze(config, variant)
  elif variant == 'two_room_plain':
    model = small(latent_dim=192, history=3)
    model['predictor']['dropout'] = 0.1
  elif variant in FULL_SIZE:
    # The released configuration.
    model = {'name': 'lewm', 'dtype': 'bfloat16'}
    config.num_steps = FULL_SIZE[variant]
    config.data.path = f'data/{variant}_224'
    config.optimizer.learning_rate = 5e-5
    config.optimizer.warmup_fraction = 0.01
  elif variant == 'two_room_tiny':
    variants.shorten(config)
    model = small(latent_dim=8, history=1)
    model['encoder'] |= {'channels': (16, 8), 'features': 32}
    model['projector'] = {'hidden_dim': 32}
    model['actions'] = {'features': 32}
    model['predictor'] |= {'width': 32, 'depth': 1}
    model['terms']['sigreg'] = {'num_projections': 32}
  else:
    model = _read_as_points(config, variant)
  config.model = ml_collections.ConfigDict(model)
  variants.fill_in(config)
  return config


def small(*, latent_dim: int, history: int) -> dict[str, Any]:
  """LeWM for two CPU cores: patches of 8 pixels, then one 3x3 convolution.

  Args:
    latent_dim: size of a latent.
    history: longest window of the predictor.

  Returns:
    Nested settings, to be changed.
  """
  return {
    'name': 'lewm',
    'latent_dim': latent_dim,
    'encoder': {
      'name': 'conv',
      'image_size': 64,
      'channels': (64, 32),
      'strides': (8, 1),
      'blocks': (0, 0),
      'features': 128,
    },
    'projector': {'hidden_dim': 256},
    'actions': {'features': 128},
    'predictor': {
      'history': history,
      'width': 128,
      'depth': 2,
      'num_heads': 4,
      'head_dim': 32,
      'mlp_dim': 256,
      'dropout': 0.0,
    },
    'terms': {
      'prediction': {},
      'sigreg': {'num_projections': 256},
      'temporal_similarity': {},
      'straightening': {},
    },
  }


def _read_as_points(
  config: ml_collections.ConfigDict, variant: str
) -> dict[str, Any]:
  """Makes `config` that of a world of small things whose angles matter.

  Maps are read as points, and InfoNCE alone shapes the latent: docs/results.md
  says why.

  Args:
    config: changed.
    variant: one of those of Push-T, Reacher and Cube.

  Returns:
    The settings of the model.
  """
  world = variant.rpartition('_')[0]
  config.data.path = f'data/{world}'
  config.data.batch_size = 64
  config.optimizer.learning_rate = 2e-3
  config.optimizer.clip_norm = 10.0
  model = small(latent_dim=32 if world == 'cube' else 16, history=2)
  model |= {
    'action_dim': 5 if world == 'cube' else 2,
    'encoder': {
      'name': 'keypoints',
      'image_size': 64,
      'channels': (16, 32, 32),
      'strides': (2, 2, 1),
      'blocks': (0, 0, 0),
      'features': 256,
    },
    'projector': {'name': 'linear'},
    'actions': {'features': 192},
    'predicts': 'change',
    'terms': {
      'prediction': {'steps': 3, 'gradient': 0.0},
      'info_nce': {},
      'temporal_similarity': {},
      'straightening': {},
    },
  }
  model['predictor']['width'] = 192
  if world == 'push_t':
    config.num_steps = 6000
    config.eval_every = config.checkpoint_every = 2000
    model['encoder']['pixel_norm'] = 'white_ground'
    model['predictor']['history'] = 1
  else:
    config.num_steps = 1500
    config.eval_every = config.checkpoint_every = 500
    # A picture says nothing of velocities, hence a history of two.
    config.data.num_frames = 5
  if variant == 'push_t_predictor':
    _on_frozen(config, model, 'runs/push_t')
    config.num_steps = 14_000
    config.optimizer.learning_rate = 1e-3
  return model


def _maze(config: ml_collections.ConfigDict, variant: str) -> dict[str, Any]:
  """Makes `config` that of a maze, and gives the settings of the model."""
  # A picture says nothing of velocities, hence a history of two.
  model = small(latent_dim=8, history=2)
  if variant == 'point_maze_small':
    config.data.path = 'data/point_maze'
    config.data.num_frames = 5
    model['terms']['prediction'] = {'steps': 3}
    model['terms']['temporal_similarity'] = {'weight': 5.0}
    return model
  model |= _of_points_on_a_map(num_points=1)
  # Every episode in a layout of its own; where the agent is takes few steps.
  config.data.path = 'data/diverse_maze_all'
  config.data.num_frames = 4
  config.data.batch_size = 32
  config.num_steps = config.eval_every = config.checkpoint_every = 800
  config.optimizer.learning_rate = 2e-3
  if variant == 'diverse_maze_predictor':
    _on_frozen(config, model, 'runs/diverse_maze')
    model['terms']['prediction']['slides'] = True
    config.data.batch_size = 64
    config.num_steps = 3000
    config.eval_every = config.checkpoint_every = 1000
  return model


def _of_points_on_a_map(num_points: int) -> dict[str, Any]:
  """Settings of a model whose latent is a few points and a map around them.

  Walls do not move and are predicted best, so that where the agent is must be
  asked for: by what acts on it, of the points alone.
  """
  map_channels, rows = 2, 16
  return {
    'latent_dim': 2 * num_points + map_channels * rows**2,
    'encoder': {
      'name': 'points_on_map',
      'image_size': 4 * rows,
      'channels': 8,
      'num_points': num_points,
      'map_channels': map_channels,
    },
    'projector': {'name': 'none'},
    'actions': {'features': 32},
    'predictor': {
      'name': 'looking_around',
      'history': 2,
      'num_points': num_points,
      'rows': rows,
      'width': 256,
    },
    'predicts': 'change',
    'terms': {
      'prediction': {'steps': 2, 'slides': True},
      'inverse_dynamics': {
        'weight': 10.0,
        'hidden_dim': 256,
        'num_seen': 2 * num_points,
      },
      'temporal_similarity': {},
    },
  }


def _on_frozen(
  config: ml_collections.ConfigDict, model: dict[str, Any], run: str
) -> None:
  """Makes it a predictor on the latents of a run, `config` and `model`.

  A step without pixels costs a fraction, so there are more of them, each of as
  many predictions as a plan has.
  """
  config.frozen_encoder = run
  config.log_every = 500
  config.data.num_frames = 5 + model['predictor']['history']
  model['target'] = {'name': 'frozen'}
  model['terms'] = {'prediction': {'steps': 5}}
