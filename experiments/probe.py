"""Says what can be read off a model's frozen representation.

  python -m experiments.probe

trains the same probe on the shipped model's latents, on those of a fresh
encoder of the same architecture, and on pixels, and prints how well each tells
where the agent is in Two Room. With a model of your own:

  python -m experiments.probe --checkpoint=runs/vjepa --data=digits

Of every probe a grid of learning rates and weight decays is trained at once,
the best on a validation split is chosen, and a third split is reported. The
folder `--out` receives `results.json`, `probe.png` and, for a model with patch
tokens, `pca.png`: their principal components as colours; where it was trained
on masks, `masks.png` shows some.
"""

from typing import Any

from absl import app, flags

from experiments import command_line
from jepa_wm import recipes
from jepa_wm.data import digits
from jepa_wm.networks import probes

FLAGS = flags.FlagValues()

command_line.define(
  FLAGS,
  recipes.Probing,
  choices={'probe': probes.PROBES, 'background': digits.BACKGROUNDS},
)


def run(*, show_progress: bool = True) -> list[dict[str, Any]]:
  """Does what the flags say; see `recipes.probe`."""
  return recipes.probe(
    command_line.read(FLAGS, recipes.Probing),
    command=command_line.again('experiments.probe', FLAGS),
    show_progress=show_progress,
  )


def main(argv: list[str]) -> None:
  """Reads the flags, probes, and ends in one sentence whatever happens."""
  del argv
  with command_line.one_sentence('Interrupted; no result was written.'):
    run()


if __name__ == '__main__':
  app.run(main, flags_parser=lambda argv: command_line.parse(FLAGS, argv))
