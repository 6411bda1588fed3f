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
import datetime
import hashlib
import io
import json
import math
import os
import pathlib
import sys
import time
from collections.abc import Sequence
from typing import Any

import matplotlib.axes
import matplotlib.figure
import matplotlib.ticker
from absl import app, flags

import jepa_wm
from jepa_wm import planning, sharding, world_model
from jepa_wm.evaluation import (
  figures,
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
  'protocols', list(protocol.PROTOCOLS), 'What is measured.'
)
_PLANNERS = flags.DEFINE_list('planners', None, 'Who plans; all by default.')
_OUT = flags.DEFINE_string(
  'out',
  None,
  'The picture; outputs/time_to_success.png by default, or '
  'outputs/time_to_success_quick.png.',
)

_CHECKPOINT = 'two_room_small'

# Options that make the budget first: what is tried at once, and how often.
# Their values were chosen on pairs 100 to 149 of the manifests, not on those
# that are measured here.
_BUDGETS: dict[str, list[dict[str, Any]]] = {
  'cem': [
    {'num_samples': 8, 'num_iterations': 1, 'num_elites': 2},
    {'num_samples': 32, 'num_iterations': 3, 'num_elites': 4},
    {'num_samples': 100, 'num_iterations': 10, 'num_elites': 10},
    {'num_samples': 300, 'num_iterations': 30, 'num_elites': 30},
  ],
  'icem': [
    {'num_samples': 8, 'num_iterations': 1, 'num_elites': 2, 'num_kept': 1},
    {'num_samples': 32, 'num_iterations': 3, 'num_elites': 4, 'num_kept': 2},
    {'num_samples': 100, 'num_iterations': 10, 'num_elites': 10},
    {'num_samples': 300, 'num_iterations': 30, 'num_elites': 30},
  ],
  'mppi': [
    {'num_samples': 8, 'num_iterations': 1, 'temperature': 0.2},
    {'num_samples': 32, 'num_iterations': 3, 'temperature': 0.2},
    {'num_samples': 100, 'num_iterations': 10, 'temperature': 0.2},
    {'num_samples': 200, 'num_iterations': 15, 'temperature': 0.2},
  ],
  'predictive_sampling': [
    {'num_samples': 8, 'num_iterations': 1},
    {'num_samples': 32, 'num_iterations': 3},
    {'num_samples': 100, 'num_iterations': 10},
    {'num_samples': 200, 'num_iterations': 15},
  ],
  'random_shooting': [
    {'num_samples': 8, 'num_iterations': 1},
    {'num_samples': 32, 'num_iterations': 3},
    {'num_samples': 100, 'num_iterations': 10},
    {'num_samples': 200, 'num_iterations': 15},
  ],
  'gradient': [
    {'num_restarts': 1, 'num_iterations': 5},
    {'num_restarts': 4, 'num_iterations': 10},
    {'num_restarts': 16, 'num_iterations': 30},
  ],
  'grasp': [
    {'num_restarts': 4, 'num_iterations': 5, 'sync_period': 5},
    {'num_restarts': 4, 'num_iterations': 20, 'sync_period': 5},
  ],
}

# Okabe and Ito's colours, which the colour-blind can tell apart.
_MARKS = {
  'cem': ('#0072b2', 'o'),
  'icem': ('#d55e00', 's'),
  'mppi': ('#009e73', '^'),
  'predictive_sampling': ('#cc79a7', 'D'),
  'random_shooting': ('#8c8c8c', 'X'),
  'gradient': ('#e69f00', 'v'),
  'grasp': ('#56b4e9', 'P'),
}


@dataclasses.dataclass(frozen=True)
class _Run:
  """One planner with one budget on one protocol."""

  protocol: protocol.Protocol
  settings: planner_settings.PlannerSettings

  @property
  def budget(self) -> str:
    """Candidates and iterations, `'100x10'`."""
    candidates, iterations, *_ = self.settings.options.values()
    return f'{candidates}x{iterations}'

  @property
  def name(self) -> str:
    planner = self.settings.planner
    return f'time_to_success/{self.protocol.name}/{planner}/{self.budget}'

  @property
  def work(self) -> int:
    """About how long it takes, in steps of the model; for the time left."""
    candidates, iterations, *_ = self.settings.options.values()
    # A gradient costs two rollouts more; compiling, some thousands of them.
    passes = 3 if 'num_restarts' in self.settings.options else 1
    return 10_000 + self.protocol.num_plans * candidates * iterations * passes


