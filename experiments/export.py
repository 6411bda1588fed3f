"""Writes what a model does as files that run without this package.

  python -m experiments.export --what=encode,plan --out=outputs/robot

lowers the shipped model's encoder, and CEM over its predictor, to StableHLO
for CPU, CUDA and TPU at once. With a model and a head of your own:

  python -m experiments.export --checkpoint=runs/small --what=policy
    --head=runs/gcbc --out=outputs/robot

The folder has a file for each function and `manifest.json`, which says what
every one takes and gives, in raw units: pixels uint8, actions as the world
takes them. `docs/robots.md` has the loader, twenty lines on JAX alone.
"""

from absl import flags

from experiments import command_line, ending, planner_flags
from jepa_wm import planning, recipes
from jepa_wm.recipes import exporting

FLAGS = flags.FlagValues()

command_line.define(
  FLAGS,
  recipes.Exporting,
  leave_out=['options'],
  choices={
    'cost': planning.COSTS,
    'distance': planning.DISTANCES,
    'weights': exporting.WEIGHTS,
  },
)
planner_flags.define(FLAGS)


def main(argv: list[str]) -> None:
  """Reads the flags, exports, and ends in one sentence whatever happens."""
  del argv
  with ending.one_sentence('Interrupted; nothing was written.'):
    manifest = recipes.export(
      command_line.read(
        FLAGS, recipes.Exporting, options=planner_flags.read(FLAGS)
      ),
      command=command_line.again('experiments.export', FLAGS),
    )
  for name, function in manifest['functions'].items():
    for written in function.values():
      if 'file' in written:
        size = written['bytes'] / 2**20
        print(f'{FLAGS["out"].value}/{written["file"]}: {size:.1f} MB')
    for side in ('inputs', 'outputs'):
      described = ', '.join(
        f'{key} {x["dtype"]} {x["shape"]}' for key, x in function[side].items()
      )
      print(f'  {name} {side}: {described}')


if __name__ == '__main__':
  ending.run(main, lambda argv: command_line.parse(FLAGS, argv))
