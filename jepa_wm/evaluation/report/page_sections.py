"""The parts that the report page is made of."""

import html
from collections.abc import Sequence
from typing import Any

from jepa_wm.envs import worlds
from jepa_wm.evaluation.report import charts, page_findings
from jepa_wm.evaluation.report.page_tables import decimals, definitions, table
from jepa_wm.evaluation.statistics import comparison, runs


def details(run: runs.Run) -> str:
  """All about one run but its score."""
  pictures = run.pictures
  search = charts.data_uri(pictures['search.png'], 'image/png')
  dark = charts.data_uri(pictures['search_dark.png'], 'image/png')
  where = ''
  if 'map.svg' in pictures:
    where = (
      '<section><h2>Where it worked</h2><p class="note">'
      '<span class="key" style="background:var(--reached)"></span>reached'
      '&ensp;<span class="key" style="background:var(--missed)"></span>missed, '
      'from start (ring) to goal. Point at an arrow to see the path taken, and '
      'a cross where the agent was moved in the middle, if it was.</p>'
      f'{pictures["map.svg"].decode()}</section>'
    )
  return (
    f'{_videos(run)}{_imagination(run)}<div class="two">{where}'
    '<section><h2>When it worked</h2><p class="note">Share of goals reached '
    'within so many environment steps.</p>'
    f'{pictures["curve.svg"].decode()}</section></div>'
    '<section><h2>How the search went</h2><p class="note">The first plan of '
    'every problem: medians, with the 10th to 90th percentiles.</p>'
    '<picture><source media="(prefers-color-scheme: dark)" '
    f'srcset="{dark}"><img alt="cost and spread over iterations" '
    f'src="{search}"></picture></section>'
    f'{page_findings.sections(run.findings)}'
    f'<div class="two"><section><h2>Protocol</h2>{_protocol(run.record)}'
    f'</section><section><h2>Planner and machine</h2>{_setup(run.record)}'
    '</section></div><section><details><summary>All episodes</summary>'
    f'{_episodes(run)}</details></section>'
  )


def folded(run: runs.Run, among: Sequence[runs.Run]) -> str:
  """One run among others, to be opened."""
  everyone = [comparison.summarize([other]) for other in among]
  label = comparison.name(comparison.summarize([run]), everyone)
  if len({other.record['seed'] for other in among}) > 1:
    label += f', seed {run.record["seed"]}'
  record = run.record
  return (
    f'<details class="run"><summary>{html.escape(label)}: '
    f'{record["num_successes"]} of {record["num_pairs"]}</summary>'
    f'<section>{charts.score_strip(record)}</section>{details(run)}</details>'
  )


def notes(summaries: Sequence[comparison.Summary]) -> str:
  """What must be known to read the table."""
  said = []
  if any(len(summary.rates) > 1 for summary in summaries):
    said.append(
      'Intervals over several seeds take all plays as independent; plays of '
      'one pair are not wholly so, and the truth is somewhat wider.'
    )
  if any(summary.num_invalid for summary in summaries):
    said.append(
      'Pairs are left out where a shift puts a wall over their start or goal.'
    )
  return ''.join(f'<p class="note">{html.escape(x)}</p>' for x in said)


def progress(summaries: Sequence[comparison.Summary]) -> str:
  """How soon goals were reached, a row a run."""
  moments: list[str] = sorted(
    {moment for summary in summaries for moment in summary.success_at}, key=int
  )
  rows = [
    [
      comparison.name(summary, summaries),
      *(
        f'{summary.success_at[moment]:.0%}'
        if moment in summary.success_at
        else ''
        for moment in moments
      ),
      '' if summary.steps is None else f'{summary.steps:.0f}',
    ]
    for summary in summaries
  ]
  return (
    '<section><h2>How soon</h2><p class="note">Share of goals reached within '
    'so many environment steps, and the median of those that were.</p>'
    f'{table(["", *moments, "median"], rows)}</section>'
  )


def differences(comparisons: Sequence[comparison.Comparison]) -> str:
  """Runs compared on the same pairs, a row a couple."""
  everyone = [c.first for c in comparisons] + [c.second for c in comparisons]
  rows = []
  for c in comparisons:
    low, high = c.interval
    verdict = 'undecided'
    if c.p_value < 0.05:
      verdict = 'better' if c.difference > 0 else 'worse'
    rows.append(
      [
        comparison.name(c.first, everyone),
        comparison.name(c.second, everyone),
        str(c.num_pairs),
        str(c.first_only),
        str(c.second_only),
        f'{100 * c.difference:+.1f}',
        f'{100 * low:+.1f} to {100 * high:+.1f}',
        f'{c.p_value:.3f}' if c.p_value >= 0.001 else '< 0.001',
        verdict,
      ]
    )
  heading = [
    'first',
    'second',
    'pairs',
    'first alone',
    'second alone',
    'difference, points',
    '95% interval',
    'p',
    'the first is',
  ]
  return (
    '<section><h2>On the same pairs</h2><p class="note">Plays that one of two '
    'runs alone won, and what that says: McNemar\u2019s exact test and '
    'Newcombe\u2019s interval (1998, method 10); where there are several seeds '
    'a randomisation test over pairs and Agresti and Min\u2019s interval. '
    f'{len(rows)} comparison{"s" * (len(rows) > 1)}, p not corrected for '
    f'their number.</p>{table(heading, rows)}</section>'
  )


