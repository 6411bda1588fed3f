"""The report page: one HTML file that needs nothing else."""

import html
import string
from collections.abc import Sequence
from typing import Any

from jepa_wm.envs import worlds
from jepa_wm.evaluation import (
  charts,
  figures,
  planning_benchmark,
  rollout_error,
)

_STYLE = """
:root { color-scheme: light dark; --paper: #fff; --sheet: #f6f7f9;
  --ink: #1c1f26; --faint: #667085; --line: #e4e7ec; --plan: #4f46e5;
  --reached: #0d9488; --missed: #e8590c; }
@media (prefers-color-scheme: dark) { :root { --paper: #171a21;
  --sheet: #0f1116; --ink: #e6e8ec; --faint: #98a2b3; --line: #2b303b;
  --plan: #8b8cf8; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--sheet); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans',
  sans-serif; font-variant-numeric: tabular-nums; }
main { max-width: 1040px; margin: 0 auto; padding: 48px 20px 64px; }
.eyebrow { color: var(--faint); font-size: 14px; margin: 0; }
h1 { font-size: 34px; line-height: 1.2; letter-spacing: -0.02em;
  margin: 4px 0 6px; text-wrap: balance; }
h2 { font-size: 17px; margin: 0 0 2px; letter-spacing: -0.01em; }
p { margin: 0 0 12px; } .note { color: var(--faint); font-size: 14px;
  max-width: 72ch; }
section { background: var(--paper); border: 1px solid var(--line);
  border-radius: 10px; padding: 22px 24px; margin-top: 18px;
  overflow-x: auto; }
.two { display: grid; grid-template-columns: 1fr 1fr; gap: 18px;
  margin-top: 18px; } .two section { margin: 0; }
@media (max-width: 760px) { .two { grid-template-columns: 1fr; } }
img, svg { display: block; width: 100%; height: auto; border-radius: 6px; }
.gif { max-width: 848px; margin: 0 auto; }
table { border-collapse: collapse; width: 100%; font-size: 15px; }
th { text-align: right; font-weight: 500; color: var(--faint); font-size: 13px;
  padding: 6px 0 6px 18px; white-space: nowrap; }
td { text-align: right; padding: 7px 0 7px 18px; white-space: nowrap;
  border-top: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 20px;
  margin: 8px 0 0; font-size: 14px; } dt { color: var(--faint); }
dd { margin: 0; overflow-wrap: anywhere; }
code, pre { font: 13.5px/1.5 ui-monospace, 'SF Mono', Menlo, Consolas,
  'DejaVu Sans Mono', monospace; }
pre { margin: 8px 0 0; padding: 12px 14px; background: var(--sheet);
  border-radius: 6px; overflow-x: auto; }
summary { cursor: pointer; font-weight: 600; font-size: 17px; }
details table { margin-top: 12px; }
.good { color: var(--reached); } .bad { color: var(--missed); }
.key { display: inline-block; width: 18px; height: 3px; border-radius: 2px;
  vertical-align: 4px; margin-right: 5px; }
svg text { font: 13px system-ui, 'DejaVu Sans', sans-serif; fill: var(--ink); }
svg text.faint { fill: var(--faint); }
svg text.value { font-size: 22px; font-weight: 700; fill: var(--plan); }
.axis { stroke: var(--line); stroke-width: 6; stroke-linecap: round; }
.mark { stroke: var(--faint); stroke-width: 2; }
.interval { stroke: var(--plan); stroke-width: 6; opacity: 0.45;
  stroke-linecap: round; }
.dot { fill: var(--plan); stroke: var(--paper); stroke-width: 2.5; }
.grid { stroke: var(--line); }
.curve { fill: none; stroke: var(--plan); stroke-width: 2.5;
  stroke-linejoin: round; }
.area { fill: var(--plan); opacity: 0.1; }
.map { --missed: #e8590c; --reached: #0d9488; }
.map g line { stroke: currentColor; stroke-width: 1.8; }
.map g .aim { stroke: transparent; stroke-width: 12; }
.map circle { fill: #fff; stroke: currentColor; stroke-width: 1.8; }
.map .trail { fill: none; stroke: currentColor; stroke-width: 3; opacity: 0;
  stroke-linejoin: round; }
.map .reached { color: var(--reached); } .map .missed { color: var(--missed); }
.map marker path { fill: currentColor; }
.map.crowded g.reached { opacity: 0.55; }
.map:hover g { opacity: 0.18; } .map g:hover { opacity: 1; }
.map g:hover .trail { opacity: 0.45; }
footer { color: var(--faint); font-size: 13px; margin-top: 24px; }
"""

