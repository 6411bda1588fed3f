"""Runs the units of studies, each once, whatever interrupts it.

A unit's folder has the hash of all that decides its result, so that studies
share trainings and references, and the same command goes on where it was. A
lock with host, pid and heartbeat lets several processes and machines share the
folder. A unit that fails leaves its sentence and the others go on.
"""

import contextlib
import dataclasses
import errno
import json
import pathlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from jepa_wm import exports, files, lock, signed
from jepa_wm.recipes import collecting, making, planning, probing, training
from jepa_wm.recipes.study_units import Unit
from jepa_wm.training import metrics
from jepa_wm.training import run as run_lib

_FULL = errno.ENOSPC, errno.EDQUOT, errno.EFBIG
_RESULT = 'unit.json'
_WAIT_SECONDS = 2.0

_TOLD = (
  'success_rate',
  'success_at_end',
  'random_floor',
  'expert_ceiling',
  'final_distance',
  'flops_per_plan',
)
"""What a record of planning says of a unit; nothing that a clock said."""


@dataclasses.dataclass(frozen=True)
class Result:
  """What came of a unit.

  Attributes:
    status: 'finished', 'diverged' (a result, too) or 'failed'.
    sentence: what went wrong, or a verdict on what was learnt; may be empty.
    outcomes: right (1) or wrong (0) on each pair or clip, in one order.
    metrics: numbers by name, NaN where there are none.
    curves: steps and values of what the run logged, by name.
  """

  status: str
  sentence: str = ''
  outcomes: tuple[int, ...] = ()
  metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)
  curves: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def load(unit: Unit) -> Result | None:
  """The result of a unit; None where none is there as it was written."""
  try:
    result = Result(**signed.read(unit.folder / _RESULT))
  except (OSError, ValueError, TypeError):
    return None
  is_whole = (
    isinstance(result.sentence, str)
    and isinstance(result.outcomes, list)
    and isinstance(result.metrics, dict)
    and isinstance(result.curves, dict)
  )
  return result if is_whole else None


def is_done(unit: Unit) -> bool:
  """Whether nothing is left to do; what failed is tried again."""
  result = load(unit)
  return result is not None and result.status != 'failed'


def work(
  units: Sequence[Unit],
  *,
  together: bool = False,
  say_fn: Callable[[str], None] = print,
) -> list[str]:
  """Does what is not done, one after the other.

  Units that another process is at are left to the end, and waited for.

  Args:
    units: what is asked for.
    together: whether trainings that differ in their seeds are one program.
    say_fn: told what is being done.

  Returns:
    A sentence for each unit that failed.

  Raises:
    Interrupted, KeyboardInterrupt: what is done is kept.
  """
  failures, waiting = [], list(units)
  faults: dict[str, Exception] = {}
  if together:
    left = [unit for unit in units if not is_done(unit)]
    for alike in dict.fromkeys(unit.alike for unit in left):
      mine = [unit for unit in left if unit.alike == alike]
      faults |= _train_together(mine, say_fn)
  while waiting:
    held = []
    for unit in waiting:
      if is_done(unit):
        lock.tidy(unit.folder)
        continue
      try:
        with lock.hold(unit.folder):
          if not is_done(unit):
            say_fn(f'{unit}')
            result = _result(unit, faults.get(unit.training))
            _save(unit, result)
            if result.status == 'failed':
              failures.append(f'{unit}: {result.sentence}')
      except lock.HeldError:
        held.append(unit)
    if len(held) == len(waiting):
      time.sleep(_WAIT_SECONDS)
    waiting = held
  _tidy({unit.out for unit in units})
  return failures


def _tidy(folders: Iterable[pathlib.Path]) -> None:
  """Removes the locks of trainings and collections that were killed."""
  for folder in folders:
    for path in folder.glob('runs/*'):
      lock.tidy(path)
    for path in (*folder.glob('training/*'), *folder.glob('collecting/*')):
      lock.tidy(path)
      # Somebody holds it, or has just removed it.
      with contextlib.suppress(OSError):
        path.rmdir()
        path.parent.rmdir()


def _result(unit: Unit, fault: Exception | None) -> Result:
  """Collects, trains and measures, as far as that is not done.

  Args:
    unit: what is asked for.
    fault: what its training has come to already, if it failed.

  Raises:
    HeldError: somebody else works in a folder that it needs.
    OSError: the disk is full.
  """
  try:
    if fault is not None:
      raise fault
    _collect(unit)
    _train(unit)
    outcomes, found = (_plan if unit.measure == 'plan' else _probe)(unit)
  except run_lib.DivergedError as error:
    return Result('diverged', str(error))
  except lock.HeldError:
    raise
  except (ValueError, OSError) as error:
    if getattr(error, 'errno', None) in _FULL:
      raise  # No other unit would fare better.
    return Result('failed', str(error))
  record = exports.WorldModel.from_checkpoint(unit.workdir).record
  logged = record.get('metrics', {})
  numbers = {k: x for k, x in logged.items() if isinstance(x, (int, float))}
  collapsed = logged.get('collapse/verdict', 'healthy') != 'healthy'
  return Result(
    'finished',
    logged.get('collapse/sentence', '') if collapsed else '',
    outcomes,
    {**numbers, **found, 'num_parameters': record['num_parameters']},
    _curves(unit.workdir / 'metrics.jsonl'),
  )


