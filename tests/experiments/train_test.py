import contextlib
import io
import os
import pathlib
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from experiments import train
from experiments.configs import lewm
from jepa_wm import exports, lock, models, recipes
from jepa_wm.data import cache, episodes
from jepa_wm.recipes import frozen_encoders, training
from jepa_wm.training import hooks, metrics
from jepa_wm.training import run as run_lib

ROOT = pathlib.Path(__file__).parents[2]
NUM_STEPS = 60

CONFIG_FILE = """
import ml_collections

def get_config(variant='tiny'):
  if variant != 'tiny':
    raise ValueError(f'There is no variant {variant!r}.')
  return ml_collections.ConfigDict({
    'model': {
      'name': 'lewm', 'action_block': 2, 'latent_dim': 8,
      'encoder': {
        'name': 'impala', 'image_size': 16, 'features': 16, 'channels': (4, 8),
        'strides': (2, 2), 'blocks': (1, 1),
      },
      'projector': {'hidden_dim': 16},
      'actions': {'features': 8, 'smoothed_dim': 4},
      'predictor': {
        'history': 2, 'width': 8, 'depth': 1, 'num_heads': 2, 'head_dim': 4,
        'mlp_dim': 16,
      },
      'terms': {
        'prediction': {}, 'sigreg': {'num_projections': 16},
        'temporal_similarity': {}, 'straightening': {},
      },
    },
    'data': {
      'source': 'cache', 'path': 'data/two_room', 'num_frames': 3,
      'batch_size': 8, 'num_eval_windows': 16,
    },
    'optimizer': {'learning_rate': 1e-3},
    'num_steps': 60, 'seed': 0, 'log_every': 5, 'eval_every': 25,
    'checkpoint_every': 10, 'keep_checkpoints': 2,
  })
"""


def _config(**overrides):
  names = {}
  exec(CONFIG_FILE, names)
  config = names['get_config']()
  config.update(overrides)
  return config.to_dict()


def _dot(position):
  """A white square where the agent is, like a world would draw it."""
  x, y = np.asarray(position).astype(int)
  frame = np.zeros((16, 16, 3), np.uint8)
  frame[y : y + 4, x : x + 4] = 255
  return frame


@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
  """Twelve walks of a square through a 16 pixel world."""
  path = tmp_path_factory.mktemp('data') / 'walks'
  rng = np.random.default_rng(0)
  walks = []
  for index in range(12):
    actions = rng.uniform(-1.5, 1.5, (20, 2)).astype(np.float32)
    places = [np.array([6.0, 6.0])]
    for action in actions:
      places.append(np.clip(places[-1] + action, 0, 12))
    walks.append(
      episodes.Episode(
        columns={
          'observation/pixels': np.stack([_dot(place) for place in places]),
          'observation/proprio': np.stack(places).astype(np.float32),
          'action': actions,
          'state': np.stack(places).astype(np.float32),
        },
        provenance={'index': index},
      )
    )
  episodes.write_episodes(path, walks, provenance={}, held_out_fraction=0.25)
  cache.build_cache(path)
  return path


def _with_data(dataset, **overrides):
  config = _config(**overrides)
  config['data']['path'] = str(dataset)
  return config


@pytest.fixture(scope='module')
def trained(dataset, tmp_path_factory):
  """The folder of a whole run, and what it told on the way."""
  workdir = tmp_path_factory.mktemp('runs') / 'trained'
  with contextlib.redirect_stderr(io.StringIO()) as told:
    training.train(_with_data(dataset), workdir)
  return workdir, told.getvalue()


@pytest.mark.slow
def test_learns_and_exports_what_a_planner_needs(dataset, trained):
  workdir, told = trained
  records = metrics.read(workdir / 'metrics.jsonl')
  loss = [r['train/loss'] for r in records if 'train/loss' in r]
  assert len(loss) == 12 and loss[-1] < 0.8 * loss[0]
  evaluated = [r for r in records if 'probe/probe_r2' in r]
  assert [r['step'] for r in evaluated] == [0, 25, 50, 60]
  assert {
    'held_out/prediction_error',
    'held_out/rollout_error',
    'collapse/latent_std_mean',
    'collapse/latent_std_min',
    'collapse/effective_rank',
    'collapse/verdict',
    'probe/probe_r2',
  } <= set(evaluated[-1])
  assert evaluated[-1]['probe/probe_r2'] > 0.3
  assert 'step 60/60 (100%)' in told

  model = exports.WorldModel.from_checkpoint(workdir)
  assert model.model.latent_dim == 8
  seen = {'pixels': np.stack([_dot((3, 4)), _dot((8, 2))])}
  assert model.encode(model.params, seen).shape == (2, 8)
  statistics = cache.open_cache(dataset).action_statistics
  np.testing.assert_array_equal(model.units.std, statistics.std)
  assert model.record['config']['num_steps'] == NUM_STEPS
  leaves = jax.tree.leaves(model.params['params'])
  assert model.record['num_parameters'] == sum(x.size for x in leaves)
  assert model.record['metrics']['train/loss'] == loss[-1]


