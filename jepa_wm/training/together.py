"""Several runs in one program: small models that leave a device idle alone.

The runs differ in their seeds, and so in parameters, batches and draws. Each
keeps its folder, hooks and checkpoints, and comes out as if it had been alone,
but for the order in which floats are added.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jepa_wm import sharding
from jepa_wm.training import hooks, step
from jepa_wm.training import run as run_lib
from jepa_wm.training import state as state_lib

FAULTS = (run_lib.DivergedError, ValueError, OSError)
"""What ends one run and not the others."""


def take_steps(runs: Sequence[run_lib.Run]) -> list[Exception | None]:
  """Takes the steps that are left of several runs, all at once.

  A run that ends, or fails, leaves the program; the others go on. They may be
  at different steps.

  Args:
    runs: alike but for their seeds; none has a `hooks.StopOnSignal`.

  Returns:
    For each run what made it fail, None where it took all its steps.

  Raises:
    Interrupted: SIGTERM or Ctrl-C came; every run has saved.
  """
  faults: list[Exception | None] = [None] * len(runs)
  joint_step = runs[0].compiled(step.make_joint_step)
  stop = hooks.StopOnSignal()
  try:
    stop.at_start(runs[0])
    for number, run in enumerate(runs):
      faults[number] = _fault(run.begin)
    while going := [
      number
      for number, run in enumerate(runs)
      if faults[number] is None and not run.is_last
    ]:
      found = _until_one_ends([runs[x] for x in going], joint_step, stop)
      for number, fault in zip(going, found):
        faults[number] = fault
    for number, run in enumerate(runs):
      faults[number] = faults[number] or _fault(run.end)
    stop.at_end(min(runs, key=lambda run: run.step))
  finally:
    stop.close()
    for run in runs:
      run.close()
  return faults


def _until_one_ends(
  runs: Sequence[run_lib.Run], joint_step: step.JointStepFn, stop: run_lib.Hook
) -> list[Exception | None]:
  """Takes steps of all `runs` until one of them ends or fails."""
  faults: list[Exception | None] = [None] * len(runs)
  mesh = runs[0].mesh
  states = _stacked(mesh)([run.state for run in runs])
  while not any(faults) and not any(run.is_last for run in runs):
    batches = [run.next_batch() for run in runs]
    states, metrics = joint_step(states, batches)
    for number, run in enumerate(runs):
      # Asked for by hooks alone, and below: before the next step donates it.
      state_fn = functools.partial(_row(mesh), states, number)
      faults[number] = _fault(
        functools.partial(_took, run, state_fn, metrics[number], stop)
      )
  for run in runs:
    _ = run.state
  return faults


def _took(
  run: run_lib.Run, state_fn: Any, metrics: step.Metrics, stop: run_lib.Hook
) -> None:
  report = run.took(state_fn, metrics)
  stop.after_step(run, report)
  run.tell(report)


def _fault(do: Any) -> Exception | None:
  try:
    do()
  except FAULTS as error:
    return error
  return None


@functools.cache
def _stacked(mesh: jax.sharding.Mesh) -> Any:
  """States to one whose leaves have a leading axis."""

  def stacked(states: list[state_lib.TrainState]) -> state_lib.TrainState:
    whole: state_lib.TrainState = jax.tree.map(
      lambda *leaves: jnp.stack(leaves), *states
    )
    return whole

  return jax.jit(stacked, out_shardings=sharding.replicated(mesh))


@functools.cache
def _row(mesh: jax.sharding.Mesh) -> Any:
  """One of the states that are stacked."""

  def row(states: state_lib.TrainState, number: int) -> state_lib.TrainState:
    found: state_lib.TrainState = jax.tree.map(lambda x: x[number], states)
    return found

  return jax.jit(row, out_shardings=sharding.replicated(mesh))