def _save(unit: Unit, result: Result) -> None:
  described = {
    **dataclasses.asdict(result),
    'outcomes': [int(x) for x in result.outcomes],
  }
  text = json.dumps(signed.sign(described))
  files.write_whole(unit.folder / _RESULT, text)


def _collect(unit: Unit) -> None:
  """Plays the episodes that are trained on, once for all units."""
  if unit.data_path is None or making.is_made(unit.data_path, collecting.KIND):
    return
  with lock.wait(unit.out / 'collecting' / unit.data_path.name):
    if not making.is_made(unit.data_path, collecting.KIND):
      recipe = collecting.Collecting(**unit.collect)
      collecting.collect(recipe, unit.data_path)


def _train(unit: Unit) -> None:
  """Trains to the end, where the run of another unit has not."""
  if (unit.workdir / 'export').exists():
    return
  if unit.start is not None:
    _collect(unit.start)
    _train(unit.start)
  with lock.wait(unit.out / 'training' / unit.training):
    if not (unit.workdir / 'export').exists():
      training.train(unit.config, unit.workdir)


def _train_together(
  units: Sequence[Unit], say_fn: Callable[[str], None]
) -> dict[str, Exception]:
  """Trains units that differ in their seeds, where nobody is at them.

  Returns:
    What failed, by digest of the training.
  """
  with contextlib.ExitStack() as stack:
    mine: list[Unit] = []
    for unit in {unit.training: unit for unit in units}.values():
      with contextlib.suppress(lock.HeldError):
        held = lock.hold(unit.out / 'training' / unit.training)
        stack.enter_context(held)
        if not (unit.workdir / 'export').exists():
          mine.append(unit)
    if len(mine) < 2:
      return {}
    say_fn(f'{mine[0]} and {len(mine) - 1} other seeds, in one program')
    try:
      _collect(mine[0])
      faults = training.train_together(
        [unit.config for unit in mine], [unit.workdir for unit in mine]
      )
    except (ValueError, OSError):
      # Each says so alone.
      return {}
    return {
      unit.training: fault
      for unit, fault in zip(mine, faults)
      if fault is not None
    }


def _plan(unit: Unit) -> tuple[tuple[int, ...], dict[str, float]]:
  """Successes on the pairs, and what diagnostics say."""
  asked = planning.Planning(
    **{'diagnostics': (), **unit.ask},
    checkpoint=(str(unit.workdir),),
    out=str(unit.folder / 'plan'),
  )
  outcome = planning.plan(asked, show_progress=False)
  if outcome.failures:
    raise ValueError(outcome.failures[0])
  (run,) = outcome.finished
  found = {
    name: float('nan' if run.record[name] is None else run.record[name])
    for name in _TOLD
  }
  for name, finding in run.findings.items():
    found |= {f'{name}/{k}': float(x) for k, x in finding.scalars.items()}
  return tuple(int(episode.success) for episode in run.episodes), found


def _probe(unit: Unit) -> tuple[tuple[int, ...], dict[str, float]]:
  """Right answers of a probe on held-out clips, and its scores."""
  asked = probing.Probing(
    **{'pca': False, **unit.ask},
    checkpoint=str(unit.workdir),
    out=str(unit.folder / 'probe'),
  )
  records = probing.probe(asked, show_progress=False)
  found: dict[str, float] = {}
  right: tuple[int, ...] = ()
  for record in records[::-1]:
    where = f'{record["representation"]}/{record["target"]}'
    for name, value in _scores(record['scores']).items():
      found[f'{where}/{name}'] = value
  first = records[0]['scores']
  if 'wrong' in first:
    wrong = set(first['wrong'])
    right = tuple(int(i not in wrong) for i in range(first['num_examples']))
  return right, found


def _scores(scores: Mapping[str, Any], where: str = '') -> dict[str, float]:
  """Numbers of a probe's record, by dotted name."""
  found: dict[str, float] = {}
  for name, value in scores.items():
    if isinstance(value, Mapping):
      found |= _scores(value, f'{where}{name}.')
    elif isinstance(value, (int, float)):
      found[where + name] = float(value)
  return found


def _curves(path: pathlib.Path) -> dict[str, Any]:
  """What a run logged over its steps, by name: `[[steps], [values]]`."""
  found: dict[str, tuple[list[int], list[float]]] = {}
  for record in metrics.read(path):
    for name, value in record.items():
      is_number = '/' in name and isinstance(value, (int, float))
      if is_number and np.isfinite(value):
        steps, values = found.setdefault(name, ([], []))
        steps.append(record['step'])
        values.append(float(value))
  kept = ('probe/', 'collapse/latent_std', 'held_out/', 'train/loss')
  return {k: list(x) for k, x in found.items() if k.startswith(kept)}
