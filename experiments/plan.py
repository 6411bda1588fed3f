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
import sys
from typing import Any

from absl import app, flags

from experiments import command_line
from jepa_wm import planning, recipes, sharding
from jepa_wm.evaluation.planning import protocol
from jepa_wm.recipes import planning_runs

FLAGS = flags.FlagValues()

command_line.define(
  FLAGS,
  recipes.Planning,
  leave_out=['options'],
  choices={
    'success': protocol.SUCCESS_RULES,
    'cost': planning.COSTS,
    'distance': planning.DISTANCES,
    'disturb': protocol.DISTURBANCES,
  },
)
_SIZES = {
  'num_samples': 'Candidates per iteration',
  'num_elites': 'Candidates that an iteration learns from',
  'num_iterations': 'Iterations per plan',
}
for _name, _text in _SIZES.items():
  flags.DEFINE_integer(
    _name,
    None,
    f"{_text}; the planner's default if left out.",
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


def run(*, show_progress: bool = True) -> planning_runs.Outcome:
  """Does what the flags say; see `recipes.plan`."""
  return recipes.plan(
    command_line.read(FLAGS, recipes.Planning, options=_options()),
    command=command_line.again('experiments.plan', FLAGS),
    show_progress=show_progress,
  )


def _options() -> dict[str, Any]:
  """Options of the planners, from the flags for them and from `--set`.

  Raises:
    ValueError: one that is not `name=value`, whose value is no Python literal,
      or that is given twice.
  """
  options = {
    name: FLAGS[name].value for name in _SIZES if FLAGS[name].value is not None
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


def main(argv: list[str]) -> None:
  """Reads the flags, plans, and ends in one sentence whatever happens."""
  del argv
  sharding.use_every_core()
  with command_line.one_sentence('Interrupted; no result was written.'):
    outcome = run()
  if outcome.failures:
    sys.exit('\n'.join(outcome.failures))


if __name__ == '__main__':
  app.run(main, flags_parser=lambda argv: command_line.parse(FLAGS, argv))
