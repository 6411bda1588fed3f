"""What the record of a run says of its loop, as findings for the page."""

from collections.abc import Mapping, Sequence
from typing import Any

from jepa_wm.envs import worlds
from jepa_wm.evaluation.diagnostics import finding
from jepa_wm.evaluation.statistics import comparison, runs
from jepa_wm.recipes import planning_guards


def of(record: Mapping[str, Any]) -> dict[str, finding.Finding]:
  """All that a record says of its loop, by name.

  Args:
    record: of a result.
  """
  return {
    **_who_acted(record),
    **_disturbed(record),
    **_replanned(record),
    **_subgoals(record),
    **planning_guards.finding(record),
    **_agents(record),
  }


def sentences(finished: Sequence[runs.Run]) -> list[str]:
  """What is said of runs under their table, a line for each that says so."""
  said = []
  for run in finished:
    record = run.record
    protocol, planner = (
      record['protocol']['name'],
      comparison.planner_name(record),
    )
    said += [
      f'{protocol}, {planner}, seed {record["seed"]}: {found.sentence}'
      for name, found in of(record).items()
      if name != 'who_acted'
    ]
  return said


def _who_acted(record: Mapping[str, Any]) -> dict[str, finding.Finding]:
  """When a policy acted and when a search did, if both may."""
  acted = record.get('acted')
  if acted is None:
    return {}
  number = acted['policy'] + acted['search']
  found = finding.Finding(
    'Who acted when',
    scalars={name: acted[name] for name in ('policy', 'search')},
    table=finding.Table(
      ('environment step', 'plans of the policy', 'plans of the search'),
      [[row['step'], row['policy'], row['search']] for row in acted['by_step']],
    ),
    sentence=f'Of {number} plans the policy made {acted["policy"]}, and where '
    f'what it was predicted to cost was not enough{_or_surprised(record)}, the '
    f'search {acted["search"]}.',
  )
  return {'who_acted': found}


def _or_surprised(record: Mapping[str, Any]) -> str:
  """What else may have led to a search, in words."""
  bound = record.get('planner', {}).get('surprise')
  if not bound:
    return ''
  return f', or what it saw was further than {bound:g} from what was predicted'


def _disturbed(record: Mapping[str, Any]) -> dict[str, finding.Finding]:
  """How many found their goals after they had been moved."""
  said = record.get('disturbance')
  if said is None:
    return {}
  number = said['num_disturbed']
  scalars = {key: said[key] for key in ('num_disturbed', 'num_recovered')}
  if number:
    scalars['recovered'] = said['num_recovered'] / number
    scalars['random_actions'] = said['random_recovery']
    scalars['expert'] = said['expert_recovery']
    scalars['steps_to_recover'] = said['steps_to_recover']
  words = f'{number} on their way after {said["step"]} steps were moved'
  if number:
    low, high = said['interval_95']
    words += f', and {said["num_recovered"]} of them reached their goals '
    words += f'({low:.1%} to {high:.1%})'
  if (steps := said['steps_to_recover']) is not None:
    words += f', {steps:g} steps later in the median'
  others = [
    f'{who} {rate:.1%}'
    for who, rate in (
      ('random actions', said['random_recovery']),
      ('the expert', said['expert_recovery']),
    )
    if rate is not None
  ]
  if others:
    words += f'. Moved alike, {" and ".join(others)} do'
  found = finding.Finding(
    'After a disturbance',
    {name: x for name, x in scalars.items() if x is not None},
    sentence=f'{words}.',
  )
  return {'disturbance': found}


def _replanned(record: Mapping[str, Any]) -> dict[str, finding.Finding]:
  """How often a plan was given up early, and by which bounds."""
  said = record.get('replanning')
  if said is None:
    return {}
  asked = record['planner']['replan_on_surprise']
  bounds = asked['bounds']
  looks, early = said['num_looks'], said['num_early']
  share = f' ({early / looks:.1%})' if looks else ''
  words = (
    f'Of {looks} looks between plans {early} were surprised{share} and led to '
    'a plan at once, which starts from nothing. The bounds are the '
    f'{asked["quantile"]:g} quantile of at least {asked["num_calibrated"]} '
    'blocks of undisturbed play on other pairs: '
    f'{", ".join(f"{bound:.3g}" for bound in bounds)} after each block'
  )
  if said['num_noticed'] is not None:
    words += (
      f'. Of {said["num_moved_between_plans"]} that were moved between plans '
      f'{said["num_noticed"]} were noticed at the next look, which are not '
      'among the others'
    )
  found = finding.Finding(
    'When it was surprised',
    {name: x for name, x in said.items() if x is not None},
    table=finding.Table(
      ('blocks since the plan', 'surprise above'),
      [[number, bound] for number, bound in enumerate(bounds, start=1)],
    ),
    sentence=f'{words}.',
  )
  return {'replanning': found}


def _subgoals(record: Mapping[str, Any]) -> dict[str, finding.Finding]:
  """What the level above wanted, and how far off that was."""
  said = record.get('subgoals')
  if said is None:
    return {}
  unit = worlds.get(record['protocol']['environment']).unit
  number = said['num_plans']
  words = f'Of {number} plans {said["num_goal"]} went for the goal itself'
  if (distance := said['distance']) is not None:
    words += (
      f', the others for a subgoal {distance:.3g} {unit} away in the median'
    )
  words += (
    f'. A subgoal is read as the state whose latent is nearest, of '
    f'{said["num_frames"]} that the agents were in'
  )
  if (error := said['reading_error']) is not None:
    words += (
      f'; read so, by the episodes of others, a state is {error:.3g} {unit} off'
    )
  found = finding.Finding(
    'What the level above wanted',
    {name: x for name, x in said.items() if x is not None},
    sentence=f'{words}.',
  )
  return {'subgoals': found}


def _agents(record: Mapping[str, Any]) -> dict[str, finding.Finding]:
  """How each of several agents fared."""
  said = record.get('agents')
  if said is None:
    return {}
  columns = 'success_rate', 'interval_95', 'random_floor', 'expert_ceiling'
  unknown = [None] * said['num_agents']
  rows: list[list[finding.Cell]] = []
  words = []
  for agent, (rate, (low, high), floor, ceiling) in enumerate(
    zip(*(said[name] or unknown for name in columns))
  ):
    others = ['' if x is None else f'{x:.1%}' for x in (floor, ceiling)]
    rows.append([agent, f'{rate:.1%}', f'{low:.1%} to {high:.1%}', *others])
    words.append(f'agent {agent} {rate:.1%} ({low:.1%} to {high:.1%})')
  mean = said['mean_success_rate']
  sentence = (
    f'Of {record["num_pairs"]} pairs all agents reach their goals in '
    f'{record["success_rate"]:.1%}; {", ".join(words)}; an agent '
    f'{mean:.1%} in the mean.'
  )
  if said['random_floor'] is not None:
    floor = sum(said['random_floor']) / said['num_agents']
    sentence += f' With random actions an agent does in {floor:.1%}.'
  found = finding.Finding(
    'Each agent for itself',
    {'mean_success_rate': mean},
    finding.Table(
      ('agent', 'success', '95% interval', 'random floor', 'expert ceiling'),
      rows,
    ),
    sentence=sentence,
  )
  return {'agents': found}