def _save_untrained(config, path):
  """Saves the model of a config as it is before any training."""
  model = models.from_config(config['model'])
  exports.WorldModel(
    model,
    jax.jit(model.init)(jax.random.key(0)),
    cache.open_cache(config['data']['path']).action_statistics,
  ).save(path)


@pytest.mark.slow
def test_a_predictor_is_trained_on_the_latents_of_another_run(
  dataset, trained, tmp_path, capsys
):
  config = _with_data(dataset)
  # An export as it lies beside a run, and of another model.
  config['model'] |= {
    'name': 'pldm',
    'latent_dim': 5,
    'encoder': {
      'name': 'fused',
      'pixels': config['model']['encoder'],
      'proprio': {'dim': 2},
    },
  }
  _save_untrained(config, tmp_path / 'encoder' / 'export')
  given = exports.WorldModel.from_checkpoint(tmp_path / 'encoder')

  config = _with_data(dataset, num_steps=20, checkpoint_every=5)
  config['frozen_encoder'] = str(tmp_path / 'encoder')
  config['model']['predictor'] |= {'depth': 2}
  with pytest.raises(ValueError, match=r"target.name='frozen'"):
    training.train(config, tmp_path / 'predictor')
  config['model'] = frozen_encoders.freeze(
    config['model'], tmp_path / 'encoder'
  )
  config['optimizer'] = {'learning_rate': 1e-2}
  training.train(config, tmp_path / 'predictor')
  assert 'encoding train: 100%' in capsys.readouterr().err
  model = exports.WorldModel.from_checkpoint(tmp_path / 'predictor')
  assert model.model.config.name == 'lewm' and model.model.latent_dim == 5
  assert model.observation_spec['proprio'].shape == (2,)
  for name in ('encoder', 'projector'):
    jax.tree.map(
      np.testing.assert_array_equal,
      model.params['params'][name],
      given.params['params'][name],
    )
  records = metrics.read(tmp_path / 'predictor' / 'metrics.jsonl')
  loss = [r['train/loss'] for r in records if 'train/loss' in r]
  assert loss[-1] < 0.9 * loss[0]

  # Longer, it goes on; of another encoder it is another run.
  config['num_steps'] = 25
  training.train(config, tmp_path / 'predictor')
  assert 'Going on from' in capsys.readouterr().err
  longer = exports.WorldModel.from_checkpoint(tmp_path / 'predictor')
  assert longer.record['config']['num_steps'] == 25
  other, _ = trained
  config['frozen_encoder'] = str(other)
  config['model'] = frozen_encoders.freeze(config['model'], other)
  with pytest.raises(ValueError, match='frozen_encoder'):
    training.train(config, tmp_path / 'predictor')


@pytest.mark.parametrize(
  'changes, message',
  [
    ({'frozen_encoder': 'nowhere'}, 'nowhere'),
    (
      {'model': {'latent_dim': 4}},
      'its encoder has latent_dim=8, and config.model says latent_dim=4',
    ),
    (
      {'model': {'projector': {'hidden_dim': 8}}},
      'its encoder has projector.hidden_dim=16, and config.model says',
    ),
  ],
)
def test_what_a_frozen_encoder_cannot_have_is_named(
  dataset, tmp_path, changes, message
):
  config = _with_data(dataset)
  _save_untrained(config, tmp_path / 'model')
  config['frozen_encoder'] = str(tmp_path / 'model')
  config['model'] = frozen_encoders.freeze(config['model'], tmp_path / 'model')
  for name, value in changes.items():
    both = isinstance(value, dict)
    config[name] = config.get(name, {}) | value if both else value
  with pytest.raises((ValueError, OSError), match=message):
    training.train(config, tmp_path / 'run')
  assert not (tmp_path / 'run' / 'export').exists()


def test_a_workdir_in_use_is_refused_before_any_work(tmp_path):
  # No data either, which would be said next.
  config = _config()
  config['data']['path'] = 'nowhere'
  with (
    lock.hold(tmp_path),
    pytest.raises(OSError, match=f'{os.getpid()}.*works in {tmp_path}'),
  ):
    training.train(config, tmp_path)
  assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_simulation_needs_no_disk(tmp_path):
  config = _config(num_steps=2, augmentation={'shift': 2.0, 'hue': 0.1})
  config['data'] = {
    'source': 'simulation',
    'num_frames': 3,
    'batch_size': 8,
    'num_eval_windows': 8,
    'episode_length': 10,
  }
  training.train(config, tmp_path)
  model = exports.WorldModel.from_checkpoint(tmp_path)
  assert model.record['config']['augmentation']['shift'] == 2.0


