"""Agents from the command line: trained in imagination, then heads that act."""

import dataclasses
import json
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_model

from experiments import train_agent
from experiments.configs import rl as configs
from jepa_wm import exports, recipes
from jepa_wm.data import cache, episodes
from jepa_wm.models import heads
from jepa_wm.recipes import agents
from jepa_wm.training import metrics


@pytest.fixture(scope='module')
def encoder(tmp_path_factory):
  path = tmp_path_factory.mktemp('encoder') / 'small'
  model = small_model.make(exports.WorldModel, history=1)
  record = {'config': {'data': {'environment': 'two_room'}}}
  dataclasses.replace(model, record=record).save(path)
  return path


def config(encoder, **agent):
  settings = configs.get_config('imagination_tiny').to_dict()
  settings['frozen_encoder'] = str(encoder)
  settings['agent'] |= agent
  return settings


@pytest.fixture(scope='module')
def trained(encoder, tmp_path_factory):
  path = tmp_path_factory.mktemp('agent') / 'run'
  recipes.train_agent(config(encoder), path)
  return path


def test_an_agent_is_trained_as_any_run(encoder, trained, capsys):
  records = metrics.read(trained / 'metrics.jsonl')
  assert [r['step'] for r in records if 'imagined/reached' in r] == [0, 2, 4]
  assert (trained / 'curves.png').exists()
  recipes.train_agent(config(encoder), trained)
  assert 'Finished before' in capsys.readouterr().err


def test_an_agent_is_a_head_that_acts_within_the_world_s_bounds(
  encoder, trained
):
  model = exports.WorldModel.from_checkpoint(encoder)
  found = exports.TrainedHead.load(trained, model=model)
  latents = jnp.asarray(np.random.default_rng(0).normal(size=(2, 64, 3)) * 9)
  for key in (None, jax.random.key(0)):
    action = found.head.roles.policy(
      found.params, key, *latents, jnp.full(64, 25.0)
    )
    raw = model.raw_actions(action)
    assert raw.shape == (64, 5, 2) and np.abs(raw).max() <= 1.0 + 1e-5
  assert found.record['reach']['used_truth'] is False
  assert found.record['config']['agent']['environment'] == 'two_room'


def test_a_head_says_what_counts_as_reached(encoder, tmp_path):
  model = exports.WorldModel.from_checkpoint(encoder)

  def save(name):
    settings = {'name': name, 'width': 8, 'depth': 1}
    head = heads.from_config(settings, exports.head_sizes(model, -1.0, 1.0))
    params = head.for_inference(jax.jit(head.init)(jax.random.key(0)))
    known = str(encoder), exports.encoder_fingerprint(model)
    exports.TrainedHead(head, params, *known).save(tmp_path / name)
    return tmp_path / name

  distance = save('temporal_distance')
  given = config(encoder, reach_by=str(distance), reach=3.0)
  plan = agents.read_agent_config(given)
  measure = agents.measure_of(plan, model)
  digest = exports.TrainedHead.load(distance).digest[:16]
  assert measure.name == f'temporal_distance {digest}'
  assert measure.distance_fn(measure.params, *np.ones((2, 4, 3))).shape == (4,)
  for path, sentence in (
    (save('policy'), "the head 'policy' prices nothing"),
    (tmp_path / 'none', '--config.agent.reach_by=.*none: no trained head'),
  ):
    wrong = config(encoder, reach_by=str(path))
    with pytest.raises((ValueError, OSError), match=sentence):
      recipes.train_agent(wrong, tmp_path / 'run')
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(
  'changes, sentence',
  [
    ({'goals': 'future'}, "goals='future' would do nothing: .*episodes"),
    ({'goals': 'later', 'frames': 'episodes'}, 'one of future'),
    ({'reward': 'shape'}, "Did you mean 'shaped'"),
  ],
)
def test_what_an_agent_cannot_be_is_refused(encoder, changes, sentence):
  with pytest.raises(ValueError, match=sentence):
    agents.read_agent_config(config(encoder, **changes))


def test_recorded_episodes_do_as_well(encoder, tmp_path):
  rng = np.random.default_rng(0)
  walks = [
    episodes.Episode(
      columns={
        'observation/pixels': np.asarray(small_model.pixels(21, seed=index)),
        'action': rng.uniform(-1, 1, (20, 2)).astype(np.float32),
      },
    )
    for index in range(6)
  ]
  data = tmp_path / 'walks'
  episodes.write_episodes(data, walks, provenance={}, held_out_fraction=0.5)
  cache.build_cache(data)
  settings = config(encoder, frames='episodes')
  settings['data']['path'] = str(data)
  recipes.train_agent(settings, tmp_path / 'episodes')
  found = exports.TrainedHead.load(tmp_path / 'episodes')
  assert found.record['config']['data']['fingerprint']
  assert not found.record['reach']['used_truth']


