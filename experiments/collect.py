"""Plays a policy in a world and writes what happened.

  python -m experiments.collect --environment=two_room --out=data/two_room

writes an archive of episodes and the cache that training reads
(`jepa_wm/recipes/collecting.py`). The default is the peers' recipe for Two
Room: the expert with action noise 2.0, at most 100 steps, over when the target
is reached.
"""

import sys

from absl import flags

from experiments import command_line, ending
from jepa_wm import processes, recipes

FLAGS = flags.FlagValues()

command_line.define(FLAGS, recipes.Collecting)
_OUT = flags.DEFINE_string(
  'out',
  None,
  'Directory to create for the episodes; data/ENVIRONMENT by default.',
  flag_values=FLAGS,
)
_OVERWRITE = command_line.define_overwrite(FLAGS)
_HELD_OUT_FRACTION = flags.DEFINE_float(
  'held_out_fraction',
  0.1,
  'Share of the episodes that is never trained on.',
  flag_values=FLAGS,
)


def main(argv: list[str]) -> None:
  """Reads the flags, collects, and ends in one sentence whatever happens."""
  del argv
  with processes.joined(sys.argv[1:]):
    _collect()


def _collect() -> None:
  environment = FLAGS['environment'].value
  out = f'data/{environment}' if _OUT.value is None else _OUT.value
  said = f'Interrupted; nothing was written to {out}.'
  with ending.one_sentence(said, out=out):
    counts = recipes.collect(
      command_line.read(FLAGS, recipes.Collecting),
      out,
      held_out_fraction=_HELD_OUT_FRACTION.value,
      overwrite=_OVERWRITE.value,
      check_fn=ending.STOPS.check,
    )
  print(f'{out}: ' + ', '.join(f'{n} {s}' for s, n in counts.items()))


if __name__ == '__main__':
  ending.run(main, lambda argv: command_line.parse(FLAGS, argv))
