"""Policies of goals from pixels: an encoder learnt with the head that reads it.

  --config=experiments/configs/pixels.py:gcbc    imitation (GCBC)
  --config=experiments/configs/pixels.py:gcivl   values by expectile, and AWR
  --config=experiments/configs/pixels.py:gciql   of blocks too, and DDPG+BC

each also as `_tiny`, seconds, for a look. `experiments.train_agent` knows them
as `--agent=gcbc_pixels` and so on. The head is that of `heads.py`, the encoder
that of `lewm.py:two_room_small` with a wider latent. The model's prediction is
learnt beside and does not reach the encoder; with
`--config.model.terms.prediction.gradient=1 --config.model.terms.sigreg.weight=
0.09` it shapes the latents too.

Source of the settings: the first ones that were tried, in Two Room.
"""

import dataclasses
import sys
from typing import Any

import ml_collections

from experiments.configs import heads as head_configs
from experiments.configs import lewm, variants
from jepa_wm.data import config as data_config
from jepa_wm.training import optimizers

HEADS = {'gcbc': 'policy', 'gcivl': 'gcivl', 'gciql': 'gciql'}

VARIANTS = (*HEADS, *(f'{name}_tiny' for name in HEADS))


def get_config(variant: str = 'gcbc') -> ml_collections.ConfigDict:
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
  suffix = variant.removeprefix(name)
  config = head_configs.get_config(HEADS[name] + suffix)
  model: dict[str, Any] = lewm.small(latent_dim=8 if tiny else 32, history=1)
  if tiny:
    model['encoder'] |= {'channels': (16, 8), 'features': 32}
    model['projector'] = {'hidden_dim': 32}
    model['predictor'] |= {'width': 32, 'depth': 1}
  model['terms'] = {'prediction': {'gradient': 0.0}}
  if not tiny:
    config.num_steps = 2000
    config.log_every = 50
    config.eval_every = config.checkpoint_every = 500
  config.frozen_encoder = ''
  config.model = ml_collections.ConfigDict(variants.choose(model, sys.argv))
  config.data = dataclasses.asdict(
    data_config.DataConfig(
      batch_size=16 if tiny else 128, num_eval_windows=64 if tiny else 512
    )
  )
  config.optimizer = optimizers.to_config(
    learning_rate=1e-3, weight_decay=1e-4, warmup_fraction=0.02, clip_norm=1.0
  )
  return config
