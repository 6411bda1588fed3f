"""Several agents in one latent world: trained with two, used with up to eight.

  --config=experiments/configs/multi_agent.py:two_room_small   (the default)
  --config=experiments/configs/multi_agent.py:two_room_tiny    seconds

The data is that of two agents (experiments.collect
--environment=two_room_agents --policy=mixture --out=data/two_room_agents).

Source: LeWorldModel, arXiv 2603.19312, on tokens of agents that are told apart
and meet as in gamma-World, arXiv 2605.28816.
"""

import ml_collections

from experiments.configs import lewm, variants

VARIANTS = ('two_room_small', 'two_room_tiny')


def get_config(
  variant: str = 'two_room_small',
) -> ml_collections.ConfigDict:
  """The fields of a run of one of `VARIANTS`; a ValueError for another."""
  variants.check(variant, VARIANTS)
  # Two agents a frame: half as many frames are as many tokens.
  config = variants.begin(
    3000, data={'batch_size': 64, 'path': 'data/two_room_agents'}
  )
  model = lewm.small(latent_dim=8, history=1)
  model['name'] = 'multi_agent'
  model['token_dim'] = model.pop('latent_dim')
  # An encoder sees three views of every frame.
  model['encoder'] |= {'channels': (32, 16)}
  model['sees_others'] = False
  model['predictor'] |= {'name': 'hubs', 'num_hubs': 2}
  # Nothing in the room changes but agents, and its token need say nothing.
  model['terms'] = {
    'prediction': {'steps': 3},
    'agent_sigreg': {'num_projections': 256, 'scene_weight': 0.0},
    'temporal_similarity': {'weight': 5.0},
    'straightening': {},
  }
  if variant == 'two_room_tiny':
    variants.shorten(config)
    model['encoder'] |= {'channels': (8, 8), 'features': 32}
    model['projector'] = {'hidden_dim': 32}
    model['actions'] = {'features': 32}
    model['predictor'] |= {'width': 32, 'mlp_dim': 32}
    model['terms']['agent_sigreg']['num_projections'] = 32
  config.model = ml_collections.ConfigDict(model)
  variants.fill_in(config)
  return config
