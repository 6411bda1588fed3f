"""Runs planning benchmarks with world models, and reports.

  python -m experiments.plan

plans with the checkpoint that ships with the package, on the CPU if need be,
prints a table and writes `results.json`, `episodes.csv`, `search.png`,
`episodes.gif` and `report.html` (all of it on one page). With a model of your
own:

  python -m experiments.plan --checkpoint=runs/small --protocol=long

and with another planner, set as you like (any option that it has):

  python -m experiments.plan --planner=cem --num_samples=100 --set=min_std=0.05

Lists make one table and one page of all combinations, compared on the same
pairs; killed and started again it goes on where it was:

  python -m experiments.plan --checkpoint=runs/a,runs/b --protocol=short,long
    --planner=cem,icem --set=icem.num_kept=2 --num_seeds=3 --out=outputs/all

and `--shift=all` asks what a change of colour, size, door or light does.
"""

import ast
import dataclasses
import itertools
import pathlib
import sys
from typing import Any

from absl import app, flags, logging

from experiments import command_line, planning_heads, planning_runs
from jepa_wm import planning, sharding
from jepa_wm.envs import variation, worlds
from jepa_wm.evaluation.planning import (
  planner_settings,
  protocol,
)
from jepa_wm.evaluation.report import report

# Flags of its own: another command line of this package, imported beside this
# one by a test, may have a flag of the same name.
FLAGS = flags.FlagValues()

_DEFAULTS = planner_settings.PlannerSettings()

_CHECKPOINT = flags.DEFINE_list(
  'checkpoint',
  ['two_room_small'],
  'Folder of a training run or an export, or the name of a shipped checkpoint; '
  'or a list of such.',
  flag_values=FLAGS,
)
_PROTOCOL = flags.DEFINE_list(
  'protocol',
  ['short'],
  f'What is measured: {", ".join(protocol.PROTOCOLS)}; or a list of such.',
  flag_values=FLAGS,
)
_ENVIRONMENT = flags.DEFINE_string(
  'environment',
  None,
  'World to plan in; by default the one that a checkpoint was trained in.',
  flag_values=FLAGS,
)
_EPISODES = flags.DEFINE_string(
  'episodes',
  None,
  'Archive of recorded episodes to take starts and goals from, in place of the '
  "manifests: its held-out split or, for 'swm-v1', its training split.",
  flag_values=FLAGS,
)
_SUCCESS = flags.DEFINE_enum(
  'success',
  None,
  protocol.SUCCESS_RULES,
  "What counts; the protocol's rule by default. Both 'any time' and 'at the "
  "end' are always recorded, the latter of where the episode ended.",
  flag_values=FLAGS,
)
_SHIFT = flags.DEFINE_list(
  'shift',
  [],
  'Factors of variation to draw anew for every pair, one at a time beside the '
  "world as it is, or 'all' of them.",
  flag_values=FLAGS,
)
_NUM_PAIRS = flags.DEFINE_integer(
  'num_pairs', None, 'Problems to plan; 50 by default.', flag_values=FLAGS
)
_HORIZON = flags.DEFINE_integer(
  'horizon',
  None,
  "Blocks in a plan; the protocol's by default.",
  flag_values=FLAGS,
)
_RECEDING_HORIZON = flags.DEFINE_integer(
  'receding_horizon',
  None,
  "Blocks played before the next plan; the protocol's by default.",
  flag_values=FLAGS,
)
_PLANNER = flags.DEFINE_list(
  'planner',
  [_DEFAULTS.name],
  f'Who searches for actions: {", ".join(planning.PLANNERS)}; or a '
  'list of such.',
  flag_values=FLAGS,
)
_NUM_SAMPLES = flags.DEFINE_integer(
  'num_samples',
  None,
  "Candidates per iteration; the planner's default if left out.",
  flag_values=FLAGS,
)
_NUM_ELITES = flags.DEFINE_integer(
  'num_elites',
  None,
  "Candidates that an iteration learns from; the planner's default if left "
  'out.',
  flag_values=FLAGS,
)
_NUM_ITERATIONS = flags.DEFINE_integer(
  'num_iterations',
  None,
  "Iterations per plan; the planner's default if left out.",
  flag_values=FLAGS,
)
_SET = flags.DEFINE_multi_string(
  'set',
  [],
  'Any other option of the planner, as name=value, such as --set=min_std=0.05; '
  'may be given more than once. One that it does not have is answered by those '
  'that it has. Of several planners those take it that have it, or the one '
  'that is named, as in --set=icem.num_kept=2.',
  flag_values=FLAGS,
)
_COST = flags.DEFINE_enum(
  'cost',
  _DEFAULTS.cost,
  list(planning.STEP_WEIGHTS),
  "Steps of a rollout whose distance to the goal counts: the 'last' one, "
  "'all', their mean, or 'linear', later ones more.",
  flag_values=FLAGS,
)
_DISTANCE = flags.DEFINE_enum(
  'distance',
  _DEFAULTS.distance,
  list(planning.DISTANCES),
  "Of a latent from the goal's.",
  flag_values=FLAGS,
)
_PROPOSALS = flags.DEFINE_string(
  'proposals',
  None,
  'Folder of a trained inverse-dynamics head, whose actions every search looks '
  'at first; of the same encoder as the checkpoint.',
  flag_values=FLAGS,
)
_DECODER = flags.DEFINE_string(
  'decoder',
  None,
  'Folder of a trained decoder, which draws for the report what the model '
  'imagines; of the same encoder as the checkpoint.',
  flag_values=FLAGS,
)
_HISTORY = flags.DEFINE_integer(
  'history',
  _DEFAULTS.history,
  'Frames that the model sees at most, the one now and those an action block '
  'apart before it; not more than it was trained with.',
  flag_values=FLAGS,
)
_SEED = flags.DEFINE_integer(
  'seed',
  0,
  "Of the planner's and the random policy's draws.",
  flag_values=FLAGS,
)
_NUM_SEEDS = flags.DEFINE_integer(
  'num_seeds',
  1,
  'Seeds to plan with, counted from --seed.',
  lower_bound=1,
  flag_values=FLAGS,
)
_BATCH_SIZE = flags.DEFINE_integer(
  'batch_size',
  None,
  'Problems planned at once; bounds the memory, changes no outcome. By default '
  '4 for every core of a CPU, which fit into its caches, and all elsewhere.',
  flag_values=FLAGS,
)
_DIAGNOSTICS = flags.DEFINE_list(
  'diagnostics',
  ['rollout_error'],
  'What the report says of every checkpoint besides its planning, in worlds '
  'written in JAX: rollout_error, straightness, surprise, collapse, probe, '
  'errors; or nothing.',
  flag_values=FLAGS,
)
_OUT = flags.DEFINE_string(
  'out', 'outputs/plan', 'Folder for the files.', flag_values=FLAGS
)


