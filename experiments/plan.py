"""Runs a planning benchmark with a world model, and reports.

  python -m experiments.plan

plans with the checkpoint that ships with the package, on the CPU if need be,
prints a table and writes `results.json`, `cem.png`, `episodes.gif` and
`report.html` (all of it on one page). With a model of your own:

  python -m experiments.plan --checkpoint=runs/small --protocol=long
"""

import pathlib
import shlex
import sys
import tempfile

import jax
from absl import app, flags, logging

from jepa_wm import world_model
from jepa_wm.evaluation import (
  closed_loop,
  pairs,
  planning_benchmark,
  protocol,
  report,
  rollout_error,
)

# Flags of its own: another command line of this package, imported beside this
# one by a test, may have a flag of the same name.
FLAGS = flags.FlagValues()

_DEFAULTS = closed_loop.CemSettings()

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
_NUM_SAMPLES = flags.DEFINE_integer(
  'num_samples',
  _DEFAULTS.num_samples,
  'Candidates per iteration.',
  flag_values=FLAGS,
)
_NUM_ELITES = flags.DEFINE_integer(
  'num_elites',
  _DEFAULTS.num_elites,
  'Candidates that an iteration learns from.',
  flag_values=FLAGS,
)
_NUM_ITERATIONS = flags.DEFINE_integer(
  'num_iterations',
  _DEFAULTS.num_iterations,
  'Iterations per plan.',
  flag_values=FLAGS,
)
_COST = flags.DEFINE_enum(
  'cost',
  _DEFAULTS.cost,
  ['last', 'all'],
  "Steps of a rollout whose distance to the goal counts: the 'last' one, or "
  "'all', their mean.",
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
  '5 on a CPU, where less fits into its caches, and all of them elsewhere.',
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
  settings = closed_loop.CemSettings(
    num_samples=_NUM_SAMPLES.value,
    num_elites=_NUM_ELITES.value,
    num_iterations=_NUM_ITERATIONS.value,
    cost=_COST.value,
  )
  chosen = protocol.get(
    _PROTOCOL.value,
    num_pairs=_NUM_PAIRS.value,
    horizon=_HORIZON.value,
    receding_horizon=_RECEDING_HORIZON.value,
  )
  batch_size = _BATCH_SIZE.value
  if batch_size is not None and batch_size < 1:
    raise ValueError(f'batch_size must be at least 1, got {batch_size}.')
  problems = pairs.load_pairs(chosen)
  model = world_model.WorldModel.from_checkpoint(_CHECKPOINT.value)
  out = _writable(pathlib.Path(_OUT.value))
  if batch_size is None and jax.default_backend() == 'cpu':
    batch_size = 5
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
    model, pairs.world(chosen.environment), horizon=chosen.horizon
  )
  paths = report.write(result, out, command=_command(), errors=errors)
  print(f'{out}: {", ".join(path.name for path in paths)}')
  return result


def _writable(out: pathlib.Path) -> pathlib.Path:
  """Makes the folder and tries to write to it.

  Raises:
    OSError: it cannot be made or written to.
  """
  try:
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=out) as probe:
      probe.write(b'0' * 2**20)
  except OSError as error:
    reason = error.strerror or str(error)
    raise OSError(
      f'out: cannot write to {str(out)!r} ({reason}); choose another folder '
      'with --out.'
    ) from error
  return out


def _command() -> str:
  """The command line that does the same again."""
  given = [
    f'--{name}={FLAGS[name].value}' for name in FLAGS if FLAGS[name].present
  ]
  return shlex.join(['python', '-m', 'experiments.plan', *given])


def parse_flags(argv: list[str]) -> list[str]:
  """Parses the command line.

  Args:
    argv: the command and its arguments.

  Returns:
    The arguments that are no flags.
  """
  for name in FLAGS:
    flags.FLAGS[name] = FLAGS[name]
    # What --help shows is what belongs to the main module.
    flags.FLAGS.register_key_flag_for_module(argv[0], FLAGS[name])
  rest = app.parse_flags_with_usage(argv)
  FLAGS.mark_as_parsed()
  if not flags.FLAGS['verbosity'].present:
    logging.set_verbosity(logging.WARNING)
  return rest


def main(argv: list[str]) -> None:
  """Reads the flags, plans, and ends in one sentence whatever happens."""
  if len(argv) > 1:
    raise app.UsageError(f'Unexpected arguments: {argv[1:]}.')
  try:
    run()
  except KeyboardInterrupt:
    sys.exit('Interrupted; no result was written.')
  except (ValueError, OSError) as error:
    logging.debug('%s', error, exc_info=True)  # Shown by --verbosity=1.
    sys.exit(str(error))


if __name__ == '__main__':
  app.run(main, flags_parser=parse_flags)
