"""Agents that learn with a world model.

  --config=experiments/configs/rl.py:imagination  an actor and its critics, in
      the imagination of a trained model (`--config.frozen_encoder`, by default
      the checkpoint that ships)
  --config=experiments/configs/rl.py:online       a model from nothing, or from
      `--config.initialise_from`, that plans, plays, and learns from that
  --config=experiments/configs/rl.py:mpc_then_rl  a trained model that plans
      first and learns from the episodes in which planning failed; with a value
      by `--config.online.value=gcivl`
  --config=experiments/configs/rl.py:gcbc         of recorded episodes, as are
      gcidm, gcivl and gciql: the heads of `heads.py` by their usual names
  --config=experiments/configs/rl.py:gcbc_pixels  the same with an encoder of
      their own, as gcivl_pixels and gciql_pixels: `pixels.py`

each also as `_tiny`, seconds, for a look. `experiments.train_agent` takes the
name alone: `--agent=imagination`.

Source of the settings: the first ones that were tried, in Two Room.
"""

import dataclasses
from typing import Any

import ml_collections

from experiments.configs import heads as head_configs
from experiments.configs import lewm, pixels, variants
from jepa_wm import fields, recipes
from jepa_wm.data import config as data_config
from jepa_wm.models import heads
from jepa_wm.training import hooks, optimizers

_OFFLINE = {
  'gcbc': 'policy',
  'gcidm': 'inverse_dynamics',
  'gcivl': 'gcivl',
  'gciql': 'gciql',
}

_PIXELS = tuple(f'{name}_pixels' for name in pixels.HEADS)

AGENTS = ('imagination', 'online', 'mpc_then_rl', *_OFFLINE, *_PIXELS)
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
  name = variant.removesuffix('_tiny')
  tiny = variant != name
  if name in _PIXELS:
    return pixels.get_config(variant.replace('_pixels', ''))
  if name in _OFFLINE:
    suffix = variant.removeprefix(name)
    return head_configs.get_config(_OFFLINE[name] + suffix)
  return _imagination(tiny) if name == 'imagination' else _online(name, tiny)


def _online(name: str, tiny: bool) -> ml_collections.ConfigDict:
  """The model of the recipe that ships, which acts while it learns."""
  config = lewm.get_config('two_room_tiny' if tiny else 'two_room_small')
  rounds = {'steps_per_round': 120}
  if tiny:
    rounds = {'steps_per_round': 2, 'episodes_per_round': 2, 'num_pairs': 2}
    rounds |= {'episode_length': 25}
  given: dict[str, Any] = rounds
  if name == 'mpc_then_rl':
    config.initialise_from = '' if tiny else 'two_room_small'
    given = {**given, 'only_failed': True, 'protocol': 'long'}
    # At the rate of a run from nothing it forgets first.
    config.optimizer.learning_rate = 1e-4
  online = recipes.Online(**given)
  config.online = dataclasses.asdict(online)
  config.num_steps = 5 * online.steps_per_round
  config.eval_every = config.checkpoint_every = online.steps_per_round
  config.log_every = max(online.steps_per_round // 4, 1)
  # Of the data nothing else is read.
  config.data = {
    'batch_size': 4 if tiny else 64,
    'num_frames': config.data.get('num_frames', 0),
  }
  return config


def _imagination(tiny: bool) -> ml_collections.ConfigDict:
  num_steps = 4 if tiny else 200
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