def _start(config_file, dataset, workdir):
  command = [
    *(sys.executable, '-m', 'experiments.train'),
    f'--config={config_file}:tiny',
    f'--config.data.path={dataset}',
    f'--workdir={workdir}',
  ]
  # On the devices of these tests, whose programs are there already.
  environment = {
    **os.environ,
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
  }
  return subprocess.Popen(
    command,
    cwd=ROOT,
    env=environment,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def _end_when(process, workdir, num_lines, signum):
  """Sends the signal once that many lines are in the log."""
  deadline = time.monotonic() + 300
  while len(metrics.read(workdir / 'metrics.jsonl')) < num_lines:
    assert process.poll() is None, process.communicate()[1]
    assert time.monotonic() < deadline
    time.sleep(0.002)
  process.send_signal(signum)
  return process.communicate()


@pytest.mark.slow
def test_killed_runs_end_with_the_very_same_weights(dataset, trained, tmp_path):
  config_file = tmp_path / 'tiny.py'
  config_file.write_text(CONFIG_FILE)
  whole, told = trained
  assert 'Going on from' not in told
  workdir = tmp_path / 'killed'
  for num_lines, signum in (
    # The log's fourth line follows the first checkpoint; the first is of the
    # untrained model.
    (4, signal.SIGKILL),
    (9, signal.SIGTERM),
  ):
    process = _start(config_file, dataset, workdir)
    _, stderr = _end_when(process, workdir, num_lines, signum)
    assert not (workdir / 'export').exists()
    if signum == signal.SIGTERM:
      assert process.returncode == 143
      assert 'run the same command again to go on' in stderr
    else:
      assert process.returncode == -signal.SIGKILL
  process = _start(config_file, dataset, workdir)
  stdout, stderr = process.communicate()
  assert process.returncode == 0, stderr
  assert 'experiments.plan --checkpoint' in stdout
  assert 'Going on from' in stderr
  weights = [
    (run / 'export' / 'model.safetensors').read_bytes()
    for run in (whole, workdir)
  ]
  assert weights[0] == weights[1]
  records = metrics.read(workdir / 'metrics.jsonl')
  steps = [r['step'] for r in records]
  assert steps == sorted(steps) and steps[-1] == NUM_STEPS


# Of ml_collections, where it loads the file of a config.
_LOADS_A_FILE = pytest.mark.filterwarnings('ignore:the load_module')


def _parse(monkeypatch, *arguments):
  argv = ['train.py', *arguments]
  # ml_collections looks there for the overrides of a config.
  monkeypatch.setattr(sys, 'argv', argv)
  return train.parse_flags(argv)


@_LOADS_A_FILE
@pytest.mark.parametrize(
  'override, message',
  [
    ('--config.model.latentdim=4', "Did you mean 'latent_dim'?"),
    ('--config.modle.latent_dim=4', "Did you mean 'model'?"),
    ('--config.num_step=4', "Did you mean 'num_steps'?"),
    (
      '--config.model.xyz=4',
      "config.model has no field 'xyz'. It has ",
    ),
    ('--config.num_steps=many', "num_steps must be an integer, got 'many'."),
    ('--config.num_steps.of=4', "config.num_steps has no field 'of'"),
    ('--workdri=here', 'There is no flag --workdri. Did you mean --workdir?'),
    ('--set=x=3', 'no flag --set. Those of this command are --config, --work'),
  ],
)
def test_misspelt_field_suggests_the_nearest(
  monkeypatch, tmp_path, override, message
):
  file = tmp_path / 'tiny.py'
  file.write_text(CONFIG_FILE)
  with pytest.raises(SystemExit) as raised:
    _parse(monkeypatch, f'--config={file}:tiny', override)
  assert message in raised.value.code and '\n' not in raised.value.code


@_LOADS_A_FILE
@pytest.mark.parametrize(
  'arguments, message',
  [
    (['--config=LEWM:two_room_smal'], "^variant must .*mean 'two_room_small'"),
    (
      ['--config=LEWM', '--config.model.encoder.name=vti'],
      "^encoder.name must be one of .*Did you mean 'vit'",
    ),
    (
      ['--config=LEWM', '--config.model.encodr.name=vit'],
      "^The model 'lewm' has no field 'encodr'. Did you mean 'encoder'",
    ),
    (
      ['--config.seed=3', '--config=LEWM'],
      '^--config.seed needs --config=FILE before it.$',
    ),
    (['--config=LEWM', '--workdir'], '^Missing value for flag --workdir.$'),
  ],
)
def test_a_misspelt_name_of_a_published_config(monkeypatch, arguments, message):
  given = [x.replace('LEWM', lewm.__file__) for x in arguments]
  with pytest.raises(SystemExit, match=message) as raised:
    _parse(monkeypatch, *given)
  assert '\n' not in raised.value.code


@_LOADS_A_FILE
def test_no_such_config_or_variant(monkeypatch, tmp_path):
  file = tmp_path / 'tiny.py'
  file.write_text(CONFIG_FILE)
  for config, message in (
    (f'{file}:huge', "no variant 'huge'"),
    (f'{tmp_path}/none.py:tiny', 'none.py'),
  ):
    with pytest.raises(SystemExit) as raised:
      _parse(monkeypatch, f'--config={config}')
    assert message in raised.value.code and '\n' not in raised.value.code


def _set(config, name, value):
  *path, last = name.split('.')
  for key in path:
    config = config[key]
  config[last] = value


@pytest.mark.parametrize(
  'name, value, message',
  [
    (
      'data.path',
      'nowhere',
      'experiments.collect --policy=mixture --out=nowhere',
    ),
    ('data.source', 'disk', "config.data.source.*'disk'"),
    ('data.batchsize', 8, "Did you mean 'batch_size'"),
    ('data.batch_size', 12, '12, which 8 devices cannot share'),
    ('data.num_eval_windows', 0, 'num_eval_windows'),
    ('data.num_frames', 12, 'spans? '),
    pytest.param(
      *('data.num_frames', 2, 'pixels must be'), marks=pytest.mark.slow
    ),
    ('model.encoder.image_size', 24, 'image_size is 24 and the data has 16'),
    ('model.action_dim', 3, 'action_dim is 3 and the data has 2'),
    ('model.latentdim', 4, "Did you mean 'latent_dim'"),
    ('optimizer.learning_rat', 1.0, "Did you mean 'learning_rate'"),
    ('optimizer.learning_rate', -1.0, 'learning_rate must be positive'),
    ('num_stepz', 3, "Did you mean 'num_steps'"),
    ('num_steps', 'x', "config.optimizer.num_steps must be int, got 'x'"),
    ('log_every', 'x', "config.log_every must be int, got 'x'"),
    ('data.path', 5, 'config.data.path must be str, got 5'),
    ('seed', 2**63, r'config.seed must be in 0..2\*\*63 - 1'),
    ('evals', 5, 'evals must be names of diagnostics, got 5'),
    ('evals', ('errors,colapse',), "Did you mean 'collapse'"),
    ('augmentation', {'flipp': 1.0}, "Did you mean 'flip'"),
    ('augmentation', {'flip': 2.0}, 'augmentation.flip must be in 0..1'),
    ('augmentation', {'flip': 0.5}, 'flip would change what an action does'),
    ('data.source', 'tfds:x', "'tfds:x' has no actions, and lewm learns from"),
    ('data.source', 'digits', "'digits' has no actions, and lewm learns from"),
  ],
)
def test_what_does_not_fit_is_named(dataset, tmp_path, name, value, message):
  config = _with_data(dataset)
  _set(config, name, value)
  with pytest.raises((ValueError, OSError), match=message):
    training.train(config, tmp_path / 'run')
  assert not (tmp_path / 'run' / 'export').exists()


@_LOADS_A_FILE
@pytest.mark.parametrize(
  'error, code',
  [
    (hooks.Interrupted('Stopped.', signal.SIGTERM), 143),
    (run_lib.DivergedError('Diverged at step 5.'), 'Diverged at step 5.'),
    (OSError('No dataset.'), 'No dataset.'),
    (KeyboardInterrupt(), 'Interrupted; run the same command again to go on.'),
  ],
)
def test_main_ends_in_one_sentence(monkeypatch, tmp_path, error, code):
  def run(*args):
    raise error

  monkeypatch.setattr(recipes, 'train', run)
  file = tmp_path / 'tiny.py'
  file.write_text(CONFIG_FILE)
  _parse(monkeypatch, f'--config={file}:tiny', f'--workdir={tmp_path}/run')
  with pytest.raises(SystemExit) as raised:
    train.main(['train.py'])
  assert raised.value.code == code


@_LOADS_A_FILE
def test_a_config_that_is_not_there_says_where_to_run():
  with pytest.raises(SystemExit, match='repository') as caught:
    train.parse_flags(['train', '--config=nowhere/lewm.py:tiny'])
  assert "no config file 'nowhere/lewm.py'" in str(caught.value)


@_LOADS_A_FILE
def test_a_mistake_in_a_config_is_shown_where_it_is(tmp_path):
  path = tmp_path / 'mine.py'
  path.write_text("def get_config(variant=''):\n  return {}['nothing']\n")
  with pytest.raises(SystemExit, match=r'KeyError: nothing, in .*py, line 2'):
    train.parse_flags(['train', f'--config={path}'])
