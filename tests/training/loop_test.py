import os
import pathlib
import signal

import jax
import numpy as np
import pytest
import toy

from jepa_wm import sharding
from jepa_wm.training import (
  checkpoints,
  lock,
  loop,
  metrics,
  optimizers,
  state,
  step,
)

NUM_STEPS = 7


def _train(workdir, batches=None, **overrides):
  arguments = {
    'workdir': workdir,
    'seed': 0,
    'config': {'model': {'name': 'toy'}},
    'evaluators': [],
    'mesh': sharding.make_mesh(1),
    'log_every': 2,
    'eval_every': 3,
    'checkpoint_every': 100,
    **overrides,
  }
  optimizer = optimizers.AdamW(
    num_steps=NUM_STEPS, learning_rate=1e-2, warmup_fraction=0.0
  )
  return loop.train(
    toy.ToyFamily(target='ema'),
    optimizer,
    toy.STATISTICS,
    batches or toy.ToyBatches(),
    **arguments,
  )


def _assert_same(one, other):
  plain = lambda s: jax.device_get(
    s.replace(rng_key=jax.random.key_data(s.rng_key))
  )
  jax.tree.map(np.testing.assert_array_equal, plain(one), plain(other))


def _at(position, action):
  def on_batch(current, batch):
    if current == position:
      action(batch)

  return toy.ToyBatches(on_batch=on_batch)


def _send(signum):
  return lambda batch: os.kill(os.getpid(), signum)


@pytest.fixture(scope='module', autouse=True)
def _cheap():
  """All runs here start alike: compiled once, and nothing is drawn."""
  made = {}

  def create(family, optimizer, rng_key, *, sharding, fresh=state.create):
    if 'state' not in made:
      made['state'] = fresh(family, optimizer, rng_key, sharding=sharding)
    return jax.tree.map(jax.numpy.copy, made['state'])

  def make_train_step(*arguments, fresh=step.make_train_step, **options):
    if 'step' not in made:
      made['step'] = fresh(*arguments, **options)
    return made['step']

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(state, 'create', create)
    patch.setattr(step, 'make_train_step', make_train_step)
    touch = lambda records, path: path.write_bytes(b'')
    patch.setattr(metrics, 'draw_curves', touch)
    yield


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
  """A run that nobody touched, and its folder."""
  workdir = tmp_path_factory.mktemp('whole')
  return _train(workdir), workdir


def test_leaves_curves_log_checkpoint_and_export(whole):
  final, workdir = whole
  assert int(final.step) == NUM_STEPS
  assert sorted(p.name for p in workdir.iterdir()) == [
    'checkpoints',
    'curves.png',
    'export',
    'metrics.jsonl',
    'tensorboard',
  ]
  records = metrics.read(workdir / 'metrics.jsonl')
  assert [r['step'] for r in records] == [2, 4, 6, 7]
  for name in ('loss', 'prediction_loss', 'grad_norm', 'learning_rate'):
    assert all(np.isfinite(r[f'train/{name}']) for r in records)
  (checkpoint,) = (workdir / 'checkpoints').iterdir()
  assert checkpoint.name == 'step_00000007'


def test_stopped_and_resumed_is_uninterrupted(whole, tmp_path, capsys):
  for position, signum in ((3, signal.SIGINT), (5, signal.SIGTERM)):
    before = signal.getsignal(signum)
    with pytest.raises(loop.Interrupted) as raised:
      _train(tmp_path, _at(position, _send(signum)))
    assert raised.value.exit_code == 128 + signum
    message = f'{signum.name} after step {position} of 7 and saved'
    assert message in str(raised.value)
    assert f'step_0000000{position}' in str(raised.value)
    assert signal.getsignal(signum) is before
    assert not (tmp_path / 'export').exists()

  evaluated = []

  def evaluate_fn(variables):
    evaluated.append(variables)
    return {'probe/probe_r2': 0.5}

  # Other intervals and evaluators must not change what is learnt.
  resumed = _train(
    tmp_path, evaluators=[evaluate_fn], eval_every=2, log_every=1
  )
  _assert_same(resumed, whole[0])
  assert len(evaluated) == 2
  assert 'Going on from' in capsys.readouterr().err
  records = metrics.read(tmp_path / 'metrics.jsonl')
  assert sorted({r['step'] for r in records}) == [2, 3, 4, 5, 6, 7]
  assert [r['step'] for r in records if 'probe/probe_r2' in r] == [6, 7]


