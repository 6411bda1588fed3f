"""Trains a world model from a config file.

  python -m experiments.train \
    --config=experiments/configs/lewm.py:two_room_small --workdir=runs/small

Any field of the config is a flag: `--config.model.latent_dim=16`. The folder
`--workdir` receives checkpoints, `metrics.jsonl`, TensorBoard files,
`curves.png` and, at the end, `export/`. Killed and started again with the same
command, a run goes on where it was and ends with the same parameters.

What a config holds is said by `recipes.train`. On the command line
`frozen_encoder` brings a checkpoint's own settings of the encoder into the
config. One with `head` in place of `model` (`experiments/configs/heads.py`)
trains what reads the latents of `frozen_encoder`.
"""

import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags
from ml_collections import config_flags

from experiments import (
  command_line,
  compile_cache,
  ending,
  field_names,
  imports,
  kernels,
  overrides,
)
from jepa_wm import exports, files, models, processes, recipes
from jepa_wm.training import hooks, metrics
from jepa_wm.training import run as run_lib

_OWN = 'config', 'workdir', 'import', 'attention', 'compile_cache'


def define_flags() -> None:
  """Makes the flags; a config's own come with its file, in absl's registry."""
  if 'workdir' in flags.FLAGS:
    return
  config_flags.DEFINE_config_file(
    'config', None, 'File of the config, and after a colon which variant of it.'
  )
  flags.DEFINE_string('workdir', None, 'Folder of the run; made where missing.')
  imports.define(flags.FLAGS)
  kernels.define(flags.FLAGS)
  compile_cache.define(flags.FLAGS)


def parse_flags(argv: list[str], *, own: Sequence[str] = ()) -> list[str]:
  """Parses the command line; a wrong config ends in one sentence.

  Args:
    argv: the command and its arguments.
    own: flags that the command has besides, for messages.

  Returns:
    The command.
  """
  define_flags()
  command_line.prepare()
  argv = command_line.at_home(argv)
  imports.import_files(argv)
  command_line.show_in_help(argv[0], flags.FLAGS, _OWN)
  try:
    field_names.check_file(argv)
    rest = flags.FLAGS(argv)
    if flags.FLAGS.config is not None:
      # A file that is not there is only noticed when a field is read.
      flags.FLAGS.config.to_dict()
  except field_names.WRONG as error:
    said = field_names.wrong(argv, error)
    sys.exit(said or command_line.what_is_wrong(error, [*own, *_OWN]))
  compile_cache.use(flags.FLAGS)
  return command_line.finish(rest)


def main(argv: list[str]) -> None:
  """Reads the flags, trains, and ends in one sentence whatever happens."""
  del argv
  if flags.FLAGS.config is None or flags.FLAGS.workdir is None:
    sys.exit(
      'Say what to train and where to keep it, for example --config='
      'experiments/configs/lewm.py:two_room_small --workdir=runs/small.'
    )
  config = flags.FLAGS.config.to_dict()
  train_fn = _recipe(config)
  # Before the first step; during them a hook saves and says so.
  interrupted = 'Interrupted; run the same command again to go on.'
  with (
    processes.joined(sys.argv[1:]),
    ending.one_sentence(interrupted),
  ):
    workdir = files.expand(flags.FLAGS.workdir)
    for sentence in [] if 'head' in config else overrides.inert(sys.argv):
      print(sentence, file=sys.stderr)
    try:
      with kernels.in_use(flags.FLAGS):
        train_fn(config, workdir)
    except hooks.Interrupted as stop:
      print(stop, file=sys.stderr)
      sys.exit(stop.exit_code)
    except run_lib.DivergedError as error:
      raise ValueError(str(error)) from error
  last = [{}, *metrics.read(workdir / 'metrics.jsonl')][-1]
  if last.get('collapse/verdict', 'healthy') != 'healthy':
    print(last['collapse/sentence'], file=sys.stderr)
  print(f'Trained: {workdir / "export"}.{_next(config, workdir)}')


def _recipe(config: Mapping[str, Any]) -> Any:
  """Who trains what a config says, by the sections that it has."""
  if 'head' in config and 'model' in config:
    return recipes.train_from_pixels
  for section, recipe in (
    ('online', recipes.train_online),
    ('agent', recipes.train_agent),
    ('head', recipes.train_head),
  ):
    if section in config:
      return recipe
  return recipes.train


def _next(config: Mapping[str, Any], workdir: pathlib.Path) -> str:
  """What can be done with what was trained, as a command."""
  own = flags.FLAGS['import'].value
  needs = f' --import={",".join(own)}' if own else ''
  if 'head' in config:
    roles = exports.TrainedHead.load(workdir).head.roles
    if roles.policy is not None:
      return (
        ' Act with it: python -m experiments.plan --planner=policy '
        f'--checkpoint={workdir}{needs}'
      )
    use = ''
    for flag, role in (
      ('decoder', roles.picture),
      ('cost_head', roles.cost),
      ('guardrail', roles.guardrail),
      ('proposals', roles.proposal),
    ):
      use = use if role is None else f'--{flag}={workdir}'
    if roles.level is not None or roles.subgoals is not None:
      use = f'--upper={workdir} --horizon=2'
    plan = ' Plan with it: python -m experiments.plan --checkpoint='
    return f'{plan}{config["frozen_encoder"]} {use}{needs}' if use else ''
  acts = models.from_config(config['model']).acting is not None
  verb, command = ('Plan', 'plan') if acts else ('Probe', 'probe')
  with_it = 'with it' if acts else 'it'
  return (
    f' {verb} {with_it}: python -m experiments.{command} '
    f'--checkpoint={workdir}{needs}'
  )


if __name__ == '__main__':
  ending.run(main, parse_flags)
