"""What happens beside the steps of a run: log, evaluate, save, stop."""

import dataclasses
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jepa_wm import bounds, fields, files, processes, sharding, shares
from jepa_wm.training import checkpoints
from jepa_wm.training import metrics as metrics_lib
from jepa_wm.training import run as run_lib

EvaluateFn = Callable[
  [Any, Sequence[metrics_lib.Record]], Mapping[str, float | str]
]
"""Variables for inference and the log so far, to values named `group/name`.

It must leave the batches of the run alone.
"""

_DRAW_SECONDS = 60.0
"""Between two pictures of the curves of a run that goes on."""


class Interrupted(Exception):
  """The run was told to stop, and saved what it had.

  Attributes:
    exit_code: 128 plus the signal's number, as shells have it.
  """

  def __init__(self, sentence: str, signum: int):
    super().__init__(sentence)
    self.exit_code = 128 + signum


@dataclasses.dataclass(frozen=True, kw_only=True)
class Intervals:
  """How often what happens.

  Attributes:
    log_every: steps between two reports; each is the mean over its steps.
    eval_every: steps between two evaluations.
    checkpoint_every: steps between two checkpoints.
    checkpoint_seconds: a checkpoint is also written when this much time has
      passed since the last one.
    keep_checkpoints: how many of the newest stay on disk.
  """

  log_every: int = 50
  eval_every: int = 1000
  checkpoint_every: int = 1000
  checkpoint_seconds: float = 600.0
  keep_checkpoints: int = 3

  def __post_init__(self) -> None:
    counts = {x.name: 1 for x in dataclasses.fields(self)}
    del counts['checkpoint_seconds']
    fields.check_counts(self, counts, dict.fromkeys(counts, bounds.MOST_STEPS))
    bounds.check_number('checkpoint_seconds', self.checkpoint_seconds, 1e9)


class StopOnSignal(run_lib.Hook):
  """Ends the run at SIGTERM or Ctrl-C once a step is whole; a second one acts.

  The first of all hooks: a signal that comes while the others are at work waits
  for the next step.
  """

  def __init__(self) -> None:
    self._received: signal.Signals | None = None
    self._stopped: signal.Signals | None = None
    self._before: dict[signal.Signals, Any] = {}

  def at_start(self, run: run_lib.Run) -> None:
    """Listens, in the main thread."""
    self._received = self._stopped = None
    # Python lets only that one; elsewhere the caller's rules go.
    if threading.current_thread() is threading.main_thread():
      for signum in (signal.SIGTERM, signal.SIGINT):
        self._before[signum] = signal.signal(signum, self._receive)

  def after_step(self, run: run_lib.Run, report: run_lib.Report) -> None:
    """Stops the run if a signal has come, to any of its processes."""
    if self._received is not None:
      run.asks.ask('stop', self._received)
    if heard := run.asks.heard('stop'):
      self._stopped = signal.Signals(heard)
      run.stop()

  def at_end(self, run: run_lib.Run) -> None:
    """Says what stopped the run.

    Raises:
      Interrupted: a signal did.
    """
    stop = self._stopped
    if stop is not None and run.step < run.num_steps:
      raise Interrupted(
        f'Stopped by {stop.name} after step {run.step} of {run.num_steps} and '
        f'saved {run.checkpoint}; run the same command again to go on.',
        stop,
      )

  def close(self) -> None:
    """Puts the handlers back."""
    for signum, handler in self._before.items():
      signal.signal(signum, handler)
    self._before.clear()

  def _receive(self, signum: int, frame: object) -> None:
    del frame
    self._received = signal.Signals(signum)
    signal.signal(signum, self._before[self._received])


