"""Writes the manifests that ship with the package again.

  python -m benchmarks.make_manifests two_room short long

A world, then protocols, by default all of them whose pairs are simulated.
"""

import sys
from collections.abc import Sequence

from jepa_wm.evaluation.planning import (
  manifests,
  pair_making,
  protocol,
)


def main(arguments: Sequence[str]) -> None:
  """Writes and prints their paths."""
  environment, *names = arguments
  for name in names or protocol.PROTOCOLS:
    chosen = protocol.get(name, environment=environment)
    if chosen.origin != 'training':
      path = manifests.shipped_path(chosen)
      manifests.write(pair_making.generate(chosen), path)
      print(path)


if __name__ == '__main__':
  main(sys.argv[1:])
