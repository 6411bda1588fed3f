"""Heads from the command line: trained, then used by planning."""

import dataclasses
import json
import re

import numpy as np
import pytest
import small_model
from given_flags import given_flags

from experiments import plan
from experiments.configs import heads as configs
from jepa_wm import exports, recipes
from jepa_wm.data import cache, episodes
from jepa_wm.evaluation.diagnostics import imagination
from jepa_wm.evaluation.report import videos
from jepa_wm.recipes import planning_heads, training_heads
from jepa_wm.training import metrics


@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
  """Walks of noise, of the size that the small model sees."""
  path = tmp_path_factory.mktemp('data') / 'walks'
  rng = np.random.default_rng(0)
  walks = [
    episodes.Episode(
      columns={
        'observation/pixels': np.asarray(small_model.pixels(21, seed=index)),
        'action': rng.uniform(-1, 1, (20, 2)).astype(np.float32),
        'state': rng.uniform(0, 9, (21, 2)).astype(np.float32),
        'reward': rng.uniform(0, 1, 20).astype(np.float32),
      },
      provenance={'index': index},
    )
    for index in range(8)
  ]
  episodes.write_episodes(path, walks, provenance={}, held_out_fraction=0.25)
  cache.build_cache(path)
  return path


@pytest.fixture(scope='module')
def encoder(tmp_path_factory):
  path = tmp_path_factory.mktemp('encoder') / 'small'
  model = small_model.make(exports.WorldModel)
  record = {'config': {'data': {'environment': 'two_room'}}}
  dataclasses.replace(model, record=record).save(path)
  return path


def config(variant, dataset, encoder, **changes):
  settings = configs.get_config(variant).to_dict()
  settings |= {'num_steps': 8, 'checkpoint_every': 4, 'eval_every': 4}
  settings['frozen_encoder'] = str(encoder)
  settings['data'] |= {'path': str(dataset), 'batch_size': 8}
  settings['data']['num_eval_windows'] = 16
  return settings | changes


@pytest.fixture(scope='module')
def trained(dataset, encoder, tmp_path_factory):
  """One head of each kind, as folders by name."""
  folder = tmp_path_factory.mktemp('heads')
  for name in ('inverse_dynamics', 'decoder', 'probe', 'gcivl', 'reward'):
    recipes.train_head(config(f'{name}_tiny', dataset, encoder), folder / name)
  return folder


def test_a_head_is_trained_as_any_run(dataset, encoder, trained, capsys):
  records = metrics.read(trained / 'decoder' / 'metrics.jsonl')
  evaluated = [r['step'] for r in records if 'held_out/loss' in r]
  assert evaluated == [0, 4, 8]
  assert (trained / 'decoder' / 'curves.png').exists()
  found = exports.TrainedHead.load(trained / 'decoder')
  assert found.encoder == str(encoder)
  assert found.record['config']['head']['channels'] == [8]
  # The latents are there: nothing is encoded again, and the run goes on.
  capsys.readouterr()
  settings = config('decoder_tiny', dataset, encoder, num_steps=10)
  recipes.train_head(settings, trained / 'decoder')
  said = capsys.readouterr().err
  assert 'Going on from' in said and 'encoding' not in said
  longer = exports.TrainedHead.load(trained / 'decoder')
  assert longer.digest != found.digest


def test_heads_that_act_know_the_bounds_of_actions(encoder, trained):
  found = exports.TrainedHead.load(trained / 'gcivl').head
  # Nobody knows the world of these walks, so it is what was done in them.
  low, high = found.sizes.action_low, found.sizes.action_high
  model = exports.WorldModel.from_checkpoint(encoder)
  raw = model.raw_actions(np.array([low, high], np.float32))
  np.testing.assert_allclose(raw[0], -1.0, atol=0.1)
  np.testing.assert_allclose(raw[1], 1.0, atol=0.1)
  last = metrics.read(trained / 'gcivl' / 'metrics.jsonl')[-1]
  assert np.isfinite(last['held_out/value_loss'])


@pytest.mark.parametrize(
  'changes, message',
  [
    ({'head': {'name': 'actor_critic'}}, 'trained by experiments.train_agent'),
    ({'frozen_encoder': ''}, 'config.frozen_encoder must be set'),
    ({'head': {'name': 'decodr'}}, r"config.head.name.*Did you mean 'decoder'"),
    ({'head': {'name': 'probe', 'kind': 'x'}}, 'kind must be .*mlp'),
    ({'model': {}}, "config has no field 'model'"),
  ],
)
def test_what_does_not_fit_is_named(
  dataset, encoder, tmp_path, changes, message
):
  settings = config('decoder_tiny', dataset, encoder, **changes)
  with pytest.raises(ValueError, match=message):
    recipes.train_head(settings, tmp_path / 'run')


def test_proposals_are_part_of_a_result_and_of_one_encoder_alone(
  encoder, trained, tmp_path
):
  head = trained / 'inverse_dynamics'
  found = planning_heads.proposals(str(head), str(encoder))
  digest = exports.TrainedHead.load(head).digest
  assert found.name == f'inverse_dynamics {digest[:16]}'
  with pytest.raises(ValueError, match=re.escape(str(encoder))):
    planning_heads.proposals(str(head), 'two_room_small')
  with pytest.raises(ValueError, match='proposes no actions'):
    planning_heads.proposals(str(trained / 'probe'), str(encoder))


def test_a_decoder_draws_for_worlds_that_are_played(encoder, trained):
  model = exports.WorldModel.from_checkpoint(encoder)
  given = (model, str(encoder), 'two_room')
  assert planning_heads.imagined(None, model, 'two_room') is None
  with pytest.raises(ValueError, match='draws no pictures'):
    planning_heads.decoder(str(trained / 'probe'), *given)
  other = exports.WorldModel.from_checkpoint('two_room_small')
  with pytest.raises(ValueError, match='two_room_small has another'):
    planning_heads.decoder(
      str(trained / 'decoder'), other, 'two_room_small', 'two_room'
    )


def test_the_strip_has_truth_above_imagination():
  true = np.zeros((2, 3, 8, 8, 3), np.uint8)
  sheet = videos.draw_strip(imagination.Videos(true, true + 200, 5))
  assert sheet.startswith(b'\x89PNG')
  assert videos.draw_gif(imagination.Videos(true, true, 5))[:3] == b'GIF'


@pytest.mark.parametrize('variant', configs.VARIANTS)
def test_every_variant_is_whole(variant):
  settings = configs.get_config(variant).to_dict()
  assert training_heads.read_head_config(settings).optimizer.num_steps


@pytest.mark.slow
def test_plans_with_proposals_and_draws_what_is_imagined(
  encoder, trained, tmp_path
):
  flags = [
    f'--checkpoint={encoder}',
    f'--out={tmp_path / "out"}',
    f'--proposals={trained / "inverse_dynamics"}',
    f'--decoder={trained / "decoder"}',
    *('--planner=cem', '--num_samples=8', '--num_elites=2'),
    *('--num_iterations=1', '--num_pairs=4'),
  ]
  with given_flags(plan, *flags):
    plan.run(show_progress=False)
  (record,) = json.loads((tmp_path / 'out' / 'results.json').read_text())
  assert record['planner']['proposals'].startswith('inverse_dynamics ')
  page = (tmp_path / 'out' / 'report.html').read_text()
  assert 'What it imagines' in page
  assert (tmp_path / 'out' / 'imagination.png').exists()