def run(*, show_progress: bool = True) -> planning_runs.Outcome:
  """Does what the flags say.

  Args:
    show_progress: whether to draw a progress bar.

  Returns:
    The runs that were written, and what went wrong.

  Raises:
    OSError: no checkpoint, or a folder that cannot be written.
    ValueError: a broken checkpoint, or flags that contradict each other.
  """
  # All that can be wrong with the flags is found before anything is computed.
  batch_size = _BATCH_SIZE.value
  if batch_size is not None and batch_size < 1:
    raise ValueError(f'batch_size must be at least 1, got {batch_size}.')
  plans = planning_runs.Plans(
    combinations=_combinations(),
    out=pathlib.Path(_OUT.value),
    command=command_line.again('experiments.plan', FLAGS),
    episodes=_EPISODES.value,
    batch_size=batch_size,
    decoder=_DECODER.value,
    show_progress=show_progress,
    diagnostics=_DIAGNOSTICS.value,
  )
  command_line.writable(plans.out)
  outcome = plans.run()
  if outcome.finished:
    print(f'\n{report.table(outcome.finished)}\n', flush=True)
    if outcome.num_kept:
      print(
        f'{outcome.num_kept} of {len(plans.combinations)} had been measured '
        f'before; remove {plans.out / "runs"} to measure again.'
      )
    paths = plans.write(outcome.finished, outcome.failures)
    print(f'{plans.out}: {", ".join(path.name for path in paths)}')
  return outcome


