import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
from given_flags import given_flags

from experiments import probe
from jepa_wm import exports, models, recipes, units
from jepa_wm.data import cache, episodes
from jepa_wm.evaluation.diagnostics import diagnostic
from jepa_wm.recipes import probe_data

SMALL = (
  '--num_train=48', '--num_validation=32', '--num_test=40', '--num_steps=20',
)  # fmt: skip


CONV = {
  'name': 'conv',
  'image_size': 16,
  'features': 16,
  'channels': (4,),
  'strides': (4,),
  'blocks': (0,),
}
HEADS = {'num_heads': 2, 'head_dim': 4}
TINY = {
  'name': 'lewm',
  'latent_dim': 8,
  'encoder': CONV,
  'projector': {'hidden_dim': 16},
  'actions': {'features': 8},
  'predictor': {'width': 8, 'depth': 1, **HEADS, 'mlp_dim': 16},
}
CLIPS = {
  'name': 'vjepa',
  'encoder': {
    'image_size': 16,
    'patch_size': 4,
    'num_frames': 2,
    'width': 24,
    'depth': 1,
    'num_heads': 2,
    'mlp_dim': 24,
  },
  'predictor': {'width': 24, 'depth': 1, 'num_heads': 2, 'mlp_dim': 24},
  'masks': {'num_buckets': 1, 'blocks': (2,), 'percent': (25,)},
}


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
  """A fresh model of a few thousand parameters."""
  model = models.from_config(TINY)
  statistics = units.ActionStatistics(
    np.zeros(2, np.float32), np.ones(2, np.float32)
  )
  record = {'config': {'data': {'environment': 'two_room'}}}
  folder = tmp_path_factory.mktemp('checkpoints')
  return _save(model, folder, statistics, record)


WORLD = {'config': {'data': {'environment': 'two_room'}}}


def _save(model, folder, statistics, record=None):
  """Saves a fresh model."""
  params = model.for_inference(jax.jit(model.init)(jax.random.key(1)))
  path = folder / 'tiny'
  exports.WorldModel(model, params, statistics, record or WORLD).save(path)
  return path


def _run(checkpoint, *arguments):
  with given_flags(probe, f'--checkpoint={checkpoint}', *SMALL, *arguments):
    return probe.run(show_progress=False)


@pytest.mark.slow
def test_digits_stand_before_what_a_model_was_trained_with(tmp_path):
  """And a model that learnt from masks shows some."""
  record = {'config': {'data': {'source': 'digits', 'background': 'texture'}}}
  path = _save(models.from_config(CLIPS), tmp_path, None, record)
  records = _run(
    path, '--data=digits', '--probe=linear', '--learning_rates=0.01',
    '--num_steps=2', f'--out={tmp_path}',
  )  # fmt: skip
  assert {r['background'] for r in records} == {'texture'}
  assert (tmp_path / 'masks.png').read_bytes()[:4] == b'\x89PNG'


@pytest.mark.parametrize(
  ('trained', 'arguments', 'background'),
  [
    ({}, (), 'none'),
    ({'background': 'noise'}, (), 'noise'),
    ({'background': 'noise'}, ('--background=none',), 'none'),
  ],
)
def test_a_background_that_is_asked_for_comes_first(
  monkeypatch, trained, arguments, background
):
  asked = []

  def load(*_, **kwargs):
    asked.append(kwargs['background'])
    raise ValueError('enough')

  model = exports.WorldModel(
    models.from_config(CLIPS), None, None, {'config': {'data': trained}}
  )
  monkeypatch.setattr(exports.WorldModel, 'from_checkpoint', lambda path: model)
  monkeypatch.setattr(probe_data, 'load', load)
  with pytest.raises(ValueError, match='enough'):
    _run('there', '--data=digits', *arguments)
  assert asked == [background]


@pytest.mark.slow
def test_one_table_of_labels_and_states(checkpoint, tmp_path, capsys):
  records = _run(
    checkpoint, '--data=digits', '--probe=linear', f'--out={tmp_path}',
    '--num_frames=3', '--learning_rates=0.01',
  )  # fmt: skip
  assert [(r['representation'], r['target']) for r in records] == [
    (name, target)
    for name in ('lewm', 'random encoder', 'pixels')
    for target in ('label', 'state')
  ]
  for record in records:
    assert record['training']['num_examples'] == 48
    assert record['num_frames'] == 3 and record['tokens'][0] == 3
    assert len(record['validation']) == 2
  assert records[0]['scores']['num_examples'] == 40
  assert list(records[1]['scores']) == ['x', 'y']
  assert json.loads((tmp_path / 'results.json').read_text()) == json.loads(
    json.dumps(records)
  )
  assert (tmp_path / 'probe.png').read_bytes()[:4] == b'\x89PNG'
  header, rule, *rows = capsys.readouterr().out.strip().splitlines()[:5]
  assert header.split('  ')[0] == 'representation'
  for column in ('accuracy', '95% interval', 'x MSE', 'x r', 'y MSE', 'y r'):
    assert column in header
  assert set(rule) == {'\u2500', ' '}
  assert [row.split('  ')[0] for row in rows] == [
    'lewm', 'random encoder', 'pixels',
  ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['tokens of frames', 'proprioception'])
