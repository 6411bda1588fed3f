import dataclasses
import os
import pathlib
import signal

import jax
import numpy as np
import optax
import pytest
import toy

from jepa_wm import lock, sharding
from jepa_wm.training import (
  checkpoints,
  hooks,
  metrics,
  optimizers,
  state,
  step,
)
from jepa_wm.training import run as run_lib

NUM_STEPS = 7


SETTINGS = optimizers.AdamW(
  num_steps=NUM_STEPS, learning_rate=1e-2, warmup_fraction=0.0
)

OPTIMIZER = SETTINGS.transformation()


def _run(batches=None, **overrides):
  arguments = {
    'num_steps': NUM_STEPS,
    'config': {'model': {'name': 'toy'}},
    'mesh': sharding.make_mesh(1),
    'action_statistics': toy.STATISTICS,
    'schedule_fn': SETTINGS.metrics,
    **overrides,
  }
  return run_lib.Run(
    toy.ToyModel(target='ema'),
    OPTIMIZER,
    batches or toy.ToyBatches(),
    **arguments,
  )


def _train(workdir, batches=None, evaluators=(), **overrides):
  """The state after a run in a folder, as a command does it."""
  often = {'log_every': 2, 'eval_every': 3, 'checkpoint_every': 100}
  known = {f.name for f in dataclasses.fields(hooks.Intervals)}
  often |= {k: overrides.pop(k) for k in known & overrides.keys()}
  beside, _ = hooks.usual(
    workdir,
    name='toy',
    evaluators=evaluators,
    intervals=hooks.Intervals(**often),
  )
  with lock.hold(workdir):
    run = _run(batches, hooks=beside, **overrides)
    run.resume(pathlib.Path(workdir) / 'checkpoints')
    for _ in run.steps():
      pass
  return run.state


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

  def create(learner, optimizer, rng_key, *, sharding, fresh=state.create):
    key = 'state', learner, optimizer
    if key not in made:
      made[key] = fresh(learner, optimizer, rng_key, sharding=sharding)
    return jax.tree.map(jax.numpy.copy, made[key])

  def make_train_step(
    learner, optimizer, *arguments, fresh=step.make_train_step, **options
  ):
    key = 'step', learner, optimizer
    if key not in made:
      made[key] = fresh(learner, optimizer, *arguments, **options)
    return made[key]

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


def test_leaves_curves_log_and_checkpoint(whole):
  final, workdir = whole
  assert int(final.step) == NUM_STEPS
  assert sorted(p.name for p in workdir.iterdir()) == [
    'checkpoints',
    'curves.png',
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
    with pytest.raises(hooks.Interrupted) as raised:
      _train(tmp_path, _at(position, _send(signum)))
    assert raised.value.exit_code == 128 + signum
    message = f'{signum.name} after step {position} of 7 and saved'
    assert message in str(raised.value)
    assert f'step_0000000{position}' in str(raised.value)
    assert signal.getsignal(signum) is before

  evaluated = []

  def evaluate_fn(variables, records):
    evaluated.append((variables, len(records)))
    return {'probe/probe_r2': 0.5, 'probe/word': 'fine'}

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
  assert [r['probe/word'] for r in records if 'probe/word' in r] == ['fine'] * 2


def test_the_untrained_model_is_looked_at_first(tmp_path):
  """Killed before its first checkpoint, a run starts with nothing of before.

  What was there may be of another run.
  """
  seen = []

  def evaluate_fn(variables, records):
    kernel = variables['params']['encoder']['kernel']
    seen.append((len(records), float(kernel[0, 0])))
    return {'collapse/verdict': 'healthy', 'collapse/latent_std_mean': 1.0}

  def kill(batch):
    raise ZeroDivisionError

  for _ in range(2):
    with pytest.raises(ZeroDivisionError):
      _train(tmp_path, _at(1, kill), [evaluate_fn])
  fresh = _run().state.variables['params']['encoder']['kernel']
  assert seen == 2 * [(0, float(fresh[0, 0]))]
  _train(tmp_path, None, [evaluate_fn])
  records = metrics.read(tmp_path / 'metrics.jsonl')
  said = [r['step'] for r in records if 'collapse/verdict' in r]
  assert said == [0, 3, 6, 7]
  # What was logged before is told, so that a verdict can look back.
  assert [number for number, _ in seen] == [0, 0, 0, 2, 5, 7]


def test_a_run_is_driven_by_hand(whole, tmp_path):
  run = _run()
  steps = []
  for report in run.steps():
    steps.append((report.step, run.step))
    if report.step == 3:
      break
  assert steps == [(1, 1), (2, 2), (3, 3)] and report.values is None
  run.check()
  assert report.values['loss'] > 0
  run.save(tmp_path)
  # Goes on in place, and from the checkpoint in another run.
  for report in run.steps():
    steps.append((report.step, run.step))
  assert steps[-1] == (7, 7) and report.values is not None
  _assert_same(run.state, whole[0])
  other = _run()
  assert other.resume(tmp_path) and other.step == 3
  assert sum(1 for _ in other.steps()) == 4
  _assert_same(other.state, whole[0])
  assert not _run().resume(tmp_path / 'nowhere')


def test_hooks_are_called_in_order_and_may_stop_the_run():
  calls = []

  class Note(run_lib.Hook):
    def __init__(self, name, last=None):
      self.name, self.last = name, last

    def at_start(self, run):
      calls.append((self.name, 'start'))

    def after_step(self, run, report):
      if report.step == self.last:
        run.stop()
      calls.append((self.name, report.step, run.is_last))

    def at_end(self, run):
      calls.append((self.name, 'end'))

    def close(self):
      calls.append((self.name, 'close'))

  run = _run(hooks=[Note('a', last=2), Note('b')])
  assert [report.step for report in run.steps()] == [1, 2]
  assert calls == [
    *(('a', 'start'), ('b', 'start')),
    *(('a', 1, False), ('b', 1, False), ('a', 2, True), ('b', 2, True)),
    *(('a', 'end'), ('b', 'end'), ('b', 'close'), ('a', 'close')),
  ]
  # Left in the middle, the hooks are told, but not that it ended.
  calls.clear()
  for _ in run.steps():
    break
  assert calls[-2:] == [('b', 'close'), ('a', 'close')]
  assert ('a', 'end') not in calls


def test_steps_that_nobody_checks_are_checked_in_time(monkeypatch):
  monkeypatch.setattr(run_lib, '_CHECK_EVERY', 3)

  def poison(batch):
    batch['action'][0, 0, 0] = np.nan

  run = _run(_at(2, poison))
  with pytest.raises(run_lib.DivergedError, match='diverged at step 2'):
    for _ in run.steps():
      pass
  assert run.step == 3


def test_any_optimizer_of_optax_trains():
  run = run_lib.Run(
    toy.ToyModel(),
    optax.sgd(0.1),
    toy.ToyBatches(),
    num_steps=30,
    mesh=sharding.make_mesh(1),
  )
  reports = list(run.steps())
  losses = [report.values['loss'] for report in reports]
  assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])
  assert 'learning_rate' not in reports[0].values


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

  with pytest.raises(run_lib.DivergedError) as raised:
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
  assert [p.name for p in tmp_path.iterdir()] == ['file']


@pytest.mark.parametrize(
  'name', ['log_every', 'eval_every', 'checkpoint_every', 'keep_checkpoints']
)
def test_intervals_must_be_positive(tmp_path, name):
  with pytest.raises(ValueError, match=name):
    _train(tmp_path, **{name: 0})
