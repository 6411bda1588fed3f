"""What rounds of play came to: success after each, as numbers and a picture."""

import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jepa_wm import files, planning, rl
from jepa_wm.envs import stage as stage_lib
from jepa_wm.evaluation.planning import (
  pairs,
  planner_settings,
  planning_benchmark,
  programs,
  protocol,
)
from jepa_wm.evaluation.report import learning_curve
from jepa_wm.training import metrics

_GROUP = 'real/'


def show(
  records: Sequence[metrics.Record], workdir: pathlib.Path
) -> list[dict[str, Any]]:
  """Writes `rounds.json` and `success.png` from the log of a run.

  Args:
    records: of the run, the oldest first; those without success are skipped.
    workdir: its folder.

  Returns:
    A row a round: `step`, `success`, `low`, `high`, `floor`, `ceiling`,
    `episodes`, `environment_steps`.
  """
  rows = [
    {
      'step': record['step'],
      **{
        name.removeprefix(_GROUP): value
        for name, value in record.items()
        if name.startswith(_GROUP)
      },
    }
    for record in records
    if f'{_GROUP}success' in record
  ]
  files.write_whole(workdir / 'rounds.json', json.dumps(rows, indent=2) + '\n')
  if rows:
    files.write_whole(workdir / 'success.png', learning_curve.draw(rows))
  return rows


def table(rows: Sequence[Mapping[str, Any]]) -> str:
  """Success against environment steps, for a terminal.

  Args:
    rows: of `show`.
  """
  lines = ['environment steps  episodes  success            random']
  for row in rows:
    low, high = 100 * row['low'], 100 * row['high']
    rate = f'{100 * row["success"]:.0f} % ({low:.0f} to {high:.0f})'
    lines.append(
      f'{row["environment_steps"]:17.0f}  {row["episodes"]:8.0f}  {rate:17}  '
      f'{100 * row["floor"]:.0f} %'
    )
  return '\n'.join(lines)


def evaluator(
  act: rl.Act,
  planner: planning.Planner[Any],
  chosen: protocol.Protocol,
  problems: pairs.Pairs,
  stage: stage_lib.Stage,
  workdir: pathlib.Path,
) -> Callable[[Any, Sequence[metrics.Record]], Mapping[str, float | str]]:
  """Plans the problems of a protocol after every round, the same always.

  What it finds is shown at once, see `show`.

  Args:
    act: who plays between the steps.
    planner: who plans.
    chosen: the protocol.
    problems: of it.
    stage: of the world.
    workdir: folder of the run.

  Returns:
    A `training.hooks.EvaluateFn`.
  """
  compiled = programs.Programs()
  baselines: list[planning_benchmark.Baseline] = []

  def evaluate(
    variables: Any, records: Sequence[metrics.Record]
  ) -> dict[str, float | str]:
    if not baselines:
      baselines.append(
        planning_benchmark.measure_baseline(chosen, problems, stage=stage)
      )
    result = planning_benchmark.run(
      act.model(variables),
      chosen,
      problems,
      settings=planner_settings.PlannerSettings(planner),
      stage=stage,
      baseline=baselines[0],
      programs=compiled,
    )
    low, high = result.record['interval_95']
    found: dict[str, float | str] = {
      'real/success': result.record['success_rate'],
      'real/low': low,
      'real/high': high,
      'real/floor': baselines[0].floor,
      'real/ceiling': baselines[0].ceiling,
      'real/episodes': float(act.num_learnt),
      'real/environment_steps': float(act.num_learnt * act.num_steps),
    }
    if act.rounds:
      found['acting/reached'] = act.rounds[-1].reached
    show([*records, {'step': act.step, **found}], workdir)
    return found

  return evaluate