def _list_runs(num_pairs: int) -> list[_Run]:
  """What the flags ask for, every budget checked before anything is computed.

  Raises:
    ValueError: a protocol or planner that does not exist, options that the
      planner refuses.
  """
  names = list(planning.PLANNERS)
  if _QUICK.value:
    names = names[:2]
  runs = []
  for chosen in _PROTOCOLS.value:
    changed = protocol.get(chosen, num_pairs=num_pairs)
    for planner in _PLANNERS.value or names:
      if planner not in _BUDGETS:
        raise ValueError(
          f'planners must be among {", ".join(_BUDGETS)}, which have budgets'
          f' here, got {planner!r}.'
        )
      budgets = _BUDGETS[planner]
      for options in budgets[1:2] if _QUICK.value else budgets:
        settings = planner_settings.PlannerSettings(planner, options)
        settings.dry_run(changed.horizon)
        runs.append(_Run(changed, settings))
  return runs


def _identity(run: _Run, code: str) -> dict[str, Any]:
  """What must agree for a line not to be measured again."""
  return {
    'protocol': run.protocol.to_dict(),
    'num_pairs': run.protocol.num_pairs,
    'planner': run.settings.to_dict(),
    'checkpoint': _CHECKPOINT,
    'code': code,
  }


def _measure(
  model: world_model.WorldModel, run: _Run, identity: dict[str, Any]
) -> dict[str, Any]:
  """Plans and plays, as `experiments.plan` does."""
  result = planning_benchmark.run(
    model,
    run.protocol,
    pairs.load_pairs(run.protocol),
    settings=run.settings,
    checkpoint=_CHECKPOINT,
  )
  record = result.record
  kept = (
    'ms_per_plan',
    'num_successes',
    'interval_95',
    'random_floor',
    'expert_ceiling',
    'manifest_sha256',
    'seed',
    'commit',
    'seconds',
  )
  return {
    'name': run.name,
    'value': record['success_rate'],
    'unit': 'success rate',
    'peer': None,
    'ratio': None,
    'config': {
      **identity,
      **{key: record[key] for key in kept},
      'load_average': round(os.getloadavg()[0], 2),
    },
    'device': record['device'],
    'date': datetime.date.today().isoformat(),
  }


def _code() -> str:
  """Hash of what decides the numbers: the package and its checkpoint."""
  root = pathlib.Path(jepa_wm.__file__).parent
  digest = hashlib.sha256()
  for path in sorted(root.rglob('*')):
    if path.suffix in ('.py', '.json', '.safetensors'):
      digest.update(str(path.relative_to(root)).encode())
      digest.update(path.read_bytes())
  return digest.hexdigest()[:16]


def _read(path: pathlib.Path) -> list[dict[str, Any]]:
  """Lines of earlier runs."""
  if not path.exists():
    return []
  return [json.loads(line) for line in path.read_text().splitlines()]


def _write(path: pathlib.Path, content: bytes) -> None:
  """Writes a file: beside, then renamed, so never half."""
  beside = path.with_name(f'.{path.name}.writing')
  beside.write_bytes(content)
  os.replace(beside, path)


def _find(
  lines: Sequence[dict[str, Any]], identity: dict[str, Any]
) -> dict[str, Any] | None:
  """The line that was measured under the same conditions, if there is one."""
  device = sharding.device_description()
  # As it reads back from a file: tuples are lists there.
  identity = json.loads(json.dumps(identity))
  for line in lines:
    same = identity.items() <= line['config'].items()
    if same and line['device'] == device:
      return line
  return None


def _tell(message: str) -> None:
  print(message, file=sys.stderr, flush=True)


