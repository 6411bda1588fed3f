"""Turns data of others into ours.

  python -m experiments.convert --source=pusht_expert_train.h5 --out=data/push_t

reads stable-worldmodel's HDF5, LeRobot, RLDS / Open X-Embodiment, Minari or
DINO-WM's folders (`jepa_wm/data/readers`), brings the frames to `--image_size`
and writes an archive of episodes and what training reads, as
`experiments.collect` does. A conversion that is interrupted keeps what it has
finished, and the same command goes on from there. At the end all episodes are
read back and compared with what was converted.
"""

import dataclasses
import sys
import warnings

from absl import flags

from experiments import command_line, ending
from jepa_wm import recipes
from jepa_wm.data import cache_writer, readers, resizing

FLAGS = flags.FlagValues()

command_line.define(
  FLAGS,
  recipes.Converting,
  leave_out=['options'],
  choices={'fit': resizing.FITS},
)
# The recipe has these itself, or the formats say them.
_NO_OPTIONS = ('image_size', 'fit', 'discrete_start')
command_line.define(
  FLAGS,
  readers.Options,
  leave_out=_NO_OPTIONS,
  choices={'alignment': readers.ALIGNMENTS},
)
_OUT = flags.DEFINE_string(
  'out', None, 'Directory to create for the episodes.', flag_values=FLAGS
)
_STORE = flags.DEFINE_enum(
  'store',
  'auto',
  ['auto', *cache_writer.STORES],
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
_OVERWRITE = command_line.define_overwrite(FLAGS)
_RESTART = flags.DEFINE_bool(
  'restart',
  False,
  'Forgets an unfinished conversion to the same place.',
  flag_values=FLAGS,
)


def main(argv: list[str]) -> None:
  """Reads the flags, converts, and ends in one sentence whatever happens."""
  del argv
  if FLAGS['source'].value is None or _OUT.value is None:
    sys.exit(
      'Say what to convert and where to keep it, for example '
      '--source=pusht_expert_train.h5 --out=data/push_t.'
    )
  out = _OUT.value
  said = (
    'Interrupted; what is finished is kept, and the same command goes on from '
    'there.'
  )
  with ending.one_sentence(said, out=out):
    # Those of the recipe come from there, where 0 is another word for None.
    chosen = command_line.read(
      FLAGS, readers.Options, image_size=None, fit='stretch'
    )
    options = dataclasses.asdict(chosen)
    for name in _NO_OPTIONS:
      del options[name]
    report = recipes.convert(
      command_line.read(FLAGS, recipes.Converting, options=options),
      out,
      store=_STORE.value,
      max_cache_gb=_MAX_CACHE_GB.value,
      overwrite=_OVERWRITE.value,
      restart=_RESTART.value,
    )
  for index, reason in report.skipped[:10]:
    print(f'left out episode {index}: {reason}')
  counts = ', '.join(f'{n} {split}' for split, n in report.counts.items())
  print(f'{out}: {counts}, verified; the cache is {report.store}.')
  if report.skipped:
    print(f'{len(report.skipped)} episodes could not be read and are left out.')


if __name__ == '__main__':
  # tfds warns of its own deprecations while it writes.
  warnings.filterwarnings('ignore', module='tensorflow_datasets')
  ending.run(main, lambda argv: command_line.parse(FLAGS, argv))
