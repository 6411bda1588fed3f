"""Turns data of others into ours.

  python -m experiments.convert --source=pusht_expert_train.h5 --out=data/push_t

reads stable-worldmodel's HDF5, LeRobot, RLDS / Open X-Embodiment, Minari or
DINO-WM's folders (`jepa_wm/data/readers`), brings the frames to `--image_size`
and writes an archive of episodes and what training reads, as
`experiments.collect` does. A conversion that is interrupted keeps what it has
finished, and the same command goes on from there. At the end all episodes are
read back and compared with what was converted.
"""

import pathlib
import signal
import sys
import warnings

from absl import app, flags, logging

from experiments import command_line, conversion
from jepa_wm.data import readers, resizing

FLAGS = flags.FlagValues()

_SOURCE = flags.DEFINE_string(
  'source', None, 'File or folder to read.', flag_values=FLAGS
)
_OUT = flags.DEFINE_string(
  'out', None, 'Directory to create for the episodes.', flag_values=FLAGS
)
_FORMAT = flags.DEFINE_enum(
  'format',
  'auto',
  ['auto', *readers.formats()],
  'What the source is; auto looks.',
  flag_values=FLAGS,
)
_IMAGE_SIZE = flags.DEFINE_integer(
  'image_size',
  64,
  'Height and width of the frames; 0 keeps those of the source.',
  lower_bound=0,
  flag_values=FLAGS,
)
_FIT = flags.DEFINE_enum(
  'fit',
  'stretch',
  resizing.FITS,
  'What is done to frames that are not square.',
  flag_values=FLAGS,
)
_HELD_OUT_FRACTION = flags.DEFINE_float(
  'held_out_fraction',
  0.1,
  'Share of the episodes, evenly spread, that training never sees.',
  lower_bound=0.0,
  upper_bound=1.0,
  flag_values=FLAGS,
)
_PIXELS = flags.DEFINE_string(
  'pixels', None, 'Column of the frames: the camera.', flag_values=FLAGS
)
_ACTION = flags.DEFINE_list(
  'action', None, 'Columns joined to an action.', flag_values=FLAGS
)
_PROPRIO = flags.DEFINE_list(
  'proprio',
  None,
  'Columns joined to what the body feels of itself; empty for none.',
  flag_values=FLAGS,
)
_STATE = flags.DEFINE_list(
  'state',
  None,
  'Columns joined to the true state; empty for none.',
  flag_values=FLAGS,
)
_NUM_DISCRETE = flags.DEFINE_integer(
  'num_discrete',
  None,
  'How many actions there are, where they are numbered; they become one-hot.',
  lower_bound=2,
  flag_values=FLAGS,
)
_ALIGNMENT = flags.DEFINE_enum(
  'alignment',
  'auto',
  readers.ALIGNMENTS,
  "Whether a row's action led from its frame (after) or to it (before).",
  flag_values=FLAGS,
)
_SPLIT = flags.DEFINE_string(
  'split', None, 'Split of the source; all by default.', flag_values=FLAGS
)
_ENVIRONMENT = flags.DEFINE_string(
  'environment',
  None,
  'World that the episodes are from, to be planned in (two_room, push_t, ...).',
  flag_values=FLAGS,
)
_STORE = flags.DEFINE_enum(
  'store',
  'auto',
  conversion.STORES,
  'How the frames that training reads are kept: flat, memory-mapped arrays, or '
  'chunks of what changes where these do not fit.',
  flag_values=FLAGS,
)
_MAX_CACHE_GB = flags.DEFINE_float(
  'max_cache_gb',
  None,
  'Size above which --store=auto takes chunks; what the disk holds by default.',
  lower_bound=0.0,
  flag_values=FLAGS,
)
_SKIP_DAMAGED = flags.DEFINE_bool(
  'skip_damaged',
  False,
  'Leaves out episodes that cannot be read, and names them.',
  flag_values=FLAGS,
)
_OVERWRITE = flags.DEFINE_bool(
  'overwrite',
  False,
  'Replaces episodes that are there already.',
  flag_values=FLAGS,
)
_RESTART = flags.DEFINE_bool(
  'restart',
  False,
  'Forgets an unfinished conversion to the same place.',
  flag_values=FLAGS,
)


def _columns(value: list[str] | None) -> tuple[str, ...] | None:
  return None if value is None else tuple(name for name in value if name)


def main(argv: list[str]) -> None:
  """Reads the flags, converts, and ends in one sentence whatever happens."""
  if len(argv) > 1:
    raise app.UsageError(f'Unexpected arguments: {argv[1:]}.')
  logging.set_verbosity(logging.WARNING)
  if not _SOURCE.value or not _OUT.value:
    raise app.UsageError('--source and --out are needed.')
  # SIGTERM then ends as Ctrl-C does.
  signal.signal(signal.SIGTERM, signal.default_int_handler)
  out = pathlib.Path(_OUT.value)
  try:
    report = conversion.convert(
      conversion.Recipe(
        source=_SOURCE.value,
        format=_FORMAT.value,
        options={
          'pixels': _PIXELS.value,
          'action': _columns(_ACTION.value),
          'proprio': _columns(_PROPRIO.value),
          'state': _columns(_STATE.value),
          'num_discrete': _NUM_DISCRETE.value,
          'alignment': _ALIGNMENT.value,
          'split': _SPLIT.value,
        },
        image_size=_IMAGE_SIZE.value,
        fit=_FIT.value,
        held_out_fraction=_HELD_OUT_FRACTION.value,
        environment=_ENVIRONMENT.value,
        skip_damaged=_SKIP_DAMAGED.value,
      ),
      out,
      store=_STORE.value,
      max_cache_gb=_MAX_CACHE_GB.value,
      overwrite=_OVERWRITE.value,
      restart=_RESTART.value,
    )
  except KeyboardInterrupt:
    sys.exit(
      'Interrupted; what is finished is kept, and the same command goes on '
      'from there.'
    )
  except OSError as error:
    sys.exit(
      f'Cannot write to {out}: {error.strerror}.' if error.errno else str(error)
    )
  except (ImportError, ValueError) as error:
    sys.exit(str(error))
  for index, reason in report.skipped[:10]:
    print(f'left out episode {index}: {reason}')
  counts = ', '.join(f'{n} {split}' for split, n in report.counts.items())
  print(f'{out}: {counts}, verified; the cache is {report.store}.')
  if report.skipped:
    print(f'{len(report.skipped)} episodes could not be read and are left out.')


def run() -> None:
  """The command line."""
  # tfds warns of its own deprecations while it writes.
  warnings.filterwarnings('ignore', module='tensorflow_datasets')
  app.run(main, flags_parser=lambda argv: command_line.parse(FLAGS, argv))


if __name__ == '__main__':
  run()