def _results(
  runs: Sequence[_Run], path: pathlib.Path
) -> list[tuple[_Run, dict[str, Any]]]:
  """Every run with its line, measured or found in the file `path`."""
  model = world_model.WorldModel.from_checkpoint(_CHECKPOINT)
  lines, code = _read(path), _code()
  identities = [_identity(run, code) for run in runs]
  found = [_find(lines, identity) for identity in identities]
  left = sum(run.work for run, line in zip(runs, found) if line is None)
  began, done = time.perf_counter(), 0
  results = []
  for number, (run, identity) in enumerate(zip(runs, identities), start=1):
    place, line = f'[{number}/{len(runs)}] {run.name}', found[number - 1]
    if line is None:
      _tell(f'{place} ...')
      line = _measure(model, run, identity)
      lines.append(line)
      _write(path, ''.join(json.dumps(x) + '\n' for x in lines).encode())
      done, left = done + run.work, left - run.work
      minutes = (time.perf_counter() - began) / 60 * left / done
      note = f'about {minutes:.0f} min left'
    else:
      note = 'measured before'
    _tell(
      f'{place}: {line["value"]:.0%} at {line["config"]["ms_per_plan"]:.1f} ms'
      f' a plan; {note}'
    )
    print(json.dumps(line), flush=True)
    results.append((run, line))
  return results


def _success(line: dict[str, Any]) -> str:
  low, high = line['config']['interval_95']
  return f'{line["value"]:.0%} ({100 * low:.0f} to {100 * high:.0f})'


def _table(results: Sequence[tuple[_Run, dict[str, Any]]]) -> str:
  """Lines as Markdown, a row per planner and budget."""
  names = list(dict.fromkeys(run.protocol.name for run, _ in results))
  rows: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
  further: dict[tuple[str, str], str] = {}
  for run, line in results:
    key = run.settings.planner, run.budget
    rows.setdefault(key, {})[run.protocol.name] = line
    options = list(run.settings.options.items())[2:]
    further[key] = ', '.join(f'`{name}={value}`' for name, value in options)
  heading = ['planner', 'budget', 'further options']
  for name in names:
    heading += [f'{name}: ms per plan', f'{name}: success (95 %)']
  text = [heading, ['---'] * 3 + ['---:'] * (2 * len(names))]
  for (planner, budget), by_protocol in rows.items():
    row = [f'`{planner}`', budget, further[planner, budget]]
    for name in names:
      line = by_protocol[name]
      row += [f'{line["config"]["ms_per_plan"]:.1f}', _success(line)]
    text.append(row)
  notes = []
  for name in names:
    line = next(line for run, line in results if run.protocol.name == name)
    config = line['config']
    notes.append(
      f'{name}: random actions {config["random_floor"]:.1%}, expert '
      f'{config["expert_ceiling"]:.1%}, {config["num_pairs"]} pairs.'
    )
  _, line = results[0]
  notes.append(f'`{_CHECKPOINT}`, {line["device"]}, {line["date"]}.')
  table = '\n'.join(f'| {" | ".join(row)} |' for row in text)
  return f'{table}\n\n{" ".join(notes)}\n'


def _draw(results: Sequence[tuple[_Run, dict[str, Any]]]) -> bytes:
  """Draws a panel per protocol; a PNG."""
  theme = figures.LIGHT
  names = list(dict.fromkeys(run.protocol.name for run, _ in results))
  width = 1.6 + 5.2 * len(names)
  # Not pyplot: it keeps global state and asks for a display.
  figure = matplotlib.figure.Figure(
    figsize=(width, 5.2), dpi=160, facecolor=theme.background
  )
  panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
  for axes, name in zip(panels, names):
    of_panel = [pair for pair in results if pair[0].protocol.name == name]
    _draw_panel(axes, of_panel)
  panels[0].set_ylabel('success', color=theme.faint, fontsize=10)
  handles, labels = panels[0].get_legend_handles_labels()
  figure.legend(
    handles,
    labels,
    loc='lower center',
    ncols=min(len(labels), math.ceil(width / 1.7)),
    frameon=False,
    labelcolor=theme.ink,
    fontsize=9.5,
    columnspacing=1.6,
    handletextpad=0.4,
  )
  _, line = results[0]
  config = line['config']
  figure.text(
    0.995,
    0.99,
    f'{config["checkpoint"]}, {config["num_pairs"]} pairs, {line["device"]}, '
    f'{line["date"]}',
    ha='right',
    va='top',
    color=theme.faint,
    fontsize=8,
  )
  figure.subplots_adjust(
    left=0.75 / width, right=1 - 0.2 / width, top=0.87, bottom=0.23, wspace=0.07
  )
  stream = io.BytesIO()
  figure.savefig(stream, format='png', facecolor=theme.background)
  return stream.getvalue()


