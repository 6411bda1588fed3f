import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from jepa_wm import lock

HOLDER = """
import sys, time
from jepa_wm import lock
with lock.hold(sys.argv[1]):
  print('held', flush=True)
  time.sleep(600)
"""


@pytest.fixture
def other(tmp_path):
  """Another process that holds `tmp_path`."""
  process = subprocess.Popen(
    [sys.executable, '-c', HOLDER, str(tmp_path)],
    stdout=subprocess.PIPE,
    text=True,
  )
  assert process.stdout.readline() == 'held\n'
  yield process
  process.kill()
  process.communicate()


def test_a_second_process_is_told_who_holds_it(tmp_path, other):
  with pytest.raises(lock.HeldError) as raised:
    lock.hold(tmp_path).__enter__()
  who = f'Process {other.pid} on {socket.gethostname()} works in {tmp_path}'
  assert who in str(raised.value)
  # Refused, and still in place.
  assert json.loads((tmp_path / lock.FILE).read_text())['pid'] == other.pid


def test_what_a_killed_process_left_is_taken_over(tmp_path, other):
  other.send_signal(signal.SIGKILL)
  other.wait()
  assert (tmp_path / lock.FILE).exists()
  with lock.hold(tmp_path):
    left = json.loads((tmp_path / lock.FILE).read_text())
    assert left.pop('token')
    assert left == {'host': socket.gethostname(), 'pid': os.getpid()}
  assert list(tmp_path.iterdir()) == []


def test_a_folder_that_nothing_was_put_into_is_no_more(tmp_path):
  folder = tmp_path / 'runs' / 'mine'
  with pytest.raises(ZeroDivisionError), lock.hold(folder):
    raise ZeroDivisionError
  assert list(tmp_path.iterdir()) == []
  with lock.hold(folder):
    (folder / 'export').touch()
  assert [x.name for x in folder.iterdir()] == ['export']


def test_one_process_cannot_hold_it_twice(tmp_path):
  with lock.hold(tmp_path), pytest.raises(lock.HeldError, match='Process'):
    lock.hold(tmp_path).__enter__()
  # Whatever happened inside, it is free afterwards.
  with pytest.raises(ZeroDivisionError), lock.hold(tmp_path):
    raise ZeroDivisionError
  with lock.hold(tmp_path):
    pass


def test_another_host_is_believed_while_its_file_is_touched(tmp_path):
  path = tmp_path / lock.FILE
  path.write_text(json.dumps({'host': 'elsewhere', 'pid': 7}))
  with pytest.raises(lock.HeldError, match=r'7 on elsewhere.*300 s of silence'):
    lock.hold(tmp_path).__enter__()
  # Dead for an hour.
  os.utime(path, (time.time() - 3600,) * 2)
  with lock.hold(tmp_path):
    assert json.loads(path.read_text())['pid'] == os.getpid()


def test_a_clock_may_be_wrong_by_minutes_and_not_by_hours(tmp_path):
  path = tmp_path / lock.FILE
  path.write_text(json.dumps({'host': 'elsewhere', 'pid': 7}))
  os.utime(path, (time.time() + 200,) * 2)
  with pytest.raises(lock.HeldError, match='It was alive 0 s ago'):
    lock.hold(tmp_path).__enter__()
  os.utime(path, (time.time() + 7200,) * 2)
  with lock.hold(tmp_path):
    assert json.loads(path.read_text())['pid'] == os.getpid()


def test_who_works_touches_the_file(tmp_path, monkeypatch):
  monkeypatch.setattr(lock, '_BEAT_SECONDS', 0.01)
  with lock.hold(tmp_path):
    path = tmp_path / lock.FILE
    os.utime(path, (0, 0))
    deadline = time.monotonic() + 20
    while path.stat().st_mtime == 0 and time.monotonic() < deadline:
      time.sleep(0.01)
    assert path.stat().st_mtime > 0


@pytest.mark.parametrize('content', ['', '{"host": "her', 'null', '[]'])
def test_a_half_written_file_stops_nobody(tmp_path, content):
  (tmp_path / lock.FILE).write_text(content)
  with lock.hold(tmp_path):
    pass