def test_every_kind_of_model_is_probed(kind, tmp_path):
  statistics = units.ActionStatistics(
    np.zeros(2, np.float32), np.ones(2, np.float32)
  )
  if kind == 'proprioception':
    proprio = {'name': 'state', 'dim': 2, 'features': 4, 'num_hidden': 0}
    encoder = {'name': 'fused', 'pixels': CONV, 'proprio': proprio}
    config, size = {**TINY, 'encoder': encoder}, [1, 8]
  else:
    tokens = {'name': 'tokens', 'encoder': CONV}
    config, size = {'name': 'dino_wm', 'encoder': tokens}, [16, 4]
    config['predictor'] = {'depth': 1, 'num_heads': 2, 'mlp_dim': 16}
  path = _save(models.from_config(config), tmp_path, statistics)
  records = _run(
    path, '--data=two_room', '--probe=linear', '--learning_rates=0.01',
    '--num_steps=2', f'--out={tmp_path}',
  )  # fmt: skip
  assert [r['representation'] for r in records][1:] == [
    'random encoder', 'pixels',
  ]  # fmt: skip
  assert records[0]['tokens'] == size
  assert (tmp_path / 'pca.png').exists() == (kind == 'tokens of frames')


@pytest.mark.parametrize(
  ('data', 'found'),
  [
    ({'environment': 'push_t'}, 'load push_t'),
    ({'source': 'digits'}, 'load digits'),
    ({'environment': 'reacher'}, "of the world 'reacher', .* with --data"),
    ({}, 'does not say what it was trained on; name it with --data'),
  ],
)
def test_the_data_is_what_the_checkpoint_was_trained_on(
  checkpoint, tmp_path, monkeypatch, data, found
):
  trained = tmp_path / 'trained'
  shutil.copytree(checkpoint, trained)
  config = json.loads((trained / 'config.json').read_text())
  config['record'] = {'config': {'data': data}}
  (trained / 'config.json').write_text(json.dumps(config))

  def load(name, *args, **kwargs):
    raise ValueError(f'load {name}')

  monkeypatch.setattr(probe_data, 'load', load)
  with pytest.raises(ValueError, match=found):
    _run(trained, f'--out={tmp_path}')


@pytest.mark.parametrize(
  ('arguments', 'sentence'),
  [
    (('--background=noise',), "background='noise' is for --data=digits, and"),
    (('--data=nowhere',), "'nowhere' is neither 'digits' nor a world"),
    (('--learning_rates=nan',), 'learning_rates must be numbers'),
    (('--width=10',), 'width must be a multiple of num_heads=4, or 0, got 10'),
    (('--num_steps=0',), 'num_steps must be at least 1'),
    (('--layers=7',), 'layers=7 is for vjepa and ijepa'),
    (('--checkpoint=absent',), "checkpoint 'absent': no config.json there"),
  ],
)
def test_a_wrong_command_ends_in_one_sentence(
  checkpoint, tmp_path, arguments, sentence
):
  with pytest.raises((ValueError, OSError), match=sentence) as caught:
    _run(checkpoint, f'--out={tmp_path}', *arguments)
  assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
  ('fields', 'sentence'),
  [
    ({'probe': 'deep'}, "probe must be one of linear, mlp, attentive, got 'd"),
    ({'background': 'sea'}, 'background must be one of none, .* got .sea'),
    ({'num_test': 1}, 'num_test must be at least 2, got 1'),
  ],
)
def test_a_wrong_field_is_named(fields, sentence):
  with pytest.raises(ValueError, match=sentence):
    recipes.Probing(**fields)


def test_questions_are_asked_in_place_of_probes(checkpoint, tmp_path):
  out = tmp_path / 'asked'
  given = (f'--checkpoint={checkpoint}', f'--out={out}', '--horizon=2')
  with given_flags(probe, *given, '--diagnostics=straightness,energy,masks'):
    (record,) = probe.run(show_progress=False)
  assert set(record['findings']) == {'straightness', 'energy', 'masks'}
  kept = json.loads((out / 'results.json').read_text())
  assert kept['findings'] == json.loads(json.dumps(record['findings']))
  page = (out / 'report.html').read_text()
  for found in record['findings'].values():
    assert found['title'] in page
    for file in found['figures']:
      assert (out / file).is_file()
  assert 'energy_0.png' in record['findings']['energy']['figures']