def _combinations() -> list[planning_runs.Combination]:
  """All that the flags ask for.

  Raises:
    OSError: no checkpoint.
    ValueError: a broken one, or flags that contradict each other.
  """
  planners = [
    planner_settings.PlannerSettings(
      planner=planner_settings.make_planner(name, options),
      cost=_COST.value,
      distance=_DISTANCE.value,
      history=_HISTORY.value,
    )
    for name, options in _options(_PLANNER.value).items()
  ]
  if not _CHECKPOINT.value or not _PROTOCOL.value:
    raise ValueError('checkpoint and protocol must name one at least.')
  found = []
  for checkpoint in _CHECKPOINT.value:
    environment = _ENVIRONMENT.value
    if environment is None:
      environment = planning_runs.environment_of(checkpoint)
    proposals = None
    if _PROPOSALS.value is not None:
      proposals = planning_heads.proposals(_PROPOSALS.value, checkpoint)
    for name, settings in itertools.product(_PROTOCOL.value, planners):
      settings = dataclasses.replace(settings, proposals=proposals)
      chosen = protocol.get(
        name,
        environment=environment,
        num_pairs=_NUM_PAIRS.value,
        horizon=_HORIZON.value,
        receding_horizon=_RECEDING_HORIZON.value,
        success=_SUCCESS.value,
      )
      settings.dry_run(chosen.horizon)
      seeds = range(_SEED.value, _SEED.value + _NUM_SEEDS.value)
      found += [
        planning_runs.Combination(checkpoint, chosen, settings, shift, seed)
        for shift, seed in itertools.product(_shifts(environment), seeds)
      ]
  return found


def _shifts(environment: str) -> list[str | None]:
  """The world as it is, then those that were asked for."""
  known = variation.groups(worlds.get(environment).make())
  asked = known if 'all' in _SHIFT.value else _SHIFT.value
  if 'all' in _SHIFT.value and not known:
    raise ValueError(f'{environment!r} has no factors of variation to shift.')
  for name in asked:
    if name not in known:
      raise ValueError(
        f'shift must be all or some of {", ".join(known) or "none"}, the '
        f'factors of variation of {environment!r}, got {name!r}.'
      )
  return [None, *asked]


def _options(planners: list[str]) -> dict[str, dict[str, Any]]:
  """Options of each planner, from the flags for them and from `--set`.

  Raises:
    ValueError: one that is not `name=value`, whose value is no Python literal,
      that is given twice, or that no planner has.
  """
  for name in planners:
    planner_settings.make_planner(name)
  options: dict[str, dict[str, Any]] = {name: {} for name in planners}

  def give(name: str, value: Any, told: str) -> None:
    planner, _, option = name.rpartition('.')
    if planner and planner not in options:
      raise ValueError(
        f'set must name one of the planners {", ".join(options)}, got {told!r}.'
      )
    takers = [planner] if planner else list(options)
    if len(takers) > 1:
      having = [x for x in takers if planner_settings.has_option(x, option)]
      takers = having or takers
    for taker in takers:
      if option in options[taker]:
        raise ValueError(
          f'{option} is given twice, the second time as {told!r}.'
        )
      options[taker][option] = value

  for flag in (_NUM_SAMPLES, _NUM_ELITES, _NUM_ITERATIONS):
    if flag.value is not None:
      give(flag.name, flag.value, f'{flag.name}={flag.value}')
  for given in _SET.value:
    name, _, text = given.partition('=')
    try:
      value = ast.literal_eval(text)
    except (ValueError, SyntaxError) as error:
      raise ValueError(
        f'set must be name=value with a number, True, False, None or a quoted '
        f'string for a value, got {given!r}.'
      ) from error
    give(name, value, given)
  return options


def parse_flags(argv: list[str]) -> list[str]:
  """Parses the command line.

  Args:
    argv: the command and its arguments.

  Returns:
    The arguments that are no flags.
  """
  return command_line.parse(FLAGS, argv)


def main(argv: list[str]) -> None:
  """Reads the flags, plans, and ends in one sentence whatever happens."""
  if len(argv) > 1:
    raise app.UsageError(f'Unexpected arguments: {argv[1:]}.')
  sharding.use_every_core()
  try:
    outcome = run()
  except planning_runs.Interrupted as stop:
    sys.exit(str(stop))
  except KeyboardInterrupt:
    sys.exit('Interrupted; no result was written.')
  except (ValueError, OSError) as error:
    logging.debug('%s', error, exc_info=True)  # Shown by --verbosity=1.
    sys.exit(str(error))
  if outcome.failures:
    sys.exit('\n'.join(outcome.failures))


if __name__ == '__main__':
  app.run(main, flags_parser=parse_flags)
