"""Joining: what is asked of the address where processes find each other.

Before JAX goes there, which hangs or ends in pages where something is wrong.
"""

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator

_PATIENCE_SECONDS = 5.0
"""After which whoever waits for others says so."""


@contextlib.contextmanager
def told(sentence: str) -> Iterator[None]:
  """Says a sentence, if it is not empty, once the block has taken long."""
  where = {'file': sys.stderr, 'flush': True}
  timer = threading.Timer(_PATIENCE_SECONDS, print, [sentence], where)
  timer.daemon = True
  if sentence:
    timer.start()
  try:
    yield
  finally:
    timer.cancel()


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
  """Lets Ctrl-C end a process that waits in C++, where Python hears nothing."""
  before = signal.getsignal(signal.SIGINT)
  is_main = threading.current_thread() is threading.main_thread()
  if before is not signal.default_int_handler or not is_main:
    yield
    return
  signal.signal(signal.SIGINT, signal.SIG_DFL)
  try:
    yield
  finally:
    signal.signal(signal.SIGINT, before)


def look_up(host: str, port: int) -> None:
  """Says so where a host is not known: misspelt, or not there yet.

  Raises:
    ValueError: no host can have that name.
  """
  try:
    socket.getaddrinfo(host, port)
  except UnicodeError as error:
    raise ValueError(
      f'JAX_COORDINATOR_ADDRESS must be host:port, got the host {host!r}.'
    ) from error
  except OSError as error:
    print(
      f'The host of JAX_COORDINATOR_ADDRESS={host}:{port} is not known here '
      f'({error}); stop if it is misspelt, for it is looked up again and '
      'again, in case it is yet to come.',
      file=sys.stderr,
    )


def check_free(port: int) -> None:
  """Refuses a port of this host that is taken.

  JAX would share it with another run, and mix the two up.

  Raises:
    ValueError: it is taken, or may not be used.
  """
  if 'JAX_COORDINATOR_BIND_ADDRESS' in os.environ:
    return
  both = socket.has_dualstack_ipv6()
  with socket.socket(socket.AF_INET6 if both else socket.AF_INET) as probe:
    if both:
      probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    # One that was used just before is free.
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
      probe.bind(('', port))
    except OSError as error:
      raise ValueError(
        f'Port {port} of JAX_COORDINATOR_ADDRESS cannot be had on this host '
        f'({error.strerror}): another program is there, or another run, or a '
        'second process 0 of this one; choose a port that is free.'
      ) from error


def wait_for(host: str, port: int, seconds: float) -> None:
  """Waits until process 0 listens; JAX would give up after pages.

  Raises:
    ValueError: nobody answers.
  """
  until, why = time.monotonic() + seconds, ''
  with told(f'Waits for process 0 at {host}:{port}, up to {seconds} s.'):
    while time.monotonic() < until:
      try:
        socket.create_connection((host, port), 5).close()
        return
      except OSError as error:
        why = str(error)
        time.sleep(0.2)
  raise ValueError(
    f'Nobody answers at JAX_COORDINATOR_ADDRESS={host}:{port} after {seconds} '
    f's ({why}); it is to be the host of process 0, and a port that is free '
    'there and reached from here.'
  )
