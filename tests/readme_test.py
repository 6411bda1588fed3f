"""What the README says works as it stands there."""

import pathlib
import re

import pytest

README = pathlib.Path(__file__).parents[1] / 'README.md'


def blocks(language: str) -> list[str]:
  return re.findall(rf'```{language}\n(.*?)```', README.read_text(), re.DOTALL)


def test_the_library_example_reaches_its_goal(capsys):
  (example,) = blocks('python')
  exec(compile(example, str(README), 'exec'), {})
  distance = float(capsys.readouterr().out.split()[0])
  # The rule of the world: closer than 16 px is there.
  assert distance < 16.0


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
