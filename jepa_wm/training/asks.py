"""What any process of a run may ask for, heard by all after the same step."""

import collections
import functools
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jepa_wm import sharding

NAMES = ('stop', 'save')

LAG = 2
"""Steps until what is asked for is heard: as far as a run goes ahead, so that
nobody waits for a device."""


class Asks:
  """Passes on what hooks ask for.

  A process that is alone hears itself at once. Several hear the largest value
  that any of them has asked for, by an all-reduce of a few numbers a step.

  Attributes:
    lag: exchanges until an ask is heard.
  """

  def __init__(self, mesh: jax.sharding.Mesh):
    """Asks for nothing yet.

    Args:
      mesh: of the run.
    """
    self._several = sharding.num_processes(mesh) > 1
    self.lag = LAG if self._several else 0
    self._mine, self._heard = np.zeros((2, len(NAMES)), np.int32)
    self._sent: collections.deque[jax.Array] = collections.deque()

  def ask(self, name: str, value: int = 1) -> None:
    """Asks for something of `NAMES`, until the next exchange."""
    self._mine[NAMES.index(name)] = value

  def heard(self, name: str) -> int:
    """What was asked for, 0 for nothing: the same in all processes."""
    heard = self._heard if self._several else self._mine
    return int(heard[NAMES.index(name)])

  def exchange(self) -> None:
    """Once a step, by all processes: what was asked before goes its way."""
    mine, self._mine = self._mine, np.zeros_like(self._mine)
    if not self._several:
      return
    split, most = _program()
    given = jax.make_array_from_process_local_data(split, mine[None])
    self._sent.append(most(given))
    if len(self._sent) > LAG:
      self._heard = np.asarray(self._sent.popleft())


@functools.cache
def _program() -> tuple[NamedSharding, Any]:
  """How a row of each process lies on one of its devices, and their maximum."""
  firsts = {x.process_index: x for x in reversed(jax.devices())}
  mesh = jax.make_mesh(
    (len(firsts),),
    ('process',),
    axis_types=(AxisType.Auto,),
    devices=[firsts[index] for index in sorted(firsts)],
  )
  most = jax.jit(
    lambda rows: rows.max(axis=0), out_shardings=sharding.replicated(mesh)
  )
  return NamedSharding(mesh, PartitionSpec('process')), most
