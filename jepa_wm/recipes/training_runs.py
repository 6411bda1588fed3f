"""Runs that live in a folder: how they are made, and what is kept of them."""

import datetime
import pathlib
from collections.abc import Sequence
from typing import Any

from jepa_wm import processes, provenance, sharding, shares
from jepa_wm.training import hooks, metrics
from jepa_wm.training import run as run_lib


def make_run(
  plan: Any,
  workdir: pathlib.Path,
  learner: Any,
  batches: Any,
  evaluate_fn: hooks.EvaluateFn,
  *,
  listens: bool = True,
  first_hooks: Sequence[run_lib.Hook] = (),
  **given: Any,
) -> tuple[run_lib.Run, hooks.Log]:
  """A run in a folder, at the step where it goes on.

  Args:
    plan: holds what `read_shared` reads.
    workdir: folder of the run.
    learner: what learns.
    batches: what it learns from.
    evaluate_fn: what is logged of it now and then.
    listens: whether it stops at signals.
    first_hooks: what happens before it is logged, evaluated and saved.
    **given: the rest of what `run.Run` takes.

  Returns:
    The run, and the hook that logs.
  """
  beside, log = hooks.usual(
    workdir,
    name=learner.config.name,
    evaluators=[evaluate_fn],
    intervals=plan.intervals,
    listens=listens,
  )
  run = run_lib.Run(
    learner,
    plan.optimizer.transformation(),
    batches,
    num_steps=plan.optimizer.num_steps,
    seed=plan.seed,
    schedule_fn=plan.optimizer.metrics,
    hooks=[*first_hooks, *beside],
    **given,
  )
  run.resume(workdir / 'checkpoints')
  return run, log


def learnt(run: run_lib.Run, log: hooks.Log) -> tuple[Any, dict[str, Any]]:
  """Variables for inference, and what an export says of their training.

  Args:
    run: all of whose steps are taken.
    log: of the run; the first of several processes alone has one.
  """
  held = shares.brought_home(run.state.variables)
  variables = sharding.whole(run.learner.for_inference(held))
  if not processes.is_first():
    return variables, {}
  return variables, described(run.num_parameters, run.identity, log.metrics)


def described(
  num_parameters: int, identity: Any, log: metrics.MetricsLog
) -> dict[str, Any]:
  """What an export says of how it came to be.

  Args:
    num_parameters: of what was learnt.
    identity: its config.
    log: of the run.
  """
  return {
    'num_parameters': num_parameters,
    'config': identity,
    'seconds': round(log.seconds, 1),
    'metrics': log.newest(),
    'device': sharding.device_description(),
    'date': datetime.date.today().isoformat(),
    'versions': provenance.versions(),
    'commit': provenance.commit(),
  }
