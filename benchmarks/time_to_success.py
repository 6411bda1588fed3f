"""Success against milliseconds per plan, for every planner at several budgets.

  python -m benchmarks.time_to_success [--quick] [--num_pairs=50]
    [--protocols=short,long] [--planners=cem,icem] [--out=FILE.png]

Plays Two Room with the checkpoint that ships, every planner on the same pairs
as every other, and prints one JSON line a planner, budget and protocol. Beside
the picture `--out` lie those lines (.jsonl) and a table of them (.md); what was
asked for is in all three.

Killed and started again it goes on: a line is not measured again that lies
there already, of the same settings and pairs, on the same device, by the same
code (a hash of the package and of its checkpoint). Lines whose
`config.load_average` exceeds what the benchmark itself causes, one per core,
come from a busy machine: their success holds, their time is worthless.
"""

import dataclasses
import json
import math
import pathlib
import sys
import time
from collections.abc import Sequence
from typing import Any

from absl import flags

import jepa_wm
from benchmarks import records, success_picture
from jepa_wm import exports, files, sharding
from jepa_wm.evaluation.planning import (
  pairs,
  planner_settings,
  planning_benchmark,
  protocol,
)

_QUICK = flags.DEFINE_bool(
  'quick', False, 'Two planners, one budget, four pairs: a smoke test.'
)
_NUM_PAIRS = flags.DEFINE_integer(
  'num_pairs', None, 'Problems to plan; 50 by default, 4 if quick.'
)
_PROTOCOLS = flags.DEFINE_list(
  'protocols', ['short', 'long'], 'What is measured.'
)
_PLANNERS = flags.DEFINE_list('planners', None, 'Who plans; all by default.')
_OUT = flags.DEFINE_string(
  'out',
  None,
  'The picture; outputs/time_to_success.png by default, or '
  'outputs/time_to_success_quick.png.',
)

_CHECKPOINT = 'two_room_small'


def _budgets(*rows: tuple[float, ...], more: str = '') -> list[dict[str, Any]]:
  """Rows of options by name: what is tried at once, how often, and `more`."""
  names = 'num_samples', 'num_iterations', *more.split()
  return [dict(zip(names, row)) for row in rows]


# Options that make the budget first. Their values were chosen on pairs 100 to
# 149 of the manifests, not on those that are measured here.
_BUDGETS: dict[str, list[dict[str, Any]]] = {
  'cem': _budgets(
    (8, 1, 2), (32, 3, 4), (100, 10, 10), (300, 30, 30), more='num_elites'
  ),
  'icem': _budgets(
    *((8, 1, 2, 1), (32, 3, 4, 2), (100, 10, 10), (300, 30, 30)),
    more='num_elites num_kept',
  ),
  'mppi': _budgets(
    *((8, 1, 0.2), (32, 3, 0.2), (100, 10, 0.2), (200, 15, 0.2)),
    more='temperature',
  ),
  'predictive_sampling': _budgets((8, 1), (32, 3), (100, 10), (200, 15)),
  'random_shooting': _budgets((8, 1), (32, 3), (100, 10), (200, 15)),
  'gradient': _budgets((1, 5), (4, 10), (16, 30)),
  'grasp': _budgets((4, 5, 5), (4, 20, 5), more='sync_period'),
}


@dataclasses.dataclass(frozen=True)
class _Run:
  """One planner with one budget on one protocol."""

  protocol: protocol.Protocol
  settings: planner_settings.PlannerSettings
  options: dict[str, Any]

  @property
  def budget(self) -> str:
    """Candidates and iterations, `'100x10'`."""
    return 'x'.join(map(str, self._budget))

  @property
  def work(self) -> int:
    """About how long it takes, in rollouts; for the time left."""
    # A gradient costs two more, compiling and the baselines some thousands.
    each = 3 if self.settings.name in ('gradient', 'grasp') else 1
    return 10_000 + self.protocol.num_plans * each * math.prod(self._budget)

  @property
  def _budget(self) -> list[int]:
    return list(self.options.values())[:2]


Results = list[tuple[_Run, dict[str, Any]]]
"""Runs and their lines."""


def _list_runs(num_pairs: int) -> list[_Run]:
  """What the flags ask for, all of it checked before anything is computed.

  Raises:
    ValueError: a protocol or planner that does not exist, options that the
      planner refuses.
  """
  names = _PLANNERS.value or list(_BUDGETS)
  if _QUICK.value:
    names = names[:2]
  if unknown := sorted(set(names) - _BUDGETS.keys()):
    raise ValueError(
      f'planners must be among {", ".join(_BUDGETS)}, which have budgets here,'
      f' got {unknown[0]!r}.'
    )
  runs = []
  for chosen in _PROTOCOLS.value:
    changed = protocol.get(chosen, num_pairs=num_pairs)
    for planner in names:
      budgets = _BUDGETS[planner]
      for options in budgets[1:2] if _QUICK.value else budgets:
        settings = planner_settings.PlannerSettings(
          planner_settings.make_planner(planner, options)
        )
        settings.dry_run(changed.horizon)
        runs.append(_Run(changed, settings, options))
  return runs


def _hash_code() -> str:
  """Hash of what decides the numbers: the package and its checkpoint."""
  root = pathlib.Path(jepa_wm.__file__).parent
  decisive = ('.py', '.json', '.safetensors')
  return files.digest(
    *(
      part
      for path in sorted(root.rglob('*'))
      if path.suffix in decisive
      for part in (str(path.relative_to(root)), path.read_bytes())
    )
  )[:16]


