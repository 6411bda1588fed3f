"""Runs published ablations by name, the published number beside ours.

  python -m experiments.ablate --list
  python -m experiments.ablate --study=lewm/dropout

trains every row of the study at the small size with three seeds, plans with all
of them on the same pairs, and writes `report.html`, `rows.csv`, `rows.parquet`,
`study.json` and `commands.txt` in a folder of `--out`. Killed and started again
it goes on where it was. A table's name, `--study=lewm/main_table`, stands for a
study of each of its tasks, and a page over all of them. At full size, with
episodes of your own:

  python -m experiments.ablate --study=lewm/dropout --size=full \
    --data=data/push_t_224

`--dry_run` says what would be done, `--emit=commands` prints a line for each
job, `--launcher=submitit` makes a Slurm array of them. Without a study file:

  python -m experiments.ablate --config=lewm.py:two_room_plain \
    --grid=model.predictor.dropout=0.0,0.1,0.5
"""

import sys

from absl import flags

from experiments import command_line, ending, launching
from experiments.configs import variants
from experiments.studies import named
from jepa_wm import launchers, recipes
from jepa_wm.training import hooks

FLAGS = flags.FlagValues()

command_line.define(FLAGS, recipes.Ablating)
_LIST = flags.DEFINE_bool(
  'list',
  False,
  'Prints all studies, or those of --study, and computes nothing.',
  flag_values=FLAGS,
)
_DRY_RUN = flags.DEFINE_bool(
  'dry_run',
  False,
  'Checks and prints what would be done, and computes nothing.',
  flag_values=FLAGS,
)
_EMIT = flags.DEFINE_enum(
  'emit',
  None,
  ['commands'],
  'Prints a command line for each job, for xargs or an array of a cluster.',
  flag_values=FLAGS,
)
launching.define(FLAGS)
_CONFIG = flags.DEFINE_string(
  'config',
  None,
  'File and variant of a config whose --grid is run in place of a study.',
  flag_values=FLAGS,
)
_GRID = flags.DEFINE_multi_string(
  'grid',
  [],
  'A field of --config and its values, the first of which is the reference; '
  'all combinations of several are run.',
  flag_values=FLAGS,
)


def run() -> int:
  """Does what the flags say.

  Returns:
    The exit code: 1 where a unit failed.

  Raises:
    ValueError: a study, row, field or value that there is not, or a row that
      does nothing.
    OSError: no data, or a folder that cannot be written.
  """
  ablating = command_line.read(FLAGS, recipes.Ablating)
  alone = {
    'list': _LIST.value,
    'dry_run': _DRY_RUN.value,
    'emit': _EMIT.value,
    'units': ablating.units,
  }
  asked = [f'--{name}' for name, is_given in alone.items() if is_given]
  if len(asked) > 1:
    raise ValueError(f'{" and ".join(asked)} exclude each other; give one.')
  if _LIST.value:
    chosen = named.find(ablating.study)
    print(recipes.list_studies(chosen or named.all_studies()))
    return 0
  if bool(_CONFIG.value) != bool(_GRID.value):
    raise ValueError('config and grid go together; give both, or --study.')
  studies = named.find(ablating.study)
  if _CONFIG.value:
    studies.append(named.grid(_CONFIG.value, _GRID.value))
  if not studies:
    raise ValueError(
      'Say what to run with --study, for example --study=lewm/dropout; '
      '--list prints all.'
    )
  again = command_line.again('experiments.ablate', FLAGS)
  ablation = recipes.Ablation(ablating, studies, variants.resolve, again)
  if ablating.units:
    return ablation.work()
  ablation.check()
  commands = launching.commands(ablation, again)
  if _DRY_RUN.value:
    print(ablation.told())
  elif _EMIT.value:
    print('\n'.join(commands.values()))
  else:
    launching.launch(FLAGS, ablation, commands)
    if launchers.place()[0]:
      print('All jobs are done; process 0 writes the pages.')
      return 0
    return ablation.report(list(commands.values()))
  return 0


def main(argv: list[str]) -> None:
  """Reads the flags, runs, and ends in one sentence whatever happens."""
  del argv
  interrupted = 'Interrupted; run the same command again to go on.'
  with ending.one_sentence(interrupted):
    try:
      code = run()
    except hooks.Interrupted as stop:
      code = stop.exit_code
  sys.exit(code)


if __name__ == '__main__':
  ending.run(main, lambda argv: command_line.parse(FLAGS, argv))
