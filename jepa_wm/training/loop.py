"""The training loop: batches in, parameters, curves and checkpoints out."""

import dataclasses
import datetime
import os
import pathlib
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm import families, provenance, sharding, world_model
from jepa_wm.training import checkpoints, lock, optimizers
from jepa_wm.training import metrics as metrics_lib
from jepa_wm.training import state as state_lib
from jepa_wm.training import step as step_lib

EvaluateFn = Callable[[Any], Mapping[str, Any]]
"""Variables to floats and words named `group/name`; leaves the batches alone.

The variables are those of `families.inference_variables`.
"""

_RUN_AHEAD = 2
"""Steps given to the device before the host waits: hides the loading."""


class BatchIterator(Protocol):
  """Endless batches whose position can be saved and set."""

  def __next__(self) -> Mapping[str, np.ndarray]:
    """The next batch, leaves `[B, ...]`."""
    ...

  def get_state(self) -> Any:
    """Position after the last batch given, in JSON's types."""
    ...

  def set_state(self, state: Any) -> None:
    """Goes to a position that `get_state` gave."""
    ...


class DivergedError(FloatingPointError):
  """The loss, its gradient or a statistic is no longer a number."""


class Interrupted(Exception):
  """The run was told to stop, and saved what it had.

  Attributes:
    exit_code: 128 plus the signal's number, as shells have it.
  """

  def __init__(self, sentence: str, signum: int):
    super().__init__(sentence)
    self.exit_code = 128 + signum