def _draw_panel(
  axes: matplotlib.axes.Axes, results: Sequence[tuple[_Run, dict[str, Any]]]
) -> None:
  """Draws the results of one protocol."""
  theme = figures.LIGHT
  planners: dict[str, list[dict[str, Any]]] = {}
  for run, line in results:
    planners.setdefault(run.settings.planner, []).append(line)
  for planner, lines in planners.items():
    lines = sorted(lines, key=lambda line: line['config']['ms_per_plan'])
    milliseconds = [line['config']['ms_per_plan'] for line in lines]
    rates = [line['value'] for line in lines]
    ends = [line['config']['interval_95'] for line in lines]
    lower = [rate - low for rate, (low, _) in zip(rates, ends)]
    upper = [high - rate for rate, (_, high) in zip(rates, ends)]
    color, marker = _MARKS[planner]
    axes.errorbar(
      milliseconds,
      rates,
      # A rate of 0 or 1 may lie beyond its interval by rounding.
      yerr=[[max(0.0, x) for x in side] for side in (lower, upper)],
      fmt='none',
      ecolor=color,
      elinewidth=1.0,
      alpha=0.45,
    )
    axes.plot(
      milliseconds,
      rates,
      color=color,
      marker=marker,
      markersize=7,
      markeredgecolor=theme.background,
      markeredgewidth=0.8,
      linewidth=1.8,
      label=planner.replace('_', ' '),
    )
  config, problem = results[0][1]['config'], results[0][0].protocol
  for rate, label in (
    (config['expert_ceiling'], 'expert'),
    (config['random_floor'], 'random actions'),
  ):
    axes.axhline(rate, color=theme.faint, linestyle='--', linewidth=1, zorder=0)
    axes.annotate(
      f'{label} {rate:.0%}',
      (1.0, rate),
      xycoords=('axes fraction', 'data'),
      xytext=(-3, 4),
      textcoords='offset points',
      ha='right',
      color=theme.faint,
      fontsize=9,
    )
  axes.set_xscale('log')
  axes.set_ylim(0, 1.08)
  axes.xaxis.set_major_formatter('{x:g}')
  axes.xaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
  axes.yaxis.set_major_locator(matplotlib.ticker.MultipleLocator(0.2))
  axes.yaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1.0))
  axes.set_xlabel('milliseconds per plan', color=theme.faint, fontsize=10)
  axes.set_title(
    f'{problem.name}: goal {problem.goal_offset} steps ahead, '
    f'budget {problem.budget}',
    loc='left',
    color=theme.ink,
    fontsize=11,
    fontweight='bold',
    pad=10,
  )
  axes.set_facecolor(theme.background)
  axes.grid(color=theme.grid, linewidth=0.8)
  axes.set_axisbelow(True)
  axes.tick_params(which='both', colors=theme.faint, labelsize=9, length=0)
  for side, spine in axes.spines.items():
    spine.set_visible(side == 'bottom')
    spine.set_color(theme.grid)


def main(argv: list[str]) -> None:
  """Measures, prints and draws."""
  if len(argv) > 1:
    raise app.UsageError(f'unknown arguments {argv[1:]}.')
  sharding.use_every_core()
  num_pairs = _NUM_PAIRS.value or (4 if _QUICK.value else 50)
  suffix = '_quick' if _QUICK.value else ''
  out = pathlib.Path(_OUT.value or f'outputs/time_to_success{suffix}.png')
  try:
    runs = _list_runs(num_pairs)
  except ValueError as error:
    raise app.UsageError(str(error)) from error
  out.parent.mkdir(parents=True, exist_ok=True)
  results = _results(runs, out.with_suffix('.jsonl'))
  _write(out.with_suffix('.md'), _table(results).encode())
  _write(out, _draw(results))
  _tell(f'{out}, {out.with_suffix(".md")}, {out.with_suffix(".jsonl")}')


if __name__ == '__main__':
  app.run(main)
