"""A run: training as an object that takes one step after another.

run = Run(learner, optimizer, batches, num_steps=1000, hooks=[...])
run.resume('runs/mine/checkpoints')
for report in run.steps():
  ...
"""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jepa_wm import sharding, units
from jepa_wm.training import asks, checkpoints
from jepa_wm.training import memory as memory_lib
from jepa_wm.training import state as state_lib
from jepa_wm.training import step as step_lib

_RUN_AHEAD = 2
"""Steps given to the device before the host waits: hides the loading."""

_CHECK_EVERY = 1000
"""Most steps that nobody has checked: what they report lies on the device."""


class BatchIterator(Protocol):
  """Endless batches whose position can be saved and set."""

  def __next__(self) -> Mapping[str, Any]:
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


@dataclasses.dataclass
class Report:
  """What a step came to.

  Attributes:
    step: updates done with it.
    metrics: scalars by name, still on the device; see `step.make_train_step`.
    values: the same on the host, once the run has checked this step.
  """

  step: int
  metrics: step_lib.Metrics
  values: dict[str, float] | None = None


class Hook:
  """What happens beside the steps of a run: a subclass says what, and when.

  The hooks of a run are called in their order.
  """

  def at_start(self, run: 'Run') -> None:
    """Before the first step of `run.steps()`, also of a resumed run."""

  def after_step(self, run: 'Run', report: Report) -> None:
    """After every step; `run.is_last` tells whether another follows."""

  def at_end(self, run: 'Run') -> None:
    """After the last step, and where the run was told to stop."""

  def close(self) -> None:
    """Whatever happened: gives back what `at_start` took."""


