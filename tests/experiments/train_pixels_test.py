"""Policies of goals from pixels, from the command line."""

import numpy as np
import pytest
import small_model

from experiments.configs import pixels as configs
from experiments.configs import rl
from jepa_wm import exports, models, recipes
from jepa_wm.data import cache, episodes
from jepa_wm.models import heads
from jepa_wm.recipes import planning_heads
from jepa_wm.training import metrics


@pytest.fixture(scope='module')
def settings(tmp_path_factory):
  """Four steps of imitation, on walks of noise."""
  path = tmp_path_factory.mktemp('data') / 'walks'
  rng = np.random.default_rng(0)
  walks = [
    episodes.Episode(
      columns={
        'observation/pixels': np.asarray(small_model.pixels(13, seed=index)),
        'action': rng.uniform(-1, 1, (12, 2)).astype(np.float32),
      },
    )
    for index in range(4)
  ]
  episodes.write_episodes(path, walks, provenance={}, held_out_fraction=0.5)
  cache.build_cache(path)
  settings = configs.get_config('gcbc_tiny').to_dict()
  predictor = {**small_model.CONFIG['predictor'], 'history': 1}
  settings['model'] = {
    **small_model.CONFIG,
    'predictor': predictor,
    'terms': {'prediction': {'gradient': 0.0}},
  }
  settings |= {'num_steps': 4, 'checkpoint_every': 4, 'eval_every': 4}
  settings['head'] |= {'width': 8, 'max_steps': 10}
  settings['data'] |= {
    'path': str(path),
    'batch_size': 8,
    'num_eval_windows': 8,
  }
  return settings


def test_a_policy_is_learnt_with_its_encoder(settings, tmp_path, capsys):
  run = tmp_path / 'run'
  recipes.train_from_pixels(settings, run)
  last = metrics.read(run / 'metrics.jsonl')[-1]
  assert np.isfinite(last['held_out/loss'])
  encoder, acts = planning_heads.who_plans(str(run), None, [])
  assert (encoder, acts) == (str(run / 'model'), str(run))
  model = exports.WorldModel.from_checkpoint(encoder)
  found = exports.TrainedHead.load(run, model=model)
  latents = model.encode(model.params, {'pixels': small_model.pixels(2)})
  block = found.head.roles.policy(found.params, None, *latents, 25.0)
  assert np.abs(model.raw_actions(block)).max() <= 1.0 + 1e-5
  recipes.train_from_pixels(settings, run)
  assert 'Finished before' in capsys.readouterr().err


@pytest.mark.parametrize(
  'changes, message',
  [
    (
      {'frozen_encoder': 'two_room_small'},
      'would do nothing beside config.mod',
    ),
    ({'head': {'name': 'gcivll'}}, "Did you mean 'gcivl'"),
    ({'head': {'name': 'decoder'}}, "'decoder' learns on the latents"),
    ({'evals': ()}, "config has no field 'evals'"),
  ],
)
def test_what_does_not_fit_is_named(settings, tmp_path, changes, message):
  with pytest.raises(ValueError, match=message):
    recipes.train_from_pixels(settings | changes, tmp_path / 'run')
  assert not (tmp_path / 'run' / 'export').exists()


@pytest.mark.parametrize('variant', configs.VARIANTS)
def test_every_variant_is_whole(variant):
  config = configs.get_config(variant)
  model = models.from_config(config.model.to_dict())
  assert model.num_frames == 2 and not config.frozen_encoder
  assert config.head.name in heads.HEADS.names()
  name, _, tiny = variant.partition('_')
  tiny = tiny and f'_{tiny}'
  assert rl.get_config(f'{name}_pixels{tiny}') == config
