"""Trains a world model from a config file.

  python -m experiments.train \
    --config=experiments/configs/lewm.py:two_room_small --workdir=runs/small

Any field of the config is a flag: `--config.model.latent_dim=16`. The folder
`--workdir` receives checkpoints, `metrics.jsonl`, TensorBoard files,
`curves.png` and, at the end, `export/`. Killed and started again with the same
command, a run goes on where it was and ends with the same parameters.

What a config holds stands in `jepa_wm/recipes/training.py`. On the command line
`frozen_encoder` brings a checkpoint's own settings of the encoder into the
config. One with `head` in place of `model` (`experiments/configs/heads.py`)
trains what reads the latents of `frozen_encoder`.
"""

import pathlib
import re
import sys
import traceback

from absl import app, flags, logging
from ml_collections import config_flags

from experiments import command_line, overrides
from jepa_wm import models, recipes
from jepa_wm.training import hooks, metrics
from jepa_wm.training import run as run_lib


def define_flags() -> None:
  """Makes the flags; a config's own come with its file, in absl's registry."""
  if 'workdir' in flags.FLAGS:
    return
  config_flags.DEFINE_config_file(
    'config', None, 'File of the config, and after a colon which variant of it.'
  )
  flags.DEFINE_string('workdir', None, 'Folder of the run; made where missing.')


def parse_flags(argv: list[str]) -> list[str]:
  """Parses the command line; a wrong config ends in one sentence.

  Args:
    argv: the command and its arguments.

  Returns:
    The command and the arguments that are no flags.
  """
  define_flags()
  command_line.prepare()
  try:
    rest = flags.FLAGS(command_line.at_home(argv))
    if flags.FLAGS.config is not None:
      # A file that is not there is only noticed when a field is read.
      flags.FLAGS.config.to_dict()
  except (flags.Error, OSError) as error:
    # What is wrong comes last, behind a traceback or the places looked at.
    said = re.sub(
      r'^\w+Error: ', '', str(error).strip().splitlines()[-1].strip()
    )
    if missing := re.search(r"No such file or directory: '(.*)'", said):
      said = (
        f'There is no config file {missing[1]!r}; run the command in the '
        "repository's root, or give the whole path."
      )
    sys.exit(said)
  except (AttributeError, KeyError) as error:
    # From an override of a field that the config does not have; one error
    # may carry the other: "'modle'\nDid you mean "model" instead of ...".
    said = error.args[0]
    while isinstance(said, Exception):
      said = said.args[0]
    name, *near = re.findall(r'[\'"](\w+)[\'"]', str(said)) or ['']
    given = [a for a in argv if name in a.partition('=')[0].split('.')]
    if not given:
      # A mistake in the config's own file.
      place = traceback.extract_tb(error.__traceback__)[-1]
      sys.exit(
        f'The config cannot be read ({type(error).__name__}: {said}, in '
        f'{place.filename}, line {place.lineno}).'
      )
    hint = f'; did you mean {near[0]!r}?' if near else '.'
    sys.exit(f'The config has no field {name!r} for {given[0]}{hint}')
  if not flags.FLAGS['verbosity'].present:
    # Orbax tells twenty lines about every checkpoint.
    logging.set_verbosity(logging.WARNING)
  return rest


def main(argv: list[str]) -> None:
  """Reads the flags, trains, and ends in one sentence whatever happens."""
  if len(argv) > 1:
    raise app.UsageError(f'Unexpected arguments: {argv[1:]}.')
  if flags.FLAGS.config is None or flags.FLAGS.workdir is None:
    sys.exit(
      'Say what to train and where to keep it, for example --config='
      'experiments/configs/lewm.py:two_room_small --workdir=runs/small.'
    )
  config = flags.FLAGS.config.to_dict()
  workdir = pathlib.Path(flags.FLAGS.workdir)
  try:
    for sentence in [] if 'head' in config else overrides.inert(sys.argv):
      print(sentence, file=sys.stderr)
    train_fn = recipes.train_head if 'head' in config else recipes.train
    train_fn(config, workdir)
  except hooks.Interrupted as stop:
    print(stop, file=sys.stderr)
    sys.exit(stop.exit_code)
  except KeyboardInterrupt:
    # Before the first step; during them a hook saves and says so.
    sys.exit('Interrupted; run the same command again to go on.')
  except (ValueError, OSError, run_lib.DivergedError) as error:
    logging.debug('%s', error, exc_info=True)  # Shown by --verbosity=1.
    sys.exit(str(error))
  last = metrics.read(workdir / 'metrics.jsonl')[-1]
  if last.get('collapse/verdict', 'healthy') != 'healthy':
    print(last['collapse/sentence'], file=sys.stderr)
  if 'head' in config:
    print(
      f'Trained: {workdir / "export"}. --proposals and --decoder of '
      f'experiments.plan take heads of {config["frozen_encoder"]}.'
    )
    return
  acts = models.from_config(config['model']).acting is not None
  print(
    f'Trained: {workdir / "export"}. {"Plan with" if acts else "Probe"} it: '
    f'python -m experiments.{"plan" if acts else "probe"} '
    f'--checkpoint={workdir}'
  )


if __name__ == '__main__':
  app.run(main, flags_parser=parse_flags)
