"""Runs a planning benchmark with a world model, and reports.

  python -m experiments.plan

plans with the checkpoint that ships with the package, on the CPU if need be,
prints a table and writes `results.json`, `search.png`, `episodes.gif` and
`report.html` (all of it on one page). With a model of your own:

  python -m experiments.plan --checkpoint=runs/small --protocol=long

and with another planner, set as you like (any option that it has):

  python -m experiments.plan --planner=cem --num_samples=100 --set=min_std=0.05
"""

import ast
import pathlib
import sys
from typing import Any

from absl import app, flags, logging

from experiments import command_line
from jepa_wm import planning, sharding, world_model
from jepa_wm.envs import worlds
from jepa_wm.evaluation import (
  closed_loop,
  pairs,
  planner_settings,
  planning_benchmark,
  protocol,
  report,
  rollout_error,
)

# Flags of its own: another command line of this package, imported beside this
# one by a test, may have a flag of the same name.
FLAGS = flags.FlagValues()

_DEFAULTS = planner_settings.PlannerSettings()

_CHECKPOINT = flags.DEFINE_string(
  'checkpoint',
  'two_room_small',
  'Folder of a training run or an export, or the name of a shipped checkpoint.',
  flag_values=FLAGS,
)
_PROTOCOL = flags.DEFINE_enum(
  'protocol',
  'short',
  sorted(protocol.PROTOCOLS),
  'What is measured.',
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
_PLANNER = flags.DEFINE_enum(
  'planner',
  _DEFAULTS.planner,
  list(planning.PLANNERS),
  'Who searches for actions.',
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
  'that it has.',
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
_BATCH_SIZE = flags.DEFINE_integer(
  'batch_size',
  None,
  'Problems planned at once; bounds the memory, changes no outcome. By default '
  '4 for every core of a CPU, which fit into its caches, and all elsewhere.',
  flag_values=FLAGS,
)
_OUT = flags.DEFINE_string(
  'out', 'outputs/plan', 'Folder for the four files.', flag_values=FLAGS
)


def run(*, show_progress: bool = True) -> planning_benchmark.Result:
  """Does what the flags say.

  Args:
    show_progress: whether to draw a progress bar.

  Returns:
    The result that was written.

  Raises:
    OSError: no checkpoint, or a folder that cannot be written.
    ValueError: a broken checkpoint, or flags that contradict each other.
  """
  # All that can be wrong with the flags is found before anything is computed.
  settings = planner_settings.PlannerSettings(
    planner=_PLANNER.value,
    options=_options(),
    cost=_COST.value,
    distance=_DISTANCE.value,
    history=_HISTORY.value,
  )
  chosen = protocol.get(
    _PROTOCOL.value,
    num_pairs=_NUM_PAIRS.value,
    horizon=_HORIZON.value,
    receding_horizon=_RECEDING_HORIZON.value,
  )
  settings.dry_run(chosen.horizon)
  batch_size = _BATCH_SIZE.value
  if batch_size is not None and batch_size < 1:
    raise ValueError(f'batch_size must be at least 1, got {batch_size}.')
  problems = pairs.load_pairs(chosen)
  model = world_model.WorldModel.from_checkpoint(_CHECKPOINT.value)
  closed_loop.check_history(model, settings.history)
  out = command_line.writable(pathlib.Path(_OUT.value))
  result = planning_benchmark.run(
    model,
    chosen,
    problems,
    settings=settings,
    seed=_SEED.value,
    batch_size=batch_size,
    checkpoint=_CHECKPOINT.value,
    show_progress=show_progress,
  )
  print(f'\n{report.table([result.record])}\n', flush=True)
  errors = rollout_error.measure(
    model, worlds.get(chosen.environment), horizon=chosen.horizon
  )
  paths = report.write(
    result,
    out,
    command=command_line.again('experiments.plan', FLAGS),
    errors=errors,
  )
  print(f'{out}: {", ".join(path.name for path in paths)}')
  return result


def _options() -> dict[str, Any]:
  """Options of the planner from the flags for them and from `--set`.

  Raises:
    ValueError: one that is not `name=value`, whose value is no Python literal,
      or that is given twice.
  """
  options = {
    flag.name: flag.value
    for flag in (_NUM_SAMPLES, _NUM_ELITES, _NUM_ITERATIONS)
    if flag.value is not None
  }
  for given in _SET.value:
    name, _, text = given.partition('=')
    try:
      value = ast.literal_eval(text)
    except (ValueError, SyntaxError) as error:
      raise ValueError(
        f'set must be name=value with a number, True, False, None or a quoted '
        f'string for a value, got {given!r}.'
      ) from error
    if name in options:
      raise ValueError(f'{name} is given twice, the second time as {given!r}.')
    options[name] = value
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
    run()
  except KeyboardInterrupt:
    sys.exit('Interrupted; no result was written.')
  except (ValueError, OSError) as error:
    logging.debug('%s', error, exc_info=True)  # Shown by --verbosity=1.
    sys.exit(str(error))


if __name__ == '__main__':
  app.run(main, flags_parser=parse_flags)
