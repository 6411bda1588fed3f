"""What the README says works as it stands there."""

import pathlib
import re

import numpy as np
import pytest

README = pathlib.Path(__file__).parents[1] / 'README.md'


def blocks(language: str) -> list[str]:
  return re.findall(rf'```{language}\n(.*?)```', README.read_text(), re.DOTALL)


def test_the_library_examples_do_what_they_say(capsys):
  # Between them, weights that are not here.
  act, _, constrain = blocks('python')
  names = {}
  exec(compile(act, str(README), 'exec'), names)
  distance = float(capsys.readouterr().out.split()[0])
  # The rule of the world: closer than 16 px is there.
  assert distance < 16.0
  exec(compile(constrain, str(README), 'exec'), names)
  assert names['plan'].violation[0] == 0.0
  raw = names['model'].raw_actions(names['plan'].actions).reshape(-1, 2)
  assert np.abs(raw).max() < 1.01
  assert np.abs(np.diff(raw, axis=0)).max() < 0.51


def test_every_named_file_exists():
  text = README.read_text()
  named = re.findall(r'\]\(([^):]+)\)', text)
  assert named
  for path in named:
    assert (README.parent / path).exists(), path


@pytest.mark.parametrize(
  'command', re.findall(r'-m (experiments\.\w+)', README.read_text())
)
def test_every_command_exists(command):
  assert (README.parent / (command.replace('.', '/') + '.py')).is_file()