def _identify(run: _Run, code: str) -> dict[str, Any]:
  """What must agree for a line not to be measured again."""
  return {
    'protocol': run.protocol.to_dict(),
    'planner': run.settings.to_dict(),
    'checkpoint': _CHECKPOINT,
    'device': sharding.device_description(),
    'code': code,
  }


def _measure(
  model: exports.WorldModel, run: _Run, identity: dict[str, Any]
) -> dict[str, Any]:
  """Plans and plays, as `experiments.plan` does."""
  result = planning_benchmark.run(
    model,
    run.protocol,
    pairs.load_pairs(run.protocol),
    settings=run.settings,
    checkpoint=_CHECKPOINT,
  )
  name = f'{run.protocol.name}/{run.settings.name}/{run.budget}'
  return records.line(
    f'time_to_success/{name}',
    result.record['success_rate'],
    'success rate',
    {**result.record, **identity},
  )


def _measure_all(runs: Sequence[_Run], path: pathlib.Path) -> Results:
  """Measures what has no line in the file `path` yet, and prints all lines."""
  model = exports.WorldModel.from_checkpoint(_CHECKPOINT)
  lines: list[dict[str, Any]] = []
  if path.exists():
    lines = [json.loads(text) for text in path.read_text().splitlines()]
  code, results, missing = _hash_code(), [], []
  for run in runs:
    identity = _identify(run, code)
    same = (x for x in lines if identity.items() <= x['config'].items())
    if line := next(same, None):
      results.append((run, line))
      print(json.dumps(line), flush=True)
    else:
      missing.append((run, identity))
  _tell(f'{len(results)} of {len(runs)} were measured before.')
  began, done, left = time.perf_counter(), 0, sum(x.work for x, _ in missing)
  for run, identity in missing:
    line = _measure(model, run, identity)
    results.append((run, line))
    print(json.dumps(line), flush=True)
    lines.append(line)
    files.write_whole(
      path, ''.join(f'{json.dumps(x)}\n' for x in lines).encode()
    )
    done, left = done + run.work, left - run.work
    minutes = (time.perf_counter() - began) / 60 * left / done
    _tell(
      f'[{len(results)}/{len(runs)}] {line["name"]}: {line["value"]:.0%} at '
      f'{line["config"]["ms_per_plan"]:.1f} ms a plan; about {minutes:.0f} min '
      'left'
    )
  return sorted(results, key=lambda result: runs.index(result[0]))


def _tell(message: str) -> None:
  print(message, file=sys.stderr, flush=True)


def _panels(results: Results) -> dict[str, Results]:
  """Results by protocol."""
  panels: dict[str, Results] = {}
  for run, line in results:
    panels.setdefault(run.protocol.name, []).append((run, line))
  return panels


def _by_planner(results: Results) -> success_picture.Panels:
  """Lines by protocol, said in words, and by planner."""
  panels: success_picture.Panels = {}
  for run, line in results:
    title = (
      f'{run.protocol.name}: goal {run.protocol.goal_offset} steps ahead, '
      f'budget {run.protocol.budget}'
    )
    panel = panels.setdefault(title, {})
    panel.setdefault(run.settings.name, []).append(line)
  return panels


def _table(results: Results) -> str:
  """Lines as Markdown, a row per planner and budget."""
  panels = _panels(results)
  heading = ['planner', 'budget', 'further options']
  rules, notes = ['---'] * 3, []
  rows: dict[tuple[str, ...], list[str]] = {}
  for name, panel in panels.items():
    heading += [f'{name}: ms per plan', 'success (95 %)']
    rules += ['---:'] * 2
    for run, line in panel:
      config, (_, _, *rest) = line['config'], run.options.items()
      further = ', '.join(f'`{option}={value}`' for option, value in rest)
      low, high = config['interval_95']
      rows.setdefault((run.settings.name, run.budget, further), []).extend(
        [
          f'{config["ms_per_plan"]:.3g}',
          f'{line["value"]:.0%} ({100 * low:.0f} to {100 * high:.0f})',
        ]
      )
    notes.append(
      f'{name}: random actions {config["random_floor"]:.1%}, expert '
      f'{config["expert_ceiling"]:.1%}.'
    )
  text = [heading, rules, *([*key, *cells] for key, cells in rows.items())]
  table = '\n'.join(f'| {" | ".join(row)} |' for row in text)
  return f'{table}\n\n{" ".join(notes)} {_conditions(results[0][1])}.\n'


def _conditions(line: dict[str, Any]) -> str:
  config = line['config']
  return (
    f'{config["checkpoint"]}, {config["num_pairs"]} pairs, {line["device"]}, '
    f'{line["date"]}'
  )


def main(argv: list[str]) -> None:
  """Measures, prints and draws."""
  del argv
  sharding.use_every_core()
  num_pairs = _NUM_PAIRS.value
  if num_pairs is None:
    num_pairs = 4 if _QUICK.value else 50
  suffix = '_quick' if _QUICK.value else ''
  out = pathlib.Path(_OUT.value or f'outputs/time_to_success{suffix}.png')
  try:
    runs = _list_runs(num_pairs)
  except ValueError as error:
    raise ValueError(str(error)) from error
  out.parent.mkdir(parents=True, exist_ok=True)
  results = _measure_all(runs, out.with_suffix('.jsonl'))
  files.write_whole(out.with_suffix('.md'), _table(results).encode())
  files.write_whole(
    out, success_picture.draw(_by_planner(results), _conditions(results[0][1]))
  )
  _tell(f'{out}, {out.with_suffix(".md")}, {out.with_suffix(".jsonl")}')


if __name__ == '__main__':
  records.run(main)
