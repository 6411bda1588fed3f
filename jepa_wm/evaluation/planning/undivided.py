"""Candidates that devices cannot share out."""

import functools
import math
import sys
from collections.abc import Sequence

import jax

from jepa_wm import sharding


def sentence(num_problems: int, populations: Sequence[int]) -> str:
  """What devices do twice where they cannot share out candidates; '' if not.

  Args:
    num_problems: B, planned at once.
    populations: candidates of each iteration.
  """
  num_devices = len(sharding.devices())
  shared = num_devices // math.gcd(num_problems, num_devices)
  if not (odd := sorted({x for x in populations if x % shared})):
    return ''
  return (
    f'Planning {num_problems} problems at once on {num_devices} devices, '
    f'{shared} of them share the candidates of a problem and do not divide '
    f'{odd[-1]} (num_samples), so that each does the work of all {shared}: '
    f'take a multiple of {shared}, or a --batch_size that {num_devices} '
    'divides.'
  )


def tell(num_problems: int, populations: Sequence[int]) -> None:
  """Prints the sentence, if there is one and nobody has said it yet."""
  _tell_once(sentence(num_problems, populations))


@functools.cache
def _tell_once(said: str) -> None:
  """Says something once, however many results it is true of."""
  if said and (sharding.is_alone() or jax.process_index() == 0):
    print(said, file=sys.stderr)