def _videos(run: runs.Run) -> str:
  """Successes and failures, apart."""
  figures = ''
  for kind, word, note in (
    ('reached', 'good', 'The first that were reached'),
    ('missed', 'bad', 'The first that were missed'),
  ):
    if gif := run.pictures.get(f'{kind}.gif'):
      figures += (
        f'<figure><figcaption class="{word}">{note}</figcaption>'
        f'<img class="gif" alt="agents, plans and goals, {kind}" '
        f'src="{charts.data_uri(gif, "image/gif")}"></figure>'
      )
  if not figures:
    return ''
  return (
    '<section><h2>Episodes</h2><p class="note">Left the agent, right the goal '
    'it is shown. The line is where the world would take it under the whole '
    'current plan, dots one block apart; the ring is the goal'
    f'{_marks(run.record)}.</p>'
    f'<div class="videos">{figures}</div></section>'
  )


def _marks(record: dict[str, Any]) -> str:
  """What else is drawn over an agent."""
  words = ''
  if record.get('subgoals') is not None:
    words += ', the diamond what the level above wants to be reached first'
  if record.get('disturbance') is not None:
    words += ', the cross where the agent was moved away from'
  return words


def _imagination(run: runs.Run) -> str:
  """What the model imagines, as a decoder draws it."""
  gif = run.pictures.get('imagination.gif')
  if gif is None:
    return ''
  return (
    '<section><h2>What it imagines</h2><p class="note">True frames above; '
    'below, what a decoder reads off the latents that the model imagines from '
    'the first frame and the actions alone.</p>'
    '<img alt="true and imagined frames" '
    f'src="{charts.data_uri(gif, "image/gif")}"></section>'
  )


def _protocol(record: dict[str, Any]) -> str:
  p = record['protocol']
  if p['origin'] == 'reset':
    made = 'a reset of the world and its target'
  else:
    made = f'{p["goal_offset"]} environment steps apart on {p["origin"]} '
    made += 'episodes'
    if p['origin'] == 'held-out':
      ends = 'cut at success' if p['ends_at_success'] else 'not cut at success'
      made += f' ({p["policy"]}, noise {p["action_noise"]:g}, {ends}, '
      made += f'{p["episode_steps"]} steps)'
  entries = {
    'name': f'{p["name"]}, version {p["version"]}',
    'start and goal': made,
    'solved at the start': (
      f'{record["initially_solved"]:.1%}, '
      + ('dropped' if p['drop_solved'] else 'counted in')
    ),
    'budget': f'{p["budget"]} environment steps',
    'plan': f'{p["horizon"]} blocks of {p["action_block"]} steps',
    'plays before replanning': f'{p["receding_horizon"]} of these',
    'success': {
      'any time': 'any time within the budget',
      'after any step': 'after any step within the budget',
      'at the end': 'at the end of the budget',
    }[p['success']],
    'in the goal at the end': f'{record["success_at_end"]:.1%}',
    'pairs': str(record['num_pairs']),
    'manifest': (record['manifest_sha256'] or 'none')[:16],
  }
  if record['shift'] is not None:
    entries['shift'] = f'{record["shift"]}, drawn for every pair'
    entries['pairs left out'] = f'{record["num_invalid"]}, impossible there'
  if (disturbance := record.get('disturbance')) is not None:
    entries['disturbance'] = (
      f'{disturbance["kind"]} after {disturbance["step"]} environment steps'
    )
  if record['num_failed']:
    entries['episodes that broke'] = '; '.join(
      f'{count}: {reason}' for reason, count in record['failures'].items()
    )
  return definitions(entries)


def in_words(value: Any) -> Any:
  """A setting as the page shows it: parts by their names, yes and no."""
  if isinstance(value, bool):
    return 'yes' if value else 'no'
  if isinstance(value, list) and any(isinstance(x, dict) for x in value):
    return '; '.join(map(in_words, value))
  if isinstance(value, dict) and 'name' in value:
    rest = [f'{k} {in_words(x)}' for k, x in value.items() if k != 'name']
    return f'{value["name"]} ({", ".join(rest)})' if rest else value['name']
  return value


def _setup(record: dict[str, Any]) -> str:
  return definitions(
    {
      **{
        key.replace('_', ' '): in_words(value)
        for key, value in record['planner'].items()
      },
      'seed': record['seed'],
      'checkpoint': record['checkpoint'] or 'none',
      'device': record['device'],
      'seconds': f'{record["seconds"]:.0f}, compiling included',
    }
  )


def _episodes(run: runs.Run) -> str:
  unit = worlds.get(run.record['protocol']['environment']).unit
  places = decimals([e.start_distance for e in run.episodes])
  rows = []
  for e in run.episodes:
    outcome = f'reached at step {e.first_success_step}'
    if e.failure is not None:
      outcome = f'failed: {e.failure}'
    elif not e.success:
      outcome = 'missed'
    rows.append(
      [
        str(e.pair),
        f'{e.start_distance:.{places}f}',
        f'{e.final_distance:.{places}f}',
        outcome,
        'yes' if e.success_at_end else 'no',
      ]
    )
  heading = ['pair', f'distance at start ({unit})', f'at the end ({unit})']
  return table([*heading, 'outcome', 'ended in the goal'], rows)
