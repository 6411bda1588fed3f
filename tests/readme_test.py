"""What the README says works as it stands there."""

import pathlib
import re

import pytest

README = pathlib.Path(__file__).parents[1] / 'README.md'


def test_the_library_example_does_what_it_says(capsys):
  (act,) = re.findall(r'```python\n(.*?)```', README.read_text(), re.DOTALL)
  exec(compile(act, str(README), 'exec'), {})
  distance = float(capsys.readouterr().out.split()[0])
  # The rule of the world: closer than 16 px is there.
  assert distance < 16.0


def test_it_is_short():
  assert len(README.read_text().splitlines()) <= 150


def test_every_named_file_exists():
  text = README.read_text()
  named = re.findall(r'\]\(([^):#]+)', text)
  assert named
  for path in named:
    assert (README.parent / path).exists(), path


@pytest.mark.parametrize(
  'command', re.findall(r'-m (experiments\.\w+)', README.read_text())
)
def test_every_command_exists(command):
  assert (README.parent / (command.replace('.', '/') + '.py')).is_file()
