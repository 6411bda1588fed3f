"""What commands take: a tiny model, its heads, episodes, sources of others."""

import dataclasses
import pathlib
import shutil
import sys
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from experiments.configs import heads as head_configs
from experiments.configs import multi_agent
from jepa_wm import exports, models, recipes, units
from jepa_wm.data import cache, episodes
from jepa_wm.evaluation.planning import manifests, protocol

ROOT = pathlib.Path(__file__).parents[2]
GOLDEN = ROOT / 'tests' / 'golden' / 'readers'

MODEL = {
  'name': 'lewm',
  'latent_dim': 4,
  'encoder': {
    'name': 'conv', 'image_size': 16, 'features': 8, 'channels': (4,),
    'strides': (8,), 'blocks': (0,),
  },
  'projector': {'hidden_dim': 8},
  'actions': {'features': 8},
  'predictor': {
    'history': 2, 'width': 8, 'depth': 1, 'mlp_dim': 8, 'num_heads': 2,
    'head_dim': 4,
  },
}  # fmt: skip

CONFIG = f"""
import ml_collections

def get_config():
  return ml_collections.ConfigDict({{
    'model': {MODEL!r},
    'data': {{'path': 'walks', 'batch_size': 4, 'num_eval_windows': 8}},
    'optimizer': {{'learning_rate': 1e-3}},
    'evals': ('collapse',),
    'num_steps': 6, 'seed': 0, 'log_every': 2, 'eval_every': 3,
    'checkpoint_every': 2, 'keep_checkpoints': 2,
  }})
"""

HEADS = 'decoder', 'policy', 'probe', 'temporal_distance'
MORE_HEADS = 'waypoints', 'safety'


def make(folder: str) -> None:
  """Makes all of it in a folder.

  `model` and `agentless` are exports, `walks` episodes of the model's size,
  `config.py` trains such a model on them, `heads/NAME` are of `model`, and
  `swm.h5`, `lerobot`, `rlds`, `minari`, `dino_wm` are sources.
  """
  path = pathlib.Path(folder)
  (path / 'config.py').write_text(CONFIG)
  _write_model(path / 'model', MODEL)
  _write_walks(path / 'walks', 16)
  _write_walks(path / 'episodes', 64)
  _train_heads(path, HEADS)
  shutil.copy(GOLDEN / 'swm.h5', path / 'swm.h5')
  for name, source in (
    ('lerobot', 'lerobot_v30'),
    ('lerobot_v21', 'lerobot_v21'),
    ('rlds', 'rlds_tfrecord'),
    ('dino_wm', 'dino_wm_push_t'),
  ):
    shutil.copytree(GOLDEN / source, path / name)
  shutil.unpack_archive(GOLDEN / 'minari.zip', path / 'minari')
  _write_manifest(path / 'manifests')
  _plan(path)
  (path / 'tensors').mkdir()
  shutil.copy(path / 'dino_wm' / 'train' / 'states.pth', path / 'tensors')
  _write_released(path / 'released')
  sys.stdout.flush()


def make_more(folder: str) -> None:
  """Makes what few need: `agents`, a model of two, and `MORE_HEADS`."""
  path = pathlib.Path(folder)
  config = multi_agent.get_config('two_room_tiny').model.to_dict()
  config['encoder'] |= {'image_size': 16}
  _write_model(path / 'agents', config)
  _write_walks(path / 'long_walks', 16, 80)
  _train_heads(path, MORE_HEADS, 'long_walks')
  sys.stdout.flush()


def _train_heads(
  path: pathlib.Path, names: Sequence[str], walks: str = 'walks'
) -> None:
  for name in names:
    settings = head_configs.get_config(f'{name}_tiny').to_dict()
    settings |= {'num_steps': 1, 'checkpoint_every': 1, 'eval_every': 1}
    settings['frozen_encoder'] = str(path / 'model')
    if name == 'safety':
      settings['head']['zone'] = 'box:0,0,5,5'
    settings['data'] |= {
      'path': str(path / walks), 'batch_size': 4, 'num_eval_windows': 4,
    }  # fmt: skip
    recipes.train_head(settings, path / 'heads' / name)


def _write_manifest(path: pathlib.Path) -> None:
  path.mkdir()
  chosen = protocol.get('short', environment='two_room')
  shutil.copy(manifests.shipped_path(chosen), path / 'manifest.json')


def _plan(path: pathlib.Path) -> None:
  """A finished run of a plan: `finished`."""
  asked = recipes.Planning(
    checkpoint=(str(path / 'model'),),
    num_pairs=2,
    options={'num_samples': 4, 'num_elites': 2, 'num_iterations': 1},
    out=str(path / 'planned'),
    diagnostics=('straightness',),
  )
  recipes.plan(asked, show_progress=False)
  (run,) = (path / 'planned' / 'runs').iterdir()
  shutil.copytree(run, path / 'finished')


def _write_released(path: pathlib.Path) -> None:
  """LeWM as it is published: a config and weights of PyTorch."""
  shutil.copytree(ROOT / 'tests' / 'interop' / 'fixtures' / 'lewm', path)


def _write_model(path: pathlib.Path, config: dict[str, Any]) -> None:
  model = models.from_config(config)
  rng = np.random.default_rng(0)
  shapes = exports.inference_shapes(model)
  params = jax.tree.map(
    lambda x: rng.uniform(0.1, 0.5, x.shape).astype(x.dtype), shapes
  )
  is_of_two = config['name'] == 'multi_agent'
  statistics = units.ActionStatistics(
    *(np.full(2 + 2 * is_of_two, x, np.float32) for x in (0.0, 1.0))
  )
  world = 'two_room_agents' if is_of_two else 'two_room'
  record = {'config': {'data': {'environment': world}}}
  made = exports.WorldModel(model, params, statistics)
  dataclasses.replace(made, record=record).save(path)


def _write_walks(path: pathlib.Path, size: int, length: int = 20) -> None:
  rng = np.random.default_rng(0)
  walks = [
    episodes.Episode(
      columns={
        'observation/pixels': rng.integers(
          0, 256, (length + 1, size, size, 3), np.uint8
        ),
        'observation/proprio': rng.uniform(0, 9, (length + 1, 2)).astype(
          np.float32
        ),
        'action': rng.uniform(-1, 1, (length, 2)).astype(np.float32),
        'state': rng.uniform(0, 9, (length + 1, 2)).astype(np.float32),
      },
      provenance={'index': index},
    )
    for index in range(8)
  ]
  given = {'environment': 'two_room'}
  episodes.write_episodes(path, walks, provenance=given, held_out_fraction=0.25)
  cache.build_cache(path)
