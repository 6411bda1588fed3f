"""Heads on the latents of a frozen encoder: actions, pictures, states.

  --config=experiments/configs/heads.py:inverse_dynamics  proposals
  --config=experiments/configs/heads.py:policy            a policy (GCBC)
  --config=experiments/configs/heads.py:gcivl             values, and a policy
  --config=experiments/configs/heads.py:gciql             of blocks too
  --config=experiments/configs/heads.py:temporal_distance steps to a goal
  --config=experiments/configs/heads.py:reward            of data that has any
  --config=experiments/configs/heads.py:waypoints         a level above
  --config=experiments/configs/heads.py:landmarks         a graph of the ways
  --config=experiments/configs/heads.py:drafter           what comes next
  --config=experiments/configs/heads.py:safety            a forbidden zone
  --config=experiments/configs/heads.py:decoder           pictures
  --config=experiments/configs/heads.py:probe             the true state

each also as `_tiny`, seconds, for a look. The encoder is that of
`--config.frozen_encoder`, by default the checkpoint that ships; a head is of no
use to any other.

Another head, such as one of your own, is `--config.head.name=NAME`, whose
fields then are flags.

Source of the first: GC-IDM; half as wide as published.
"""

import dataclasses
import sys
from typing import Any

import ml_collections

from experiments.configs import variants
from jepa_wm import fields
from jepa_wm.data import config as data_config
from jepa_wm.models import heads
from jepa_wm.training import hooks, optimizers

_STEPS = {
  'inverse_dynamics': 6000,
  'policy': 3000,
  'gcivl': 3000,
  'gciql': 3000,
  'temporal_distance': 3000,
  'reward': 2000,
  'waypoints': 3000,
  'drafter': 3000,
  'safety': 2000,
  'apart': 2000,
  'decoder': 2000,
  'probe': 1000,
}

# Without gradients, in one pass.
_FITTED = ('landmarks',)

# Whole, and tiny.
_BATCHES = {
  'decoder': (64, 16),
  'temporal_distance': (1024, 256),
  'safety': (1024, 256),
  'apart': (1024, 256),
}
_RATES = {'inverse_dynamics': 5e-4, 'decoder': 2e-3, 'probe': 2e-3}

_SMALL = {'width': 32, 'depth': 1}
_TINY: dict[str, dict[str, Any]] = {
  'inverse_dynamics': {**_SMALL, 'horizons': (10, 20)},
  'policy': {**_SMALL, 'num_proposals': 3},
  'gcivl': {**_SMALL, 'num_proposals': 3},
  'gciql': {**_SMALL, 'num_proposals': 3},
  'temporal_distance': _SMALL,
  'reward': _SMALL,
  'waypoints': {**_SMALL, 'num_recorded': 32},
  'drafter': _SMALL,
  'safety': {**_SMALL, 'num_blocks': 2},
  'apart': {**_SMALL, 'num_blocks': 2},
  'decoder': {'channels': (8,)},
  'probe': {},
  'landmarks': {
    'num_landmarks': 16,
    'num_spare': 4,
    'num_seen': 1,
    'stride': 4,
  },
}

VARIANTS = tuple(
  f'{name}{size}' for size in ('', '_tiny') for name in (*_STEPS, *_FITTED)
)


def get_config(variant: str = 'inverse_dynamics') -> ml_collections.ConfigDict:
  """The fields of a run.

  Args:
    variant: one of `VARIANTS`.

  Returns:
    What `experiments.train` takes.

  Raises:
    ValueError: there is no such variant.
  """
  variants.check(variant, VARIANTS)
  name = variant.removesuffix('_tiny')
  tiny = variant != name
  head: dict[str, Any] = {'name': name}
  if tiny:
    head |= _TINY[name]
  if (asked := variants.given('head.name', sys.argv, name)) != name:
    head = {'name': asked}
  settings = fields.from_dict(heads.HEADS, head)
  shared = {
    'seed': 0,
    'frozen_encoder': 'two_room_small',
    'head': fields.to_dict(settings),
    'data': dataclasses.asdict(
      data_config.DataConfig(
        batch_size=_BATCHES.get(name, (256, 256))[tiny],
        num_eval_windows=64 if tiny else 2048,
      )
    ),
  }
  if settings.batches == 'episodes':
    return ml_collections.ConfigDict(shared)
  num_steps = 40 if tiny else _STEPS.get(name, 3000)
  every = num_steps // 2
  return ml_collections.ConfigDict(
    {
      **shared,
      'num_steps': num_steps,
      **dataclasses.asdict(
        hooks.Intervals(
          log_every=max(num_steps // 40, 5),
          eval_every=every,
          checkpoint_every=every,
        )
      ),
      'optimizer': optimizers.to_config(
        learning_rate=_RATES.get(name, 1e-3),
        weight_decay=1e-4,
        warmup_fraction=0.02,
      ),
    }
  )
