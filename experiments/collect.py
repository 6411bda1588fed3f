"""Plays a policy in a world and writes what happened.

  python -m experiments.collect --environment=two_room --out=data/two_room

writes an archive of episodes and the cache that training reads
(`jepa_wm/recipes/collecting.py`). The default is the peers' recipe for Two
Room: the expert with action noise 2.0, at most 100 steps, over when the target
is reached.
"""

import pathlib
import signal
import sys

from absl import app, flags

from experiments import command_line
from jepa_wm import recipes
from jepa_wm.envs import worlds

FLAGS = flags.FlagValues()

command_line.define(
  FLAGS,
  recipes.Collecting,
  leave_out=['policy_odds'],
  choices={'environment': sorted(worlds.WORLDS)},
)
_OUT = flags.DEFINE_string(
  'out',
  None,
  'Directory to create for the episodes; data/ENVIRONMENT by default.',
  flag_values=FLAGS,
)
_OVERWRITE = flags.DEFINE_bool(
  'overwrite',
  False,
  'Replaces episodes that are there already.',
  flag_values=FLAGS,
)
_POLICY = flags.DEFINE_string(
  'policy',
  'expert',
  "Who plays: a policy of the world ('expert', 'random', 'smooth', ...) or "
  "'mixture'.",
  flag_values=FLAGS,
)
_MIXTURE = flags.DEFINE_list(
  'mixture',
  ['expert=1', 'smooth=1'],
  'Odds of the policies that --policy=mixture draws from for each episode.',
  flag_values=FLAGS,
)
_HELD_OUT_FRACTION = flags.DEFINE_float(
  'held_out_fraction',
  0.1,
  'Share of the episodes that is never trained on.',
  flag_values=FLAGS,
)


def _odds() -> dict[str, float]:
  """Reads 'expert=1', 'smooth=2.5'.

  Raises:
    ValueError: an item of another form.
  """
  if _POLICY.value != 'mixture':
    if _MIXTURE.value != _MIXTURE.default:
      raise ValueError(
        '--mixture has no effect without --policy=mixture; add that, or leave '
        'it out.'
      )
    return {_POLICY.value: 1.0}
  odds = {}
  for item in _MIXTURE.value:
    name, _, number = (part.strip() for part in item.partition('='))
    if name in odds:
      raise ValueError(f'--mixture names {name!r} twice.')
    try:
      odds[name] = float(number)
    except ValueError:
      raise ValueError(
        f'--mixture is a list like expert=1,smooth=2, got {item!r} in it.'
      ) from None
  return odds


def main(argv: list[str]) -> None:
  """Reads the flags, collects, and ends in one sentence whatever happens."""
  if len(argv) > 1:
    raise app.UsageError(f'Unexpected arguments: {argv[1:]}.')
  # SIGTERM then cleans up as Ctrl-C does.
  signal.signal(signal.SIGTERM, signal.default_int_handler)
  out = pathlib.Path(_OUT.value or f'data/{FLAGS["environment"].value}')
  try:
    counts = recipes.collect(
      command_line.read(FLAGS, recipes.Collecting, policy_odds=_odds()),
      out,
      held_out_fraction=_HELD_OUT_FRACTION.value,
      overwrite=_OVERWRITE.value,
    )
  except KeyboardInterrupt:
    sys.exit(f'Interrupted; nothing was written to {out}.')
  except OSError as error:
    sys.exit(
      f'Cannot write to {out}: {error.strerror}.' if error.errno else str(error)
    )
  except ValueError as error:
    sys.exit(str(error))
  print(f'{out}: ' + ', '.join(f'{n} {s}' for s, n in counts.items()))


if __name__ == '__main__':
  app.run(main, flags_parser=lambda argv: command_line.parse(FLAGS, argv))