def train(
  family: Any,
  optimizer: optimizers.AdamW,
  action_statistics: Any,
  batches: BatchIterator,
  *,
  workdir: str | os.PathLike[str],
  seed: int,
  config: Mapping[str, Any],
  evaluators: Sequence[EvaluateFn],
  mesh: jax.sharding.Mesh,
  augment_fn: step_lib.AugmentFn | None = None,
  frozen: Any = None,
  log_every: int = 50,
  eval_every: int = 1000,
  checkpoint_every: int = 1000,
  checkpoint_seconds: float = 600.0,
  keep_checkpoints: int = 3,
) -> state_lib.TrainState:
  """Trains `family` for `optimizer.num_steps` updates, or what is left of them.

  A run is a function of `config`, `seed` and the data on a given number of
  devices: killed at any moment and called again with the same arguments, it
  goes on from its newest checkpoint and ends with the same parameters, to the
  bit. In `workdir` it leaves `checkpoints/`, `metrics.jsonl`, `tensorboard/`,
  `curves.png` and, when it is done, `export/` for `WorldModel.from_checkpoint`.

  Args:
    family: what to train.
    optimizer: how, and for how many steps.
    action_statistics: of the data, applied on the device; None where the family
      takes no actions.
    batches: raw batches, at their start; a resumed run sets their position.
    workdir: folder of the run; made where missing.
    seed: of parameters, dropout and every other draw on the device.
    config: what makes this run this run, in JSON's types; a checkpoint made
      with another is refused, but for one of fewer steps, which goes on.
    evaluators: called every `eval_every` steps and at the end; what they
      return is logged.
    mesh: batches are sharded over its `data` axis, the state is replicated.
    augment_fn: what is done to the pixels of a training batch, on the device;
      evaluations see them as they are.
    frozen: variables of the frozen encoder of a family that has one, the
      collection 'frozen' of all; those that the family draws if left out.
    log_every: steps between two reports; each is the mean over its steps.
    eval_every: steps between two evaluations.
    checkpoint_every: steps between two checkpoints.
    checkpoint_seconds: a checkpoint is also written when this much time has
      passed since the last one.
    keep_checkpoints: how many of the newest stay on disk.

  Returns:
    The state after the last step.

  Raises:
    DivergedError: a NaN or an infinity; names the step and the last good
      checkpoint, which is left as it is.
    Interrupted: SIGTERM or Ctrl-C came; a checkpoint was written.
    CheckpointError: the newest checkpoint is damaged or of another run, or a
      new one could not be written.
    OSError: `workdir` cannot be written, has no room for checkpoints, or
      another process trains in it.
    ValueError: an interval or `keep_checkpoints` below 1.
  """
  for name, value in (
    ('log_every', log_every),
    ('eval_every', eval_every),
    ('checkpoint_every', checkpoint_every),
    ('keep_checkpoints', keep_checkpoints),
  ):
    if value < 1:
      raise ValueError(f'{name} must be at least 1, got {value}.')
  workdir = _make_writable(pathlib.Path(workdir))
  with lock.hold(workdir):
    folder = workdir / 'checkpoints'
    num_steps = optimizer.num_steps
    identity = {
      **config,
      'seed': seed,
      'num_steps': num_steps,
      'action_statistics': action_statistics and action_statistics.to_dict(),
    }
    replicated = sharding.replicated(mesh)
    last_good = checkpoints.latest(folder)
    if last_good is None:
      state = state_lib.create(
        family, optimizer, jax.random.key(seed), sharding=replicated
      )
      if frozen is not None:
        # A copy: the state is donated.
        frozen = jax.device_put(jax.tree.map(jnp.array, frozen), replicated)
        state = dataclasses.replace(
          state, variables={**state.variables, 'frozen': frozen}
        )
    else:
      record = checkpoints.read_record(last_good)
      checkpoints.check_same_run(last_good, record, identity)
      like = state_lib.describe(family, optimizer, sharding=replicated)
      state = checkpoints.restore(last_good, like)
      batches.set_state(record['iterator'])
    step = int(state.step)
    # One more is being written before the oldest goes.
    count = keep_checkpoints + 1 - len(checkpoints.steps(folder))
    checkpoints.check_room(workdir, state, count=max(count, 1))

    log = metrics_lib.MetricsLog(workdir, step=step)
    progress = metrics_lib.Progress(num_steps, step=step)
    num_parameters = sum(
      leaf.size for leaf in jax.tree.leaves(state.variables['params'])
    )
    progress.say(
      f'{family.name}: {num_parameters / 1e6:.2f} M parameters, {num_steps} '
      f'steps on {sharding.device_description()}.'
    )
    if last_good is not None:
      doing = 'Going on from' if step < num_steps else 'Finished before at'
      progress.say(f'{doing} {last_good}.')
    train_step = step_lib.make_train_step(
      family, optimizer, action_statistics, mesh, augment_fn=augment_fn
    )
    pending: list[tuple[int, step_lib.Metrics]] = []
    window: list[dict[str, float]] = []
    last_save = time.monotonic()
    with _Signals() as signals:
      try:
        while step < num_steps:
          batch = sharding.shard_batch(next(batches), mesh)
          state, metrics = train_step(state, batch)
          step += 1
          pending.append((step, metrics))
          if len(pending) > _RUN_AHEAD:
            jax.block_until_ready(pending[-_RUN_AHEAD - 1][1]['loss'])

          # Read once: a signal during what follows waits for the next step.
          stop = signals.received
          last = step == num_steps or stop is not None
          logs = last or step % log_every == 0
          evaluates = step % eval_every == 0 or step == num_steps
          saves = (
            last
            or step % checkpoint_every == 0
            or time.monotonic() - last_save > checkpoint_seconds
          )
          if logs or evaluates or saves:
            # Before anything is kept: a state with a NaN must not be saved.
            window += _fetch(pending, last_good)
            pending.clear()
          if logs:
            values = _mean(window)
            window.clear()
            log.write(step, {f'train/{k}': v for k, v in values.items()})
            progress.report(step, _losses(values))
          if evaluates:
            for evaluate_fn in evaluators:
              scalars = evaluate_fn(_inference_variables(family, state))
              log.write(step, scalars)
            if not last:
              log.draw()
          if saves:
            # After the evaluation, so that a resumed run does not miss it.
            last_good = checkpoints.save(
              folder,
              state,
              {**identity, 'iterator': batches.get_state()},
              keep=keep_checkpoints,
            )
            last_save = time.monotonic()
          if stop is not None and step < num_steps:
            raise Interrupted(
              f'Stopped by {stop.name} after step {step} of {num_steps} and '
              f'saved {last_good}; run the same command again to go on.',
              stop,
            )
        log.draw()
      except (DivergedError, Interrupted):
        log.draw()
        raise
      finally:
        progress.close()
        log.close()
    model = world_model.WorldModel(
      families.inference_family(family),
      _inference_variables(family, state),
      action_statistics,
      {'num_parameters': num_parameters, **_training_record(log, identity)},
    )
    model.save(workdir / 'export')
    return state