def test_a_finished_run_is_left_as_it_is(whole):
  final, workdir = whole
  log = (workdir / 'metrics.jsonl').read_text()
  batches = _at(1, lambda batch: pytest.fail('trained on'))
  _assert_same(_train(workdir, batches), final)
  assert (workdir / 'metrics.jsonl').read_text() == log


@pytest.mark.parametrize('num_saved', [0, 1])
def test_nan_stops_the_run(tmp_path, num_saved):
  def poison(batch):
    batch['action'][0, 0, 0] = np.nan

  with pytest.raises(loop.DivergedError) as raised:
    # The report after step 6 finds what happened at step 5.
    _train(
      tmp_path,
      _at(5, poison),
      checkpoint_every=4 if num_saved else 100,
      log_every=3,
    )
  message = str(raised.value)
  assert 'diverged at step 5: grad_norm, loss, prediction_loss' in message
  saved = [p.name for p in (tmp_path / 'checkpoints').glob('*')]
  if num_saved:
    assert saved == ['step_00000004']
    assert f'good checkpoint is {tmp_path}/checkpoints/step_0000' in message
  else:
    assert saved == [] and 'No checkpoint was written' in message
  assert (tmp_path / 'curves.png').exists()
  assert not (tmp_path / 'export').exists()


def test_a_second_run_in_the_same_workdir_is_refused(whole):
  final, workdir = whole
  log = (workdir / 'metrics.jsonl').read_text()
  with lock.hold(workdir), pytest.raises(OSError, match=str(os.getpid())):
    _train(workdir)
  assert (workdir / 'metrics.jsonl').read_text() == log
  _assert_same(_train(workdir), final)


def test_checkpoints_by_the_clock(tmp_path):
  _train(tmp_path, checkpoint_seconds=0.0, keep_checkpoints=2)
  saved = sorted(p.name for p in (tmp_path / 'checkpoints').iterdir())
  assert saved == ['step_00000006', 'step_00000007']


def test_another_run_or_damage_is_refused_and_touches_nothing(whole):
  _, workdir = whole
  with pytest.raises(ValueError, match='seed = 0 and this run has 1'):
    _train(workdir, seed=1)
  with pytest.raises(ValueError, match=r"model\.name = 'toy'"):
    _train(workdir, config={'model': {'name': 'pldm'}})
  record = next((workdir / 'checkpoints').glob('*/record.json'))
  content = record.read_text()
  record.write_text(content[:-20])
  with pytest.raises(ValueError, match='start from the beginning'):
    _train(workdir)
  record.write_text(content)


def test_workdir_must_be_writable_and_have_room(tmp_path, monkeypatch):
  file = tmp_path / 'file'
  file.write_text('')
  with pytest.raises(OSError, match='cannot be written'):
    _train(file / 'run')
  usage = type('Usage', (), {'free': 1000})
  monkeypatch.setattr(checkpoints.shutil, 'disk_usage', lambda path: usage)
  with pytest.raises(OSError, match=r'0\.0 MB left where 4 checkpoints'):
    _train(tmp_path / 'run')
  assert [p.name for p in pathlib.Path(tmp_path).iterdir()] == ['file', 'run']
  assert list((tmp_path / 'run').iterdir()) == []


@pytest.mark.parametrize(
  'name', ['log_every', 'eval_every', 'checkpoint_every', 'keep_checkpoints']
)
def test_intervals_must_be_positive(tmp_path, name):
  with pytest.raises(ValueError, match=name):
    _train(tmp_path, **{name: 0})