def test_what_does_not_apply_says_why(tmp_path):
  model = models.from_config(CLIPS)
  clips = _save(model, tmp_path, None, {'config': {'data': {}}})
  asked = recipes.Diagnosing(
    checkpoint=str(clips),
    diagnostics=('surprise', 'collapse'),
    data='digits',
    out=str(tmp_path / 'asked'),
  )
  record = recipes.diagnose(asked, show_progress=False)
  assert list(record['findings']) == ['collapse']
  assert 'with dynamics, and vjepa has none' in record['refused']['surprise']
  with pytest.raises(ValueError, match='None of the diagnostics applies'):
    recipes.diagnose(
      dataclasses.replace(asked, diagnostics=('surprise',)), show_progress=False
    )


@pytest.mark.parametrize(
  'given, said',
  [
    (('--diagnostics=suprise',), "Did you mean 'surprise'"),
    (('--diagnostics=energy', '--num_steps=3'), 'num_steps trains probes'),
    (('--horizon=3',), 'horizon is for --diagnostics'),
    (('--diagnostics=energy', '--horizon=1'), 'horizon must be'),
  ],
)
def test_questions_and_probes_are_one_or_the_other(given, said):
  with given_flags(probe, *given), pytest.raises(ValueError, match=said):
    probe.run(show_progress=False)


def test_demands_are_four_and_all_are_all():
  asked = recipes.Diagnosing(diagnostics=('demands', 'surprise'))
  names = [ask.name for ask in asked.asked()]
  assert names == ['surprise', 'counterfactual', 'consistency', 'generality']
  everything = recipes.Diagnosing(diagnostics=('all',)).asked()
  assert [x.name for x in everything] == list(diagnostic.DIAGNOSTICS.names())


def test_questions_are_asked_about_recorded_episodes(checkpoint, tmp_path):
  rng = np.random.default_rng(0)
  walks = [
    episodes.Episode(
      columns={
        'observation/pixels': rng.integers(0, 256, (22, 16, 16, 3), np.uint8),
        'action': rng.uniform(-1, 1, (21, 2)).astype(np.float32),
        'state': rng.normal(size=(22, 3)).astype(np.float32),
      }
    )
    for _ in range(12)
  ]
  path = tmp_path / 'walks'
  episodes.write_episodes(path, walks, provenance={}, held_out_fraction=0.5)
  cache.build_cache(path)
  asked = recipes.Diagnosing(
    checkpoint=str(checkpoint),
    diagnostics=('surprise,probe,energy', 'counterfactual'),
    data=str(path),
    horizon=2,
    out=str(tmp_path / 'asked'),
  )
  record = recipes.diagnose(asked, show_progress=False)
  assert list(record['findings']) == ['surprise', 'probe', 'energy']
  rows = record['findings']['probe']['table']['rows']
  assert [row[0] for row in rows] == ['s0', 's1', 's2']
  # Frames of noise: the probe knows nothing of numbers drawn apart.
  assert record['findings']['probe']['scalars']['probe_z_mse'] > 0.8
  why = record['refused']['counterfactual']
  assert why.startswith('counterfactual plays the world')


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['tokens of frames', 'proprioception', 'pldm'])
def test_models_of_every_kind_are_asked(kind, tmp_path):
  statistics = units.ActionStatistics(
    np.zeros(2, np.float32), np.ones(2, np.float32)
  )
  if kind == 'proprioception':
    proprio = {'name': 'state', 'dim': 2, 'features': 4, 'num_hidden': 0}
    encoder = {'name': 'fused', 'pixels': CONV, 'proprio': proprio}
    config = {**TINY, 'encoder': encoder}
  elif kind == 'pldm':
    config = {**TINY, 'name': 'pldm'}
  else:
    tokens = {'name': 'tokens', 'encoder': CONV}
    config = {'name': 'dino_wm', 'encoder': tokens}
    config['predictor'] = {'depth': 1, 'num_heads': 2, 'mlp_dim': 16}
  path = _save(models.from_config(config), tmp_path, statistics)
  names = ['surprise', 'energy']
  if kind != 'pldm':
    # Its networks are LeWM's.
    names += ['consistency', 'counterfactual', 'plan_ranking']
  asked = recipes.Diagnosing(
    checkpoint=str(path),
    diagnostics=tuple(names),
    horizon=2,
    out=str(tmp_path / 'asked'),
  )
  record = recipes.diagnose(asked, show_progress=False)
  assert not record['refused'] and set(record['findings']) == set(names)
