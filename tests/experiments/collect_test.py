import os
import pathlib
import signal
import subprocess
import sys
import time

import compiler
import pytest

from experiments import collect


def run_main(**values):
  """Runs `main` with flags; what it would print on the way out."""
  if not collect.FLAGS.is_parsed():
    collect.FLAGS.mark_as_parsed()
  changed = [(collect.FLAGS[name], value) for name, value in values.items()]
  before = [flag.value for flag, _ in changed]
  for flag, value in changed:
    flag.value = value
  try:
    with pytest.raises(SystemExit) as caught:
      collect.main(['collect'])
  finally:
    for (flag, _), value in zip(changed, before):
      flag.value = value
  assert isinstance(caught.value.code, str)
  return caught.value.code


def test_main_ends_in_one_sentence(monkeypatch, tmp_path):
  monkeypatch.setattr(signal, 'signal', lambda *_: None)
  (tmp_path / 'out').mkdir()
  assert run_main(out=str(tmp_path / 'out')) == (
    f'{tmp_path / "out"} is there already; add --overwrite to replace it.'
  )
  (tmp_path / 'out').rmdir()
  (tmp_path / 'file').write_text('')
  path = tmp_path / 'file' / 'x'
  assert run_main(out=str(path)) == (
    f'{path} cannot be written (a file is in the way); choose another folder.'
  )
  assert 'GB left' in run_main(out=str(tmp_path / 'x'), num_episodes=10**12)
  out = str(tmp_path / 'x')
  assert 'seed must be at least 0' in run_main(out=out, seed=-1)
  assert 'leave none to train on' in run_main(
    out=out, num_episodes=9, held_out_fraction=0.95
  )
  mixture = ['expert=1', 'expert=2']
  assert "names 'expert' twice" in run_main(
    out=out, policy='mixture', mixture=mixture
  )
  assert "mixture means nothing for policy 'expert'" in run_main(
    out=out, mixture=mixture[1:]
  )
  assert 'expert=1,smooth=2' in run_main(
    out=str(tmp_path / 'x'), policy='mixture', mixture=['expert', 'smooth=1']
  )
  assert [file.name for file in tmp_path.iterdir()] == ['file']


@pytest.mark.slow
@pytest.mark.parametrize('stop', [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_command_leaves_nothing(tmp_path, stop):
  path = tmp_path / 'two_room'
  # A shell's job in the background ignores Ctrl-C, and so would what it starts.
  before = signal.signal(signal.SIGINT, signal.default_int_handler)
  process = subprocess.Popen(
    [
      sys.executable,
      '-m',
      'experiments.collect',
      f'--out={path}',
      '--num_episodes=100000',
      '--image_size=16',
    ],
    cwd=pathlib.Path(collect.__file__).parents[1],
    env=os.environ | {'XLA_FLAGS': compiler.FLAGS},
    stderr=subprocess.PIPE,
    text=True,
  )
  signal.signal(signal.SIGINT, before)
  partial = tmp_path / '.two_room.collect/.archive.cache.partial/train'
  deadline = time.monotonic() + 120
  while not partial.exists() and time.monotonic() < deadline:
    assert process.poll() is None
    time.sleep(0.1)
  process.send_signal(stop)
  _, errors = process.communicate(timeout=60)
  assert process.returncode == 1
  assert (
    errors.splitlines()[-1] == f'Interrupted; nothing was written to {path}.'
  )
  assert 'Traceback' not in errors
  assert list(tmp_path.iterdir()) == []
