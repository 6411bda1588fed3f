"""Agents that learn in the imagination of a trained model.

  --config=experiments/configs/rl.py:imagination  an actor and its critics

also as `_tiny`, seconds, for a look. The model is that of
`--config.frozen_encoder`, by default the checkpoint that ships.
`experiments.train_agent` takes the name alone: `--agent=imagination`.

Source of the settings: the first ones that were tried, in Two Room.
"""

import dataclasses
from typing import Any

import ml_collections

from experiments.configs import variants
from jepa_wm import fields, recipes
from jepa_wm.data import config as data_config
from jepa_wm.models import heads
from jepa_wm.training import hooks, optimizers

AGENTS = ('imagination',)
VARIANTS = (*AGENTS, *(f'{name}_tiny' for name in AGENTS))


def get_config(variant: str = 'imagination') -> ml_collections.ConfigDict:
  """The fields of a run.

  Args:
    variant: one of `VARIANTS`.

  Returns:
    What `experiments.train_agent` takes.

  Raises:
    ValueError: there is no such variant.
  """
  variants.check(variant, VARIANTS)
  tiny = variant.endswith('_tiny')
  num_steps = 4 if tiny else 250
  every = num_steps // 2
  head: dict[str, Any] = {'name': 'actor_critic'}
  agent: dict[str, Any] = {'num_frames': 64, 'horizon': 3} if tiny else {}
  if tiny:
    head |= {'width': 16, 'depth': 1}
  return ml_collections.ConfigDict(
    {
      'seed': 0,
      'num_steps': num_steps,
      'frozen_encoder': 'two_room_small',
      **dataclasses.asdict(
        hooks.Intervals(
          log_every=max(num_steps // 25, 1),
          eval_every=every,
          checkpoint_every=every,
        )
      ),
      'agent': dataclasses.asdict(recipes.Imagining(**agent)),
      'head': fields.to_dict(fields.from_dict(heads.HEADS, head)),
      'data': dataclasses.asdict(
        data_config.DataConfig(batch_size=8 if tiny else 256)
      ),
      'optimizer': optimizers.to_config(
        learning_rate=1e-3, weight_decay=0.0, warmup_fraction=0.02
      ),
    }
  )
