"""What a process of several is heard to say when another one is gone.

Run as a script beside each of them, which writes to it in place of standard
error. All passes as it is, but for the pages that JAX prints, from C++, before
it aborts a process whose company is lost: they become one sentence.
"""

import re
import signal
import sys

LOST = '\x1elost'
"""A line of Python that says the same."""

_JAX = re.compile(
  r'^[EFW]\d{4} .*(coordination_service|preemption_|client\.h:)'
)
_SILENT = re.compile(r'stopped sending heartbeats\):\s+(?:\S*task:)?(\d+)')


def sentence(text: str) -> str | None:
  """What a page of JAX comes to, None where it is about something else.

  Args:
    text: of standard error, from the first line that is JAX's on.
  """
  if 'RegisterTask' in text:
    return (
      'The processes of this run did not find each other in time: start as '
      'many as are announced, give each a number of its own (one that is given '
      'twice leaves another out), and let all of them reach process 0.\n'
    )
  if 'incarnation' in text:
    return (
      'Two processes of this run came with the same number: give each its own, '
      'and start all of them again where one has ended.\n'
    )
  if silent := _SILENT.search(text):
    who = f'process {silent[1]}'
  elif 'leader task' in text or 'Socket closed' in text:
    who = 'process 0'
  elif LOST in text or 'because the JAX distributed service detected' in text:
    who = 'another process'
  else:
    return None
  return (
    f'Ended, since {who} of this run is lost: its own output says why. Start '
    'all of them with the same command again to go on from what was saved.\n'
  )


def main() -> None:
  """Copies standard input to standard error until it ends."""
  # A launcher's signals are for the process that speaks.
  for signum in (signal.SIGINT, signal.SIGTERM):
    signal.signal(signum, signal.SIG_IGN)
  held = ''
  for line in sys.stdin:
    if held or line.startswith(LOST) or _JAX.match(line):
      held += line
    else:
      sys.stderr.write(line)
      sys.stderr.flush()
  if held:
    sys.stderr.write(sentence(held) or held)


if __name__ == '__main__':
  main()