class CheckRoom(run_lib.Hook):
  """Refuses to start a run whose checkpoints the disk cannot hold."""

  def __init__(self, directory: str | os.PathLike[str], *, keep: int = 3):
    """Says what will be written.

    Args:
      directory: of the checkpoints; the one above it exists.
      keep: how many of them stay.
    """
    self._directory, self._keep = files.expand(directory), keep

  def at_start(self, run: run_lib.Run) -> None:
    """Looks at the disk.

    Raises:
      OSError: there is less room.
    """
    state = run.state
    processes.from_first(lambda: self._check(state))

  def _check(self, state: Any) -> None:
    # One more is being written before the oldest goes.
    count = self._keep + 1 - len(checkpoints.steps(self._directory))
    checkpoints.check_room(self._directory.parent, state, count=max(count, 1))


class Log(run_lib.Hook):
  """Writes the means of what was reported, and tells the terminal.

  In `workdir` it leaves `metrics.jsonl`, `tensorboard/` and `curves.png`. Of
  several processes the first does so, and the others check the values alone.
  """

  def __init__(
    self, workdir: str | os.PathLike[str], *, name: str, every: int = 50
  ):
    """Opens nothing yet.

    Args:
      workdir: folder of the run; it exists.
      name: of what is trained, for the terminal.
      every: steps between two reports.
    """
    self._workdir, self._name, self._every = workdir, name, every
    self._window: list[run_lib.Report] = []
    self._log: metrics_lib.MetricsLog | None = None
    self._progress: metrics_lib.Progress | None = None

  @property
  def metrics(self) -> metrics_lib.MetricsLog:
    """The log, from `at_start` on; what was logged can be read afterwards."""
    assert self._log is not None, 'The run has not started.'
    return self._log

  def at_start(self, run: run_lib.Run) -> None:
    """Opens the log where the run goes on, and says so."""
    if not processes.is_first():
      return
    self._log = metrics_lib.MetricsLog(self._workdir, step=run.step)
    self._progress = metrics_lib.Progress(run.num_steps, step=run.step)
    self._progress.say(
      f'{self._name}: {run.num_parameters / 1e6:.2f} M parameters, '
      f'{run.num_steps} steps on {sharding.device_description()}'
      f'{sharding.spread(run.state, run.mesh)}.'
    )
    if run.checkpoint is not None:
      doing = 'Finished before at' if run.is_last else 'Going on from'
      self._progress.say(f'{doing} {run.checkpoint}.')

  def after_step(self, run: run_lib.Run, report: run_lib.Report) -> None:
    """Writes the means since the last time, if it is time."""
    if self._progress is not None:
      self._progress.begin(report.step)
    self._window.append(report)
    if not (run.is_last or report.step % self._every == 0):
      return
    run.check()
    values = _mean(self._window)
    self._window.clear()
    if self._log is None:
      return
    self.metrics.write(
      report.step, {f'train/{k}': v for k, v in values.items()}
    )
    assert self._progress is not None
    self._progress.report(report.step, _losses(values))

  def leave_out(self, seconds: float) -> None:
    """Keeps the last `seconds`, in which there was no step, from the rate."""
    if self._progress is not None:
      self._progress.leave_out(seconds)

  def close(self) -> None:
    """Draws the curves and closes the files."""
    if self._progress is not None:
      self._progress.close()
    if self._log is not None:
      self._log.draw()
      self._log.close()


class Evaluate(run_lib.Hook):
  """Logs what others say of the model, also of the untrained one.

  Args:
    evaluators: what is measured, handed in from above.
    log: comes before this hook.
    every: steps between two evaluations; the last step has one too, unless the
      run was stopped. The curves are drawn anew with it, now and then.
  """

  def __init__(
    self, evaluators: Sequence[EvaluateFn], log: Log, *, every: int = 1000
  ):
    self._evaluators, self._log, self._every = evaluators, log, every

  def at_start(self, run: run_lib.Run) -> None:
    """Looks at the untrained model, which what is learnt is compared with."""
    self._drawn = time.monotonic()
    if run.step == 0:
      self._evaluate(run)

  def after_step(self, run: run_lib.Run, report: run_lib.Report) -> None:
    """Evaluates, if it is time."""
    done = report.step == run.num_steps
    if done or report.step % self._every == 0:
      run.check()
      self._evaluate(run)

  def _evaluate(self, run: run_lib.Run) -> None:
    """Evaluates in the first process."""
    began = time.monotonic()
    held = shares.brought_home(run.state.variables)
    processes.from_first(lambda: self._write(run, held))
    self._log.leave_out(time.monotonic() - began)

  def _write(self, run: run_lib.Run, held: Any) -> None:
    log = self._log.metrics
    for evaluate_fn in self._evaluators:
      variables = run.learner.for_inference(held)
      log.write(run.step, evaluate_fn(variables, log.records))
    # A picture takes half a second, as long as many steps of a small run.
    late = time.monotonic() - self._drawn > _DRAW_SECONDS
    if late and not run.is_last:
      log.draw()
      self._drawn = time.monotonic()


