import io
import sys

import jax
import pytest

from experiments import command_line


@pytest.mark.parametrize(
  ('given', 'meant'),
  [
    ('--out=~/data', '--out=HOME/data'),
    ('-out=~', '-out=HOME'),
    ('--config=~/my.py:tiny', '--config=HOME/my.py:tiny'),
    ('--config.data.path=~/d', '--config.data.path=HOME/d'),
    ('--checkpoint=runs/a,~/b', '--checkpoint=runs/a,HOME/b'),
    ('~/data', '~/data'),
    ('--out=a~/b~', '--out=a~/b~'),
    ('--set=x=3', '--set=x=3'),
  ],
)
def test_paths_begin_at_home(monkeypatch, tmp_path, given, meant):
  monkeypatch.setenv('HOME', str(tmp_path))
  (found,) = command_line.at_home([given])
  assert found == meant.replace('HOME', str(tmp_path))


def test_a_terminal_without_the_letter_shows_another(monkeypatch):
  written = io.BytesIO()
  terminal = io.TextIOWrapper(written, encoding='ascii', write_through=True)
  monkeypatch.setattr(sys, 'stdout', terminal)
  with jax.numpy_dtype_promotion('strict'):
    command_line.prepare()
  print('───  ü')
  assert written.getvalue() == b'???  ?\n'
