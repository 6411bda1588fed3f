"""Trains an agent with a world model, by the name of the way it learns.

  python -m experiments.train_agent --agent=imagination --workdir=runs/agent
  python -m experiments.plan --planner=policy --checkpoint=runs/agent

`--agent=NAME` is `--config=experiments/configs/rl.py:NAME`: its fields are
flags, such as `--config.frozen_encoder=runs/small`, and all that is said of
`experiments.train` is true here.
"""

import pathlib
import sys

from absl import flags

from experiments import ending, train
from experiments.configs import rl

_FLAG = ('--agent', '-agent')
_CONFIGS = pathlib.Path(__file__).parent / 'configs' / 'rl.py'


def parse_flags(argv: list[str]) -> list[str]:
  """Parses the command line; `--agent` first becomes a config."""
  rest = train.parse_flags(with_config(argv), own=['agent'])
  if flags.FLAGS.config is None or flags.FLAGS.workdir is None:
    sys.exit(
      'Say which agent to train and where to keep it, for example '
      '--agent=imagination --workdir=runs/agent; there are '
      f'{", ".join(rl.AGENTS)}.'
    )
  return rest


def with_config(argv: list[str]) -> list[str]:
  """The words of a command line, `--agent=NAME` as the config of that name."""
  words = list(argv)
  for number, word in enumerate(words[:-1]):
    if word in _FLAG and not words[number + 1].startswith('-'):
      words[number : number + 2] = [f'{word}={words[number + 1]}', '']
  return [_as_config(word) for word in words if word]


def _as_config(word: str) -> str:
  """A word of the command line, `--agent=NAME` as the config of that name."""
  name, is_given, value = word.partition('=')
  if is_given and name in _FLAG:
    return f'--config={_CONFIGS}:{value}'
  return word


if __name__ == '__main__':
  ending.run(train.main, parse_flags)