@pytest.mark.parametrize(
  'changes, sentence',
  [
    ({'frozen_encoder': ''}, 'config.frozen_encoder must be set'),
    ({'data': {'num_frames': 3}}, 'config.data.num_frames=3 would do nothing'),
    ({'data': {'path': 'walks'}}, 'for recorded episodes say config.agent.fra'),
    ({'head': {'name': 'gcivl'}}, "config.head.name.*'gcivl'"),
    ({'agent': {'frames': 'dreams'}}, "frames.*'dreams'"),
    ({'agent': {'softness': -1.0}}, '^config.agent.softness must be'),
    ({'agent': {'horizn': 3}}, 'horizon'),
    ({'agent': {'environment': 'two_rooms'}}, "Did you mean 'two_room'"),
    ({'agent': {'environment': 'push_t'}}, "trained in 'two_room', .*leave"),
    ({'agent': {'num_frames': 10**12}}, 'num_frames must be at most 16777216'),
    ({'agent': {'max_steps': 10**12}}, 'max_steps must be at most 10000'),
    ({'agent': {'horizon': 10**9}}, 'horizon must be at most 10000'),
    ({'agent': {'discount': 1.5}}, 'discount must be at most 1'),
    ({'data': {'batch_size': 0}}, 'batch_size must be at least 1, got 0'),
  ],
)
def test_what_does_not_fit_is_refused(encoder, tmp_path, changes, sentence):
  with pytest.raises(ValueError, match=sentence):
    recipes.train_agent(config(encoder) | changes, tmp_path)
  assert not (tmp_path / 'export').exists()


def test_random_play_is_of_worlds_in_jax(encoder, tmp_path):
  model = exports.WorldModel.from_checkpoint(encoder)
  record = {'config': {'data': {'environment': 'reacher'}}}
  dataclasses.replace(model, record=record).save(tmp_path / 'reacher')
  settings = config(tmp_path / 'reacher')
  with pytest.raises(ValueError, match="'reacher' is on the host"):
    recipes.train_agent(settings, tmp_path / 'run')


@pytest.mark.slow
def test_a_model_learns_while_it_acts_in_a_world_that_has_changed(
  encoder, tmp_path
):
  settings = configs.get_config('online_tiny').to_dict()
  settings['online'] |= {'shift': 'door', 'first_policy': 'random'}
  settings['initialise_from'] = str(encoder)
  settings['model'] = exports.read_config(encoder)
  settings['num_steps'] = 4
  settings['data']['batch_size'] = 8
  recipes.train_online(settings, tmp_path / 'run')
  rows = json.loads((tmp_path / 'run' / 'rounds.json').read_text())
  assert [row['step'] for row in rows] == [0, 2, 4]
  assert [row['environment_steps'] for row in rows] == [0, 50, 100]
  assert all(row['low'] <= row['success'] <= row['high'] for row in rows)
  assert (tmp_path / 'run' / 'success.png').exists()
  # In the units in which its weights were learnt.
  known = exports.WorldModel.from_checkpoint(encoder)
  found = exports.WorldModel.from_checkpoint(tmp_path / 'run')
  np.testing.assert_array_equal(found.units.std, known.units.std)


@pytest.mark.parametrize(
  'changes, sentence',
  [
    ({'first_policy': ''}, 'nothing to learn from'),
    ({'shift': 'doors'}, "one of '', .*Did you mean 'door'"),
    ({'shift_seed': 5}, 'shift_seed=5 would do nothing'),
    (
      {'value': 'gcbc'},
      "^config.online.value must be one of '', gcivl, gciql, got 'gcbc'",
    ),
    ({'value_steps': 5}, 'value_steps=5 would do nothing'),
    ({'episodes_per_round': 10**12}, 'episodes_per_round must be at most'),
    ({'episode_length': 5}, 'at least 15, .* 4 frames 5 apart, got 5'),
    ({'episodes': 'nowhere'}, 'no dataset at .*--config.online.episodes'),
    ({'episode_length': 27}, 'whole blocks'),
  ],
)
def test_what_cannot_be_played_is_refused(tmp_path, changes, sentence):
  settings = configs.get_config('online_tiny').to_dict()
  settings['online'] |= changes
  settings['data']['batch_size'] = 8
  with pytest.raises((ValueError, OSError), match=sentence):
    recipes.train_online(settings, tmp_path)
  assert not (tmp_path / 'export').exists()


def test_episodes_of_another_world_are_not_learnt_from(tmp_path):
  walks = [
    episodes.Episode(
      columns={
        'observation/pixels': np.zeros((26, 64, 64, 3), np.uint8),
        'action': np.zeros((25, 2), np.float32),
      },
    )
    for _ in range(2)
  ]
  data, workdir = tmp_path / 'walks', tmp_path / 'run'
  known = {'environment': 'push_t'}
  episodes.write_episodes(data, walks, provenance=known, held_out_fraction=0.5)
  cache.build_cache(data)
  settings = configs.get_config('online_tiny').to_dict()
  settings['online']['episodes'] = str(data)
  settings['data']['batch_size'] = 8
  with pytest.raises(ValueError, match=r"'push_t', and .* is 'two_room'"):
    recipes.train_online(settings, workdir)
  assert not workdir.exists()


def test_a_command_line_that_names_no_agent():
  command = [sys.executable, '-m', 'experiments.train_agent', '--workdir=x']
  ended = subprocess.run(command, capture_output=True, text=True, timeout=300)
  sentence = 'Say which agent to train.*--agent=imagination'
  assert ended.returncode == 1 and re.search(sentence, ended.stderr)
  assert len(ended.stderr.splitlines()) == 1


def test_a_misspelt_agent_is_met_by_the_nearest(monkeypatch):
  words = ['train_agent', '--agnet=online']
  monkeypatch.setattr(sys, 'argv', words)
  with pytest.raises(SystemExit, match=r'--agnet\. Did you mean --agent\?'):
    train_agent.parse_flags(words)


def test_an_agent_s_name_is_its_config():
  words = ['train_agent', '--agent=imagination_tiny', '--workdir=x']
  made = train_agent.with_config(words)
  assert made[1].endswith('experiments/configs/rl.py:imagination_tiny')
  # The other way in which shells are given values.
  words[1:2] = ['--agent', 'imagination_tiny']
  assert train_agent.with_config(words) == made
