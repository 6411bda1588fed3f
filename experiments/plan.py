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

import sys

from absl import flags

from experiments import command_line, ending, planner_flags
from jepa_wm import planning, processes, recipes, sharding
from jepa_wm.evaluation.planning import planning_model, protocol
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
    'memory': planning_model.MEMORIES,
    'disturb': protocol.DISTURBANCES,
  },
)
planner_flags.define(FLAGS)


def run(*, show_progress: bool = True) -> planning_runs.Outcome:
  """Does what the flags say; see `recipes.plan`."""
  return recipes.plan(
    command_line.read(
      FLAGS, recipes.Planning, options=planner_flags.read(FLAGS)
    ),
    command=command_line.again('experiments.plan', FLAGS),
    show_progress=show_progress,
  )


def main(argv: list[str]) -> None:
  """Reads the flags, plans, and ends in one sentence whatever happens."""
  del argv
  sharding.use_every_core()
  with (
    processes.joined(sys.argv[1:]),
    ending.one_sentence('Interrupted; no result was written.'),
  ):
    outcome = run()
  if outcome.failures:
    sys.exit('\n'.join(outcome.failures))


if __name__ == '__main__':
  ending.run(main, lambda argv: command_line.parse(FLAGS, argv))
