"""Trains an agent with a world model, by the name of the way it learns.

  python -m experiments.train_agent --agent=imagination --workdir=runs/agent
  python -m experiments.plan --planner=policy --checkpoint=runs/agent

`--agent=NAME` is `--config=experiments/configs/rl.py:NAME`: its fields are
flags, such as `--config.frozen_encoder=runs/small`, and all that is said of
`experiments.train` is true here.
"""

import pathlib

from absl import app

from experiments import train

_CONFIGS = pathlib.Path(__file__).parent / 'configs' / 'rl.py'


def parse_flags(argv: list[str]) -> list[str]:
  """Parses the command line; `--agent` first becomes a config."""
  return train.parse_flags(with_config(argv))


def with_config(argv: list[str]) -> list[str]:
  """The words of a command line, `--agent=NAME` as the config of that name."""
  return [_as_config(word) for word in argv]


def _as_config(word: str) -> str:
  """A word of the command line, `--agent=NAME` as the config of that name."""
  name, is_given, value = word.partition('=')
  if is_given and name in ('--agent', '-agent'):
    return f'--config={_CONFIGS}:{value}'
  return word


if __name__ == '__main__':
  app.run(train.main, flags_parser=parse_flags)
