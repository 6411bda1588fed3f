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

  python -m experiments.probe --diagnostics=demands

asks other questions than what can be read: whether a teleport surprises the
model, whether different actions have different outcomes, whether imagination
agrees with itself, whether plans arrive where the world looks otherwise.
`--diagnostics=all` asks all there are, or name some. `--out` then receives
`report.html`, `results.json` and the figures.
"""

import dataclasses
import sys
from typing import Any

from absl import flags

from experiments import command_line, ending
from jepa_wm import processes, recipes
from jepa_wm.data import digits
from jepa_wm.networks import probes

FLAGS = flags.FlagValues()

command_line.define(
  FLAGS,
  recipes.Probing,
  choices={'probe': probes.PROBES, 'background': digits.BACKGROUNDS},
)


command_line.define(
  FLAGS,
  recipes.Diagnosing,
  leave_out=sorted(
    {x.name for x in dataclasses.fields(recipes.Diagnosing)}
    & {x.name for x in dataclasses.fields(recipes.Probing)}
  ),
)


def run(*, show_progress: bool = True) -> list[dict[str, Any]]:
  """Does what the flags say; see `recipes.probe` and `recipes.diagnose`."""
  asks = bool(FLAGS['diagnostics'].value)
  _check_effect(asks)
  command = command_line.again('experiments.probe', FLAGS)
  if asks:
    asked = command_line.read(FLAGS, recipes.Diagnosing)
    return [
      recipes.diagnose(asked, command=command, show_progress=show_progress)
    ]
  return recipes.probe(
    command_line.read(FLAGS, recipes.Probing),
    command=command,
    show_progress=show_progress,
  )


def _check_effect(asks: bool) -> None:
  """Refuses flags of the one that is not done."""
  probing, asking = (
    {x.name for x in dataclasses.fields(kind)}
    for kind in (recipes.Probing, recipes.Diagnosing)
  )
  idle = probing - asking if asks else asking - probing
  given = sorted(name for name in idle if FLAGS[name].present)
  if given:
    what = 'trains probes, which --diagnostics does not'
    if not asks:
      what = 'is for --diagnostics'
    raise ValueError(f'--{given[0]} {what}; leave one of the two out.')


def main(argv: list[str]) -> None:
  """Reads the flags, probes, and ends in one sentence whatever happens."""
  del argv
  with (
    processes.joined(sys.argv[1:]),
    ending.one_sentence('Interrupted; no result was written.'),
  ):
    processes.tell_idle('experiments.probe')
    processes.by_first(run)


if __name__ == '__main__':
  ending.run(main, lambda argv: command_line.parse(FLAGS, argv))