class Run:
  """Training, one step at a time.

  A run is a function of its config, its seed and the data on a given number of
  devices: saved after any step and resumed by another process it ends with the
  same parameters, to the bit.

  Attributes:
    learner: what is trained.
    mesh: batches are sharded over its `data` axis, the state as `memory` says.
    num_steps: updates of the whole run.
    seed: of parameters, dropout and every other draw on the device.
    identity: what makes this run this run, in JSON's types; a checkpoint made
      with another is refused, but for one of fewer steps, which goes on.
    step: updates done.
    checkpoint: the newest that this run has written or been resumed from.
    asks: what hooks of any process ask for.
  """

  def __init__(
    self,
    learner: state_lib.Learner,
    optimizer: optax.GradientTransformation,
    batches: BatchIterator,
    *,
    num_steps: int,
    seed: int = 0,
    mesh: jax.sharding.Mesh | None = None,
    memory: memory_lib.Memory | None = None,
    action_statistics: units.ActionStatistics | None = None,
    augment_fn: step_lib.AugmentFn | None = None,
    schedule_fn: step_lib.ScheduleFn | None = None,
    start: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
    hooks: Sequence[Hook] = (),
  ):
    """Prepares a run at step 0; nothing is computed yet.

    Args:
      learner: what to train.
      optimizer: how; `optimizers.AdamW(...).transformation()` makes one.
      batches: raw batches, at their start; `resume` sets their position.
      num_steps: see the attributes.
      seed: see the attributes.
      mesh: see the attributes; one of all devices if left out.
      memory: how a step fits the devices; no part of the identity.
      action_statistics: of the data, applied on the device; None where there
        are no actions, or where they come normalised.
      augment_fn: what is done to the pixels of a batch, on the device.
      schedule_fn: what to report of the optimiser's schedules.
      start: collections of the learner's variables in place of those that it
        draws: 'frozen', or all that it starts from.
      config: part of the identity.
      hooks: called at every step, in this order.
    """
    self.learner, self.num_steps, self.seed = learner, num_steps, seed
    self.mesh = sharding.make_mesh() if mesh is None else mesh
    self.asks = asks.Asks(self.mesh)
    self._memory = memory_lib.Memory() if memory is None else memory
    self.step = 0
    self.checkpoint: pathlib.Path | None = None
    self.identity = {
      **(config or {}),
      'seed': seed,
      'num_steps': num_steps,
      'action_statistics': action_statistics and action_statistics.to_dict(),
    }
    self._optimizer, self._batches, self._hooks = optimizer, batches, hooks
    self._start = start or {}
    self._is_stopping = False
    self._unchecked: list[Report] = []
    self._state: state_lib.TrainState | None = None
    self._state_fn = self._fresh_state
    self._step_settings = {
      'policy': self._memory.remat,
      'accumulate': self._memory.accumulate,
      'action_statistics': action_statistics,
      'augment_fn': augment_fn,
      'schedule_fn': schedule_fn,
    }

  def compiled(self, make_fn: Callable[..., Any]) -> Any:
    """An update of this run by `step.make_train_step` or another of `step`."""
    return make_fn(
      self.learner, self._optimizer, self.mesh, **self._step_settings
    )

  @functools.cached_property
  def _train_step(self) -> step_lib.TrainStepFn:
    make_fn = functools.partial(step_lib.make_train_step, layout=self._layout)
    train_step: step_lib.TrainStepFn = self.compiled(make_fn)
    return train_step

  @functools.cached_property
  def _layout(self) -> state_lib.Layout:
    """How the state lies on the devices."""
    how = self._memory.sharding
    return state_lib.layout(self.learner, self._optimizer, self.mesh, how)

  @property
  def state(self) -> state_lib.TrainState:
    """All that changes; drawn from the seed where nothing was resumed.

    The next step donates it: copy what is to outlive that.
    """
    if self._state is None:
      self._state = self._state_fn()
    return self._state

  @property
  def num_parameters(self) -> int:
    """Numbers that the optimiser changes."""
    params = self.state.variables['params']
    return sum(leaf.size for leaf in jax.tree.leaves(params))

  @property
  def is_last(self) -> bool:
    """Whether no step follows: all are done, or `stop` was called."""
    return self._is_stopping or self.step >= self.num_steps

  def stop(self) -> None:
    """Ends `steps` after this step; its hooks still are called."""
    self._is_stopping = True

  def steps(self) -> Iterator[Report]:
    """Takes the steps that are left, and calls the hooks.

    Leaving the loop early is allowed; another call goes on.

    Yields:
      A report of every step, after the hooks have seen it.

    Raises:
      DivergedError: a NaN or an infinity, found when a hook or the caller
        checks; names the step and the last good checkpoint.
    """
    try:
      self.begin()
      while not self.is_last:
        state, metrics = self._train_step(self.state, self.next_batch())
        report = self.took(functools.partial(_same, state), metrics)
        self.tell(report)
        yield report
      self.end()
    finally:
      self.close()

  def begin(self) -> None:
    """Starts the hooks: `steps` from the inside, as all down to `close`.

    For `together`, which takes the steps of several runs at once.
    """
    self._is_stopping = False
    for hook in self._hooks:
      hook.at_start(self)

  def next_batch(self) -> Any:
    """The batch of the next step, on the devices."""
    return sharding.shard_batch(next(self._batches), self.mesh)

  def took(
    self,
    state_fn: Callable[[], state_lib.TrainState],
    metrics: step_lib.Metrics,
  ) -> Report:
    """Notes an update, which the device may still be at.

    Args:
      state_fn: gives the state after it, if anybody asks.
      metrics: of it.

    Raises:
      DivergedError: a step that nobody has checked for long was not finite.
    """
    self._state, self._state_fn = None, state_fn
    self.step += 1
    self.asks.exchange()
    report = Report(self.step, metrics)
    self._unchecked.append(report)
    if len(self._unchecked) >= _CHECK_EVERY:
      self.check()
    elif len(self._unchecked) > _RUN_AHEAD:
      ahead = self._unchecked[-_RUN_AHEAD - 1]
      jax.block_until_ready(ahead.metrics['loss'])
    return report

  def tell(self, report: Report) -> None:
    """Calls the hooks after a step."""
    for hook in self._hooks:
      hook.after_step(self, report)

  def end(self) -> None:
    """Checks the last steps and calls the hooks at the end."""
    self.check()
    for hook in self._hooks:
      hook.at_end(self)

  def close(self) -> None:
    """Closes the hooks."""
    for hook in reversed(self._hooks):
      hook.close()

  def check(self) -> None:
    """Waits for the steps so far, and sets the `values` of their reports.

    Raises:
      DivergedError: one of them is not finite.
    """
    reports, self._unchecked = self._unchecked, []
    fetched = jax.device_get([report.metrics for report in reports])
    for report, values in zip(reports, fetched):
      if not values.pop('finite'):
        raise DivergedError(self._divergence(report.step, values))
      report.values = {name: float(value) for name, value in values.items()}

  def save(
    self, directory: str | os.PathLike[str], *, keep: int = 3
  ) -> pathlib.Path:
    """Writes a checkpoint: the state and the position in the data.

    Args:
      directory: of all checkpoints of the run; made where missing.
      keep: how many of the newest stay on disk.

    Returns:
      Its folder.

    Raises:
      DivergedError: a step was not finite; nothing is written.
      CheckpointError: it could not be written.
    """
    # Before anything is kept: a state with a NaN must not be saved.
    self.check()
    record = {**self.identity, 'iterator': self._batches.get_state()}
    path = checkpoints.save(directory, self.state, record, keep=keep)
    self.checkpoint = path
    return path

  def resume(self, directory: str | os.PathLike[str]) -> bool:
    """Goes on from the newest checkpoint, if there is one.

    Args:
      directory: where `save` wrote it; need not exist.

    Returns:
      Whether there was one.

    Raises:
      CheckpointError: it is damaged, or of another run.
    """
    path = checkpoints.newest(directory)
    if path is None:
      return False
    record = checkpoints.read_record(path)
    checkpoints.check_same_run(path, record, self.identity)
    like = state_lib.describe(
      self.learner, self._optimizer, sharding=self._layout
    )
    self._state = checkpoints.restore(path, like)
    self._batches.set_state(record['iterator'])
    self.step, self.checkpoint = int(self._state.step), path
    return True

  def _fresh_state(self) -> state_lib.TrainState:
    """The state at step 0."""
    layout, key = self._layout, jax.random.key(self.seed)
    state = state_lib.create(
      self.learner, self._optimizer, key, sharding=layout
    )
    if not self._start:
      return state
    # Copies: the state is donated. Each lies where that it replaces does.
    given = {
      name: jax.tree.map(
        lambda x, drawn: sharding.put(jnp.array(x), drawn.sharding),
        collection,
        state.variables[name],
      )
      for name, collection in self._start.items()
    }
    state = dataclasses.replace(state, variables={**state.variables, **given})
    if 'params' not in self._start:
      return state
    where = jax.tree.map(lambda x: x.sharding, state.opt_state)
    init = jax.jit(self._optimizer.init, out_shardings=where)
    opt_state = init(state.variables['params'])
    return dataclasses.replace(state, opt_state=opt_state)

  def _divergence(self, step: int, values: Mapping[str, Any]) -> str:
    bad = [name for name, value in values.items() if not np.isfinite(value)]
    advice = 'No checkpoint was written before it'
    if self.checkpoint is not None:
      advice = f'The last good checkpoint is {self.checkpoint}'
    return (
      f'Training diverged at step {step}: {", ".join(sorted(bad))} not '
      f'finite. {advice}; try a lower learning rate, a longer warm-up or '
      'float32, in an empty workdir.'
    )


def _same(state: state_lib.TrainState) -> state_lib.TrainState:
  return state
