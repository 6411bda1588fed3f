import contextlib
import io
import os
import signal
import sys

import jax
import pytest

from experiments import command_line, ending


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


@pytest.mark.parametrize('signum', [signal.SIGTERM, signal.SIGINT])
def test_a_signal_that_nobody_heard_is_told_again(signum, monkeypatch):
  before = {x: signal.getsignal(x) for x in (signal.SIGTERM, signal.SIGINT)}
  # A shell's job in the background is not meant by Ctrl-C.
  signal.signal(signal.SIGINT, signal.default_int_handler)
  try:
    stops = ending.Stops()
    stops.listen()
    stops.check()
    # As in a library that takes every exception for its own.
    with contextlib.suppress(KeyboardInterrupt):
      os.kill(os.getpid(), signum)
    with pytest.raises(KeyboardInterrupt):
      stops.check()
    # Or for an error of its own, as the import of a module of C does.
    monkeypatch.setattr(ending, 'STOPS', stops)
    with (
      pytest.raises(SystemExit, match='Interrupted'),
      ending.one_sentence('Interrupted.'),
    ):
      raise ImportError('initialization failed')
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)