def _inference_variables(family: Any, state: state_lib.TrainState) -> Any:
  return families.inference_variables(
    family, state.variables, state.target_variables
  )


def _training_record(
  log: metrics_lib.MetricsLog, identity: Mapping[str, Any]
) -> dict[str, Any]:
  """What a reader of the exported model wants to know about its training."""
  return {
    'config': dict(identity),
    'seconds': round(log.seconds, 1),
    'metrics': log.newest(),
    'device': sharding.device_description(),
    'date': datetime.date.today().isoformat(),
    'versions': provenance.versions(),
    'commit': provenance.commit(),
  }


def _make_writable(workdir: pathlib.Path) -> pathlib.Path:
  """Finds out before the training, not after, that nothing can be saved."""
  try:
    workdir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=workdir) as file:
      file.write(b'0')
  except OSError as error:
    raise OSError(
      f'workdir {workdir} cannot be written ({error.strerror}); choose another '
      'folder.'
    ) from error
  return workdir


class _Signals:
  """Remembers SIGTERM and Ctrl-C until a step is whole; a second one acts."""

  def __init__(self) -> None:
    self.received: signal.Signals | None = None
    self._before: dict[signal.Signals, Any] = {}

  def __enter__(self) -> '_Signals':
    # Python lets only the main thread listen; elsewhere the caller's rules go.
    if threading.current_thread() is threading.main_thread():
      for signum in (signal.SIGTERM, signal.SIGINT):
        self._before[signum] = signal.signal(signum, self._receive)
    return self

  def __exit__(self, *_: object) -> None:
    for signum, handler in self._before.items():
      signal.signal(signum, handler)

  def _receive(self, signum: int, frame: object) -> None:
    del frame
    self.received = signal.Signals(signum)
    signal.signal(signum, self._before[self.received])


def _fetch(
  pending: list[tuple[int, step_lib.Metrics]], last_good: pathlib.Path | None
) -> list[dict[str, float]]:
  """Metrics of the pending steps on the host; raises at the first NaN."""
  fetched = jax.device_get([metrics for _, metrics in pending])
  for (step, _), values in zip(pending, fetched):
    if not values.pop('finite'):
      bad = [name for name, value in values.items() if not np.isfinite(value)]
      if last_good is None:
        advice = 'No checkpoint was written before it'
      else:
        advice = f'The last good checkpoint is {last_good}'
      raise DivergedError(
        f'Training diverged at step {step}: {", ".join(sorted(bad))} not '
        f'finite. {advice}; try a lower learning rate, a longer warm-up or '
        'float32, in an empty workdir.'
      )
  return [
    {name: float(value) for name, value in values.items()} for values in fetched
  ]


def _mean(window: list[dict[str, float]]) -> dict[str, float]:
  return {
    name: float(np.mean([values[name] for values in window]))
    for name in window[0]
  }


def _losses(values: Mapping[str, float]) -> dict[str, float]:
  """What the progress line shows: the loss first, no bookkeeping."""
  hidden = ('loss', 'grad_norm', 'learning_rate', 'weight_decay')
  rest = {k: v for k, v in values.items() if k not in hidden}
  return {'loss': values['loss'], **rest}
