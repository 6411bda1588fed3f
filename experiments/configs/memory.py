"""Models that remember: an encoder, then predictors on whole episodes.

  --config=experiments/configs/memory.py:t_maze_encoder  LeWM on 4 frames
  --config=experiments/configs/memory.py:t_maze          on what that made
  --config=experiments/configs/memory.py:two_room        where none is needed

The second one trains a predictor alone, on the frozen latents of
`runs/t_maze_encoder` and over episodes of 225 frames. Which one is a flag, as
all of its fields:

  --config.model.predictor.name=hybrid          the default
  --config.model.predictor.linear_every=1       Gated DeltaNet alone
  --config.model.predictor.name=banks
  --config.model.predictor.name=recurrent --config.model.predictor.memory_dim=64
  --config.model.predictor.name=causal --config.model.predictor.history=3
"""

from typing import Any

import ml_collections

from experiments.configs import lewm, variants

VARIANTS = ('t_maze', 't_maze_encoder', 'two_room')

EPISODE = 224
"""Steps of the episodes: a gap of 200 and the walk after it."""


def get_config(variant: str = 't_maze') -> ml_collections.ConfigDict:
  """The fields of a run of one of `VARIANTS`; a ValueError for another."""
  variants.check(variant, VARIANTS)
  if variant == 't_maze_encoder':
    # Short gaps, so that there is much to see in few frames.
    config = variants.begin(
      800, data={'path': 'data/t_maze_8', 'batch_size': 128}
    )
    model = _small()
    model['predictor'] |= {'name': 'causal', 'history': 3}
    model['terms'] = {'prediction': {}, 'sigreg': {'num_projections': 256}}
  elif variant == 'two_room':
    # The longest windows that the shortest episodes have.
    config = variants.begin(1500, data={'num_frames': 6, 'batch_size': 64})
    config.frozen_encoder = 'two_room_small'
    model = lewm.small(latent_dim=8, history=3)
    model['target'] = {'name': 'frozen'}
    model['terms'] = {'prediction': {}}
  else:
    config = variants.begin(
      1500,
      data={
        'path': 'data/t_maze',
        'num_frames': EPISODE + 1,
        'batch_size': 16,
        'num_eval_windows': 32,
      },
    )
    config.frozen_encoder = 'runs/t_maze_encoder'
    model = _small()
    # Most frames are like the one before.
    model['predicts'] = 'change'
    model['predictor'] |= {
      'name': 'hybrid',
      'linear_every': 2,
      'history': EPISODE,
    }
    model['target'] = {'name': 'frozen'}
    model['terms'] = {'prediction': {}}
  config.model = ml_collections.ConfigDict(model)
  variants.fill_in(config)
  return config


def _small() -> dict[str, Any]:
  """LeWM in 64 pixels, a step of the world a step of the model."""
  model = lewm.small(latent_dim=16, history=1)
  model['action_block'] = 1
  # Statistics of a batch would be those of waiting.
  model['projector'] = {'name': 'linear'}
  model['actions'] = {'features': 64}
  model['predictor'] = {
    'width': 64,
    'depth': 2,
    'num_heads': 4,
    'head_dim': 16,
    'mlp_dim': 128,
    'dropout': 0.0,
  }
  return model