def test_processes_of_one_run_share_it(tmp_path, monkeypatch):
  monkeypatch.setattr(lock, '_SHOWN_SECONDS', 0.2)
  with lock.hold(tmp_path):
    holder = json.loads((tmp_path / lock.FILE).read_text())
    monkeypatch.setattr(lock.processes, 'is_first', lambda: False)
    monkeypatch.setattr(lock.processes, 'from_first', lambda do: holder)
    with lock.hold(tmp_path):
      assert (tmp_path / lock.FILE).exists()
    assert (tmp_path / lock.FILE).exists()
    elsewhere = tmp_path / 'elsewhere'
    with pytest.raises(OSError, match='not the folder in which process 0'):
      lock.hold(elsewhere).__enter__()
    # What a killed run of a process with the same number has left there.
    elsewhere.mkdir()
    (elsewhere / lock.FILE).write_text(json.dumps(holder | {'token': 'old'}))
    with pytest.raises(OSError, match='not the folder in which process 0'):
      lock.hold(elsewhere).__enter__()


def test_who_makes_a_place_and_who_works_in_it_see_each_other(tmp_path):
  out = tmp_path / 'out'
  with lock.hold_place(out):
    assert not out.exists()
    for hold_fn in (lock.hold, lock.hold_place):
      with pytest.raises(lock.HeldError, match=f'{os.getpid()} .* works in'):
        hold_fn(out).__enter__()
      assert not out.exists()
  assert list(tmp_path.iterdir()) == []
  with lock.hold(out):
    (out / 'result').touch()
    with pytest.raises(lock.HeldError, match=f'{os.getpid()} .* works in'):
      lock.hold_place(out).__enter__()
    # Who holds a folder holds what is in it.
    with lock.hold_place(out / 'export'):
      assert sorted(x.name for x in out.iterdir()) == ['result', lock.FILE]
  assert [x.name for x in tmp_path.iterdir()] == ['out']


def test_a_place_that_a_killed_process_held_is_taken_over(tmp_path, other):
  beside = tmp_path / '.out.lock'
  holder = json.loads((tmp_path / lock.FILE).read_text())
  other.kill()
  other.wait()
  beside.write_text(json.dumps(holder))
  with lock.hold(tmp_path / 'out'), lock.hold_results(tmp_path / 'other'):
    assert beside.exists()
  lock.tidy(tmp_path / 'other')
  lock.tidy(tmp_path)
  assert beside.exists() and not (tmp_path / lock.FILE).exists()
  with lock.hold_place(tmp_path / 'out'):
    assert json.loads(beside.read_text())['pid'] == os.getpid()
  assert not beside.exists()
  beside.write_text(json.dumps(holder))
  lock.tidy(tmp_path / 'out')
  assert list(tmp_path.iterdir()) == []


def test_who_waits_says_for_whom(tmp_path, other, monkeypatch, capsys):
  monkeypatch.setattr(lock, '_WAIT_SECONDS', 0.01)
  thread = threading.Timer(0.2, other.kill)
  thread.start()
  with lock.wait(tmp_path):
    thread.join()
  assert capsys.readouterr().err == (
    f'Waiting for process {other.pid} on {socket.gethostname()} in '
    f'{tmp_path}.\n'
  )


def test_a_full_disk_leaves_no_lock(tmp_path, monkeypatch):
  def refuse(*args):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

  monkeypatch.setattr(lock.os, 'pwrite', refuse)
  for hold_fn in (lock.hold, lock.hold_place):
    with pytest.raises(OSError, match='No space left'):
      hold_fn(tmp_path / 'out').__enter__()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not os.path.isdir('/proc/self'), reason='of Linux')
def test_a_folder_that_takes_no_file_is_an_error_at_once():
  for hold_fn in (lock.hold, lock.hold_place):
    with pytest.raises(OSError, match='cannot be written'):
      hold_fn('/proc/self/out').__enter__()


@pytest.mark.parametrize('kind', ['link', 'folder', 'pipe'])
def test_what_is_no_file_of_a_lock_is_in_the_way_and_kept(tmp_path, kind):
  precious, out = tmp_path / 'precious', tmp_path / 'out'
  precious.write_text('precious')
  out.mkdir()
  make = {
    'link': lambda path: path.symlink_to(precious),
    'folder': os.mkdir,
    'pipe': os.mkfifo,
  }[kind]
  for path in (out / lock.FILE, tmp_path / '.out.lock'):
    make(path)
    for hold_fn in (lock.hold, lock.hold_place):
      said = f'{path} is a {kind}, where a lock has its file; remove it'
      with pytest.raises(OSError, match=f'^{said}'):
        hold_fn(out).__enter__()
    lock.tidy(out)
    assert precious.read_text() == 'precious'
    path.rmdir() if kind == 'folder' else path.unlink()
  assert sorted(tmp_path.iterdir()) == [out, precious]
