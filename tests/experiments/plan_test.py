import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from experiments import plan
from jepa_wm import families, world_model
from jepa_wm.data import normalization

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
  """An untrained model of a few thousand parameters."""
  family = families.LeWM(
    image_size=16,
    history=2,
    latent_dim=8,
    encoder='conv',
    encoder_features=16,
    encoder_channels=(4, 8),
    encoder_strides=(2, 2),
    encoder_blocks=(1, 1),
    projector_dim=16,
    smoothed_dim=4,
    predictor_dim=8,
    predictor_depth=1,
    predictor_heads=2,
    predictor_head_dim=4,
    predictor_mlp_dim=16,
  )
  rng = np.random.default_rng(0)
  model = world_model.WorldModel(
    family,
    jax.tree.map(
      # Running variances among them, so nothing negative.
      lambda leaf: rng.uniform(0.0, 0.2, leaf.shape).astype(leaf.dtype),
      jax.eval_shape(family.init, jax.random.key(0)),
    ),
    normalization.ActionStatistics(
      np.zeros(2, np.float32), np.full(2, 0.8, np.float32)
    ),
  )
  path = tmp_path_factory.mktemp('checkpoints') / 'tiny'
  model.save(path)
  return path


def _environment():
  environment = {**os.environ, 'JAX_PLATFORMS': 'cpu'}
  environment.pop('XLA_FLAGS', None)
  return environment


def _command(*arguments):
  return subprocess.run(
    [sys.executable, '-m', 'experiments.plan', *arguments],
    cwd=ROOT,
    env=_environment(),
    capture_output=True,
    text=True,
    timeout=300,
  )


def _sentence(checkpoint, *arguments):
  """What `main` leaves with, given flags; they are forgotten afterwards."""
  plan.FLAGS(['plan', f'--checkpoint={checkpoint}', *arguments])
  try:
    with pytest.raises(SystemExit) as stop:
      plan.main(['plan'])
  finally:
    plan.FLAGS.unparse_flags()
    for name in plan.FLAGS:
      plan.FLAGS[name].unparse()
  assert isinstance(stop.value.code, str)  # sys.exit prints it and returns 1.
  return stop.value.code


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (['--num_samples=10', '--num_elites=20'], 'num_samples, got 20 of 10'),
    (['--set=num_keep=3'], "no option 'num_keep' (did you mean 'num_kept'?)"),
    (['--set=init_std=wide'], "a quoted string for a value, got 'init_std=wid"),
    (['--set=min_std'], 'name=value with a number, True, False, None'),
    (['--set=min_std=0.1', '--set=min_std=0.2'], 'min_std is given twice'),
    (['--num_samples=9', '--set=num_samples=9'], 'num_samples is given twice'),
    (['--set=num_kept=2.0'], "'num_kept' of planner 'cem' must be int, got 2."),
    (['--history=0'], 'history must be at least 1'),
    (['--history=3'], 'expected 1 to 2 frames (history), got 3'),
    (['--horizon=11'], 'horizon must fit into the budget of 50'),
    (['--horizon=2', '--receding_horizon=3'], 'receding_horizon must not'),
    (['--num_pairs=201'], 'num_pairs must lie in 1..200'),
    (['--num_pairs=0'], 'num_pairs must be at least 1'),
    (['--batch_size=0'], 'batch_size must be at least 1'),
    (['--num_iterations=0'], 'num_iterations must be at least 1'),
  ],
)
def test_flags_that_make_no_sense(arguments, message, checkpoint, tmp_path):
  out = tmp_path / 'out'
  assert message in _sentence(checkpoint, f'--out={out}', *arguments)
  assert not out.exists()


def test_a_missing_checkpoint(tmp_path):
  sentence = _sentence(tmp_path / 'none', f'--out={tmp_path / "out"}')
  assert 'none' in sentence and 'config.json' in sentence
  assert not (tmp_path / 'out').exists()


def test_a_cut_off_checkpoint(checkpoint, tmp_path):
  broken = tmp_path / 'broken'
  broken.mkdir()
  for source in checkpoint.iterdir():
    content = source.read_bytes()
    if source.suffix == '.safetensors':
      content = content[: len(content) // 2]
    (broken / source.name).write_bytes(content)
  assert 'may be cut off' in _sentence(broken, f'--out={tmp_path / "out"}')


def test_an_unwritable_folder(checkpoint, tmp_path):
  (tmp_path / 'file').write_text('in the way')
  sentence = _sentence(checkpoint, f'--out={tmp_path / "file" / "out"}')
  assert 'cannot write to' in sentence and '--out' in sentence


def test_a_wrong_command_line_ends_in_one_sentence(tmp_path):
  for arguments, words in (
    ([f'--checkpoint={tmp_path / "none"}'], 'config.json'),
    (['--num_elite=3'], 'Did you mean: num_elites'),
  ):
    done = _command(f'--out={tmp_path / "out"}', *arguments)
    assert done.returncode == 1
    assert words in done.stderr
    assert 'Traceback' not in done.stderr + done.stdout
    assert not (tmp_path / 'out').exists()


@pytest.mark.slow
def test_from_the_command_line_to_the_report(checkpoint, tmp_path):
  out = tmp_path / 'out'
  arguments = [
    f'--checkpoint={checkpoint}',
    '--num_pairs=4',
    '--num_samples=16',
    '--num_elites=4',
    '--num_iterations=2',
    '--set=min_std=0.05',
    '--set=num_kept=1',
    '--distance=cosine',
    '--history=2',
    f'--out={out}',
  ]
  done = _command(*arguments)
  assert done.returncode == 0, done.stderr
  assert 'random floor' in done.stdout and 'short' in done.stdout
  assert 'planning (short): 100%' in done.stderr
  assert sorted(path.name for path in out.iterdir()) == [
    'episodes.gif',
    'report.html',
    'results.json',
    'search.png',
  ]
  (record,) = json.loads((out / 'results.json').read_text())
  assert record['num_pairs'] == 4
  planner = record['planner']
  assert (planner['name'], planner['num_samples']) == ('cem', 16)
  assert (planner['min_std'], planner['num_kept']) == (0.05, 1)
  assert (planner['distance'], planner['history']) == ('cosine', 2)
  assert record['checkpoint'] == str(checkpoint)
  page = (out / 'report.html').read_text()
  assert f'python -m experiments.plan --checkpoint={checkpoint}' in page
  assert '--set=min_std=0.05 --set=num_kept=1 --distance=cosine' in page
  assert 'straight pushes' in page
