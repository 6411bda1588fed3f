"""How large a number may be that somebody gives, before anything comes of it.

A number that sizes something costs memory or time as soon as it is used; what
no machine holds, or nobody waits for, is refused before.
"""

import os
from typing import Any

MOST = 2**20
"""Of a whole number that sizes a network or what it learns from."""

MOST_STEPS = 10**9
"""Of updates, or of what happens every so many of them."""

MOST_NUMBER = 1e30
"""Of other numbers: float32 ends at 3e38."""

_OF = {
  # Each layer is traced on its own.
  'depth': 1024,
  'blocks': 1024,
  'num_levels': 1024,
  'inference_layers': 1024,
  'steps': 1024,
  'horizon': 10_000,
  'history': 10_000,
  # A frame of this side is 200 MB.
  'image_size': 8192,
  'num_knots': 10_000,
  'num_frames': 10_000,
  'max_steps': 2**31 - 1,
  'seed': 2**63 - 1,
}


def most_of(name: str) -> int:
  """What a whole number of that name may be at most."""
  return _OF.get(name, MOST)


def is_whole(value: Any) -> bool:
  """Whether it is an integer; a bool is one of Python's."""
  return isinstance(value, int) and not isinstance(value, bool)


def check_whole(
  name: str, value: Any, *, least: int = 1, most: int | None = None
) -> None:
  """Refuses what is no whole number, or out of its range.

  Args:
    name: of the number, for the sentence.
    value: of it.
    least: 1, or 0.
    most: what it may be; that of its name by default.

  Raises:
    ValueError: it is none, or out of its range.
  """
  if not is_whole(value) or value < least:
    kind = 'an integer of at least 0' if not least else 'a positive integer'
    raise ValueError(f'{name} must be {kind}, got {value!r:.60}.')
  most = most_of(name) if most is None else most
  if value > most:
    raise ValueError(f'{name} must be at most {most}, got {value!r:.60}.')


def check_number(name: str, value: Any, most: float = MOST_NUMBER) -> None:
  """Refuses what is no number, not finite, negative or larger than `most`.

  Raises:
    ValueError: it is.
  """
  if not (is_whole(value) or isinstance(value, float)) or not (
    0 <= value <= MOST_NUMBER
  ):
    raise ValueError(
      f'{name} must be a finite number of at least 0, got {value!r:.60}.'
    )
  if value > most:
    raise ValueError(f'{name} must be at most {most:g}, got {value!r:.60}.')


def check_memory(what: str, num_bytes: float) -> None:
  """Refuses what this machine's memory cannot hold.

  Args:
    what: takes it: 'config.data.batch_size=128 windows of 4 frames'.
    num_bytes: that it takes.

  Raises:
    ValueError: there is less memory.
  """
  memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
  if num_bytes >= memory:
    raise ValueError(
      f'{what} take {num_bytes / 1e9:,.0f} GB of memory, and this machine has '
      f'{memory / 1e9:.0f} GB; ask for fewer.'
    )
