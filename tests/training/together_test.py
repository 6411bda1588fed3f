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
  hooks,
  metrics,
  optimizers,
  state,
  step,
  together,
)
from jepa_wm.training import run as run_lib

NUM_STEPS = 6
SETTINGS = optimizers.AdamW(
  num_steps=NUM_STEPS, learning_rate=1e-2, warmup_fraction=0.0
)
OPTIMIZER = SETTINGS.transformation()
MODEL = toy.ToyModel(target='ema')


@pytest.fixture(scope='module', autouse=True)
def _cheap():
  """Compiled once for all runs here, which have one model."""
  made = {}

  def once(name, fresh):
    def make(*args, **given):
      if name not in made:
        made[name] = fresh(*args, **given)
      return made[name]

    return make

  def create(learner, optimizer, rng_key, *, sharding):
    if 'create' not in made:
      init = lambda key: state._init(learner, optimizer, key)
      made['create'] = jax.jit(init, out_shardings=sharding)
    return made['create'](rng_key)

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(state, 'create', create)
    for name in ('make_train_step', 'make_joint_step'):
      patch.setattr(step, name, once(name, getattr(step, name)))
    patch.setattr(
      metrics, 'draw_curves', lambda records, path: path.write_bytes(b'')
    )
    yield


class Batches(toy.ToyBatches):
  """Batches of a seed: they start elsewhere."""

  def __init__(self, seed, on_batch=None):
    super().__init__(on_batch=on_batch)
    self.position = 1000 * seed


def _run(seed, workdir, *, listens=False, on_batch=None):
  beside, _ = hooks.usual(
    workdir,
    name='toy',
    intervals=hooks.Intervals(log_every=2, checkpoint_every=2),
    listens=listens,
  )
  workdir.mkdir(exist_ok=True)
  run = run_lib.Run(
    MODEL,
    OPTIMIZER,
    Batches(seed, on_batch),
    num_steps=NUM_STEPS,
    seed=seed,
    mesh=sharding.make_mesh(1),
    action_statistics=toy.STATISTICS,
    schedule_fn=SETTINGS.metrics,
    hooks=beside,
  )
  run.resume(workdir / 'checkpoints')
  return run


@pytest.fixture(scope='module')
def alone(tmp_path_factory):
  """Runs of three seeds, each on its own."""
  root = tmp_path_factory.mktemp('alone')
  runs = [_run(seed, root / str(seed), listens=True) for seed in range(3)]
  for run in runs:
    for _ in run.steps():
      pass
  return runs, root


def _assert_close(one, other):
  plain = lambda s: jax.device_get(
    s.replace(rng_key=jax.random.key_data(s.rng_key))
  )
  close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
  jax.tree.map(close, plain(one), plain(other))


def test_runs_come_out_as_if_each_had_been_alone(alone, tmp_path):
  wanted, root = alone
  runs = [_run(seed, tmp_path / str(seed)) for seed in range(3)]
  assert together.take_steps(runs) == [None] * 3
  for seed, (run, other) in enumerate(zip(runs, wanted)):
    _assert_close(run.state, other.state)
    one, two = tmp_path / str(seed), root / str(seed)
    names = lambda x: sorted(p.name for p in x.iterdir())
    assert names(one) == names(two)
    assert names(one / 'checkpoints') == names(two / 'checkpoints')
    logged = [metrics.read(x / 'metrics.jsonl') for x in (one, two)]
    for record, line in zip(*logged, strict=True):
      assert record.keys() == line.keys()
      assert record['step'] == line['step']
      assert np.isclose(record['train/loss'], line['train/loss'], rtol=1e-4)
  # A checkpoint of one is a checkpoint of a run alone.
  newest = checkpoints.latest(tmp_path / '1' / 'checkpoints')
  again = _run(1, tmp_path / '1')
  assert again.checkpoint == newest and again.is_last


def test_stopped_it_saves_all_and_goes_on(alone, tmp_path):
  def on_batch(position, batch):
    if position == 3:
      os.kill(os.getpid(), signal.SIGTERM)

  before = signal.getsignal(signal.SIGTERM)
  runs = [
    _run(seed, tmp_path / str(seed), on_batch=on_batch if not seed else None)
    for seed in range(2)
  ]
  with pytest.raises(hooks.Interrupted, match='SIGTERM after step 3 of 6'):
    together.take_steps(runs)
  assert signal.getsignal(signal.SIGTERM) is before
  # One of them is further than the other: killed in between.
  ahead = _run(1, tmp_path / '1')
  next(ahead.steps())
  runs = [_run(seed, tmp_path / str(seed)) for seed in range(2)]
  assert [run.step for run in runs] == [3, 4]
  assert together.take_steps(runs) == [None] * 2
  for run, other in zip(runs, alone[0]):
    _assert_close(run.state, other.state)


def test_one_that_diverges_leaves_the_others(alone, tmp_path):
  def poison(position, batch):
    if position == 3:
      batch['action'][0, 0, 0] = np.nan

  runs = [
    _run(seed, tmp_path / str(seed), on_batch=poison if not seed else None)
    for seed in range(3)
  ]
  first, *others = together.take_steps(runs)
  assert isinstance(first, run_lib.DivergedError)
  assert 'diverged at step 3' in str(first) and 'step_00000002' in str(first)
  assert others == [None, None]
  for run, other in zip(runs[1:], alone[0][1:]):
    _assert_close(run.state, other.state)
  kept = pathlib.Path(tmp_path / '0' / 'checkpoints')
  assert [path.name for path in kept.iterdir()] == ['step_00000002']