_PAGE = string.Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title><style>$style</style></head><body><main>
<p class="eyebrow">$eyebrow</p><h1>$headline</h1><p class="note">$subline</p>
<section>$strip</section>
<section><h2>Results</h2>$table</section>
<section><h2>Episodes</h2><p class="note">$episodes_note</p>
<img class="gif" alt="agents, plans and goals" src="$gif"></section>
<div class="two"><section><h2>Where it worked</h2><p class="note">
<span class="key" style="background:var(--reached)"></span>reached
&ensp;<span class="key" style="background:var(--missed)"></span>missed, from
start (ring) to goal. Point at an arrow to see the path taken.</p>$map</section>
<section><h2>When it worked</h2><p class="note">Share of goals reached within
so many environment steps.</p>$curve</section></div>
<section><h2>How the search went</h2><p class="note">$search_note</p>
<picture><source media="(prefers-color-scheme: dark)" srcset="$search_dark">
<img alt="cost and spread over iterations" src="$search"></picture></section>
$rollout
<div class="two"><section><h2>Protocol</h2>$protocol</section>
<section><h2>Planner and machine</h2>$setup</section></div>
<section><h2>Again</h2><p class="note">The same command gives the same episodes
on the same device.</p><pre>$command</pre></section>
<section><details><summary>All episodes</summary>$episodes</details></section>
<footer>$footer</footer></main></body></html>
""")


def build(
  result: planning_benchmark.Result,
  rows: Sequence[Sequence[str]],
  *,
  gif: bytes,
  search: bytes,
  command: str,
  errors: rollout_error.RolloutError | None = None,
) -> str:
  """Builds the page.

  Args:
    result: what to report.
    rows: the table of results as text, its heading first.
    gif: the animation of some episodes.
    search: a PNG of how the search went, for light readers.
    command: what to run to get the same result.
    errors: how far imagination drifts; left out if None.

  Returns:
    HTML with all pictures inside.
  """
  record, protocol = result.record, result.protocol
  low, high = record['interval_95']
  unit = worlds.get(protocol.environment).unit
  name = protocol.environment.replace('_', ' ').title()
  headline = f'{record["num_successes"]} of {record["num_pairs"]} goals reached'
  search_dark = figures.draw_search(result.diagnostics, figures.DARK)
  return _PAGE.substitute(
    title=html.escape(f'{name}, {protocol.name}: {headline}'),
    style=_STYLE,
    eyebrow=html.escape(f'{name} \u00b7 protocol {protocol.name}'),
    headline=html.escape(headline),
    subline=html.escape(
      f'{record["success_rate"]:.1%} (95% interval {low:.1%} to {high:.1%}) '
      f'with {record["checkpoint"] or "an unnamed model"}, '
      f'{record["num_parameters"]:,} parameters, '
      f'{record["ms_per_plan"]:,.0f} ms per plan.'
    ),
    strip=charts.score_strip(record),
    table=_table(rows[0], rows[1:]),
    episodes_note=(
      'Left the agent, right the goal it is shown. The line is where the world '
      'would take it under the whole current plan, dots one block apart; the '
      'ring is the goal. The first problems of the manifest, failures (three '
      'at most) last.'
    ),
    gif=charts.data_uri(gif, 'image/gif'),
    map=charts.episode_map(result),
    curve=charts.success_curve(result),
    search_note=(
      'The first plan of every problem: medians, with the 10th to 90th '
      'percentiles.'
    ),
    search=charts.data_uri(search, 'image/png'),
    search_dark=charts.data_uri(search_dark, 'image/png'),
    rollout='' if errors is None else _rollout(errors),
    protocol=_definitions(
      {
        'start and goal': (
          f'{protocol.goal_offset} environment steps apart on {protocol.origin}'
          f' episodes ({protocol.policy}, noise {protocol.action_noise:g}, '
          + (
            'cut at success or '
            if protocol.ends_at_success
            else 'not cut at success, '
          )
          + f'{protocol.episode_steps} steps)'
        ),
        'solved at the start': (
          'dropped' if protocol.drop_solved else 'counted in'
        ),
        'budget': f'{protocol.budget} environment steps',
        'plan': (f'{protocol.horizon} blocks of {protocol.action_block} steps'),
        'plays before replanning': f'{protocol.receding_horizon} of these',
        'success': f'{protocol.success} within the budget',
        'pairs': f'{record["num_pairs"]}, one per episode',
        'manifest': (record['manifest_sha256'] or 'none')[:16],
      }
    ),
    setup=_definitions(
      {
        **{
          key.replace('_', ' '): {True: 'yes', False: 'no'}.get(value, value)
          if isinstance(value, bool)
          else value
          for key, value in record['planner'].items()
        },
        'seed': record['seed'],
        'checkpoint': record['checkpoint'] or 'none',
        'device': record['device'],
        'seconds': f'{record["seconds"]:.0f}, compiling included',
      }
    ),
    command=html.escape(command),
    episodes=_table(
      [
        'pair',
        f'distance at start ({unit})',
        f'at the end ({unit})',
        'outcome',
      ],
      [
        [
          str(e.pair),
          f'{e.start_distance:.1f}',
          f'{e.final_distance:.1f}',
          f'reached at step {e.first_success_step}' if e.success else 'missed',
        ]
        for e in result.episodes
      ],
    ),
    footer=html.escape(
      ', '.join(f'{k} {v}' for k, v in record['versions'].items())
      + f', commit {record["commit"] or "unknown"}'
    ),
  )


def _table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  def line(tag: str, cells: Sequence[str]) -> str:
    marked = []
    for cell in cells:
      word = cell.partition(' ')[0]
      kind = {'reached': ' class="good"', 'missed': ' class="bad"'}.get(word)
      marked.append(f'<{tag}{kind or ""}>{html.escape(cell)}</{tag}>')
    return f'<tr>{"".join(marked)}</tr>'

  body = ''.join(line('td', row) for row in rows)
  return (
    f'<table><thead>{line("th", heading)}</thead><tbody>{body}</tbody></table>'
  )


def _definitions(entries: dict[str, Any]) -> str:
  items = ''.join(
    f'<dt>{html.escape(str(key))}</dt><dd>{html.escape(str(value))}</dd>'
    for key, value in entries.items()
  )
  return f'<dl>{items}</dl>'


def _rollout(errors: rollout_error.RolloutError) -> str:
  heading = ['imagined steps', *(str(step) for step in errors.steps)]
  rows = [
    ['recorded actions', *(f'{e:.1f}' for e in errors.recorded)],
    ['straight pushes', *(f'{e:.1f}' for e in errors.pushes)],
  ]
  note = (
    f'Mean distance ({html.escape(errors.unit)}) between the true state and '
    'the one read by a linear probe off the imagined latent. At step 0 the '
    'latent is an encoded frame, so that error is the probe\u2019s own.'
  )
  return (
    '<section><h2>How far imagination drifts</h2>'
    f'<p class="note">{note}</p>{_table(heading, rows)}</section>'
  )