class Save(run_lib.Hook):
  """Writes checkpoints, the last of all hooks.

  After the evaluation, so that a resumed run does not miss it.
  """

  def __init__(
    self,
    directory: str | os.PathLike[str],
    *,
    every: int = 1000,
    seconds: float = 600.0,
    keep: int = 3,
  ):
    """Says where and when.

    Args:
      directory: of the checkpoints.
      every: steps between two.
      seconds: or this much time, whichever is less.
      keep: how many of the newest stay on disk.
    """
    self._directory, self._keep = directory, keep
    self._every, self._seconds = every, seconds

  def at_start(self, run: run_lib.Run) -> None:
    """Starts the clock; removes what a run that was killed was about to."""
    processes.by_first(
      lambda: checkpoints.tidy(self._directory, keep=self._keep)
    )
    self._last, self._saved = time.monotonic(), run.step

  def after_step(self, run: run_lib.Run, report: run_lib.Report) -> None:
    """Saves, if it is time or no step follows."""
    if time.monotonic() - self._last > self._seconds and processes.is_first():
      run.asks.ask('save')
    # What was asked for before the last checkpoint is heard after it.
    is_late = (
      run.asks.heard('save') and report.step > self._saved + run.asks.lag
    )
    if run.is_last or report.step % self._every == 0 or is_late:
      run.save(self._directory, keep=self._keep)
      self._last, self._saved = time.monotonic(), report.step


def usual(
  workdir: str | os.PathLike[str],
  *,
  name: str,
  evaluators: Sequence[EvaluateFn] = (),
  intervals: Intervals | None = None,
  listens: bool = True,
) -> tuple[list[run_lib.Hook], Log]:
  """The hooks of a run that lives in a folder, in their order.

  Args:
    workdir: the folder; it exists. Checkpoints go to `checkpoints/` in it.
    name: of what is trained, for the terminal.
    evaluators: see `Evaluate`.
    intervals: how often what happens.
    listens: whether `StopOnSignal` is among them, the first.

  Returns:
    The hooks, and the one among them that logs.
  """
  intervals = intervals or Intervals()
  folder = files.expand(workdir) / 'checkpoints'
  keep = intervals.keep_checkpoints
  log = Log(workdir, name=name, every=intervals.log_every)
  return [
    *([StopOnSignal()] if listens else []),
    CheckRoom(folder, keep=keep),
    log,
    Evaluate(evaluators, log, every=intervals.eval_every),
    Save(
      folder,
      every=intervals.checkpoint_every,
      seconds=intervals.checkpoint_seconds,
      keep=keep,
    ),
  ], log


def _mean(window: Sequence[run_lib.Report]) -> dict[str, float]:
  """Means of the values of checked reports."""
  seen = [report.values for report in window if report.values is not None]
  return {
    name: float(np.mean([values[name] for values in seen])) for name in seen[0]
  }


def _losses(values: Mapping[str, float]) -> dict[str, float]:
  """What the progress line shows: the loss first, no bookkeeping."""
  hidden = ('loss', 'grad_norm', 'learning_rate', 'weight_decay')
  rest = {k: v for k, v in values.items() if k not in hidden}
  return {'loss': values['loss'], **rest}
