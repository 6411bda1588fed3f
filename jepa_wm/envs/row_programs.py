"""Programs over rows: compiled once, for every number of rows."""

import functools
import time
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import jax
import numpy as np

from jepa_wm.envs import environment

_CPU_CHUNK, _CHUNK = 64, 4096
"""Rows of one program at most; more of them fall out of a CPU's caches."""

_WORLDS_KEPT = 8
"""Worlds whose programs the next stage of the same world finds compiled."""


class _Programs(NamedTuple):
  """Jitted functions by their name, and what they were compiled to."""

  jitted: dict[Hashable, Any]
  compiled: dict[Hashable, Callable[..., Any]]


class RowPrograms:
  """Functions of one world and one row, run over many.

  Programs are compiled for the first number of rows that they are asked for
  and, filled up, serve all smaller ones. Another stage of the same world finds
  them compiled.

  Attributes:
    compile_seconds: spent compiling so far.
  """

  def __init__(
    self, env: environment.Environment, *closed_over: Hashable
  ) -> None:
    """Computes nothing yet.

    Args:
      env: the world of rows without their own.
      *closed_over: all else that decides what a function of a name computes;
        without any, the programs are this object's alone.
    """
    self.env, self.compile_seconds = env, 0.0
    self._programs, self._compiled = _programs_of(env, closed_over)
    self._sizes: dict[Hashable, set[int]] = {}

  def each(
    self, name: Hashable, function: Callable[..., Any], worlds: Any, *args: Any
  ) -> Any:
    """`function(world, *args)` of `args`, leaves `[n, ...]`.

    Args:
      name: names the function; the first one of a name is compiled.
      function: of one world and one row of everything else.
      worlds: the world of each row, None for `env`.
      *args: leaves `[n, ...]`.
    """
    if name not in self._programs:
      # A world known while compiling is faster than one that is an argument.
      self._programs[name] = jax.jit(
        lambda own, *args: environment.in_worlds(function, self.env, own)(*args)
      )
    count = len(jax.tree.leaves(args)[0])
    limit = _CPU_CHUNK if jax.default_backend() == 'cpu' else _CHUNK
    sizes = self._sizes.setdefault(name, set())
    size = min(
      (known for known in sizes if known >= min(count, limit)),
      default=min(count, limit),
    )
    sizes.add(size)
    parts = [
      self._run(name, (worlds, *args), first, min(first + size, count), size)
      for first in range(0, count, size)
    ]
    if len(parts) == 1:
      return parts[0]
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)

  def _run(
    self, name: Hashable, args: Any, first: int, end: int, size: int
  ) -> Any:
    """Runs a program on rows `first..end - 1`, filled up to `size`."""
    # The last row is repeated to fill up: one shape, one compilation.
    rows = np.minimum(np.arange(first, first + size), end - 1)

    def take(leaf: Any) -> Any:
      # A program less; arrays of NumPy may change while ours still runs.
      is_whole = (
        isinstance(leaf, jax.Array) and len(leaf) == end - first == size
      )
      return leaf if is_whole else leaf[rows]

    some = jax.tree.map(take, args)
    leaves, structure = jax.tree.flatten(some)
    key = name, structure, *((leaf.shape, str(leaf.dtype)) for leaf in leaves)
    if key not in self._compiled:
      began = time.perf_counter()
      self._compiled[key] = self._programs[name].lower(*some).compile()
      self.compile_seconds += time.perf_counter() - began
    out = self._compiled[key](*some)
    if end - first == size:
      return out
    return jax.tree.map(lambda leaf: leaf[: end - first], out)


def _programs_of(env: Any, closed_over: tuple[Hashable, ...]) -> _Programs:
  """Those of all worlds that are `env`, number for number.

  Of a world that is no tree of numbers, or that nobody can hash, its own.
  """
  leaves, structure = jax.tree.flatten(env)
  try:
    arrays = [np.asarray(leaf) for leaf in leaves]
    numbers = tuple((x.shape, str(x.dtype), x.tobytes()) for x in arrays)
    if closed_over and not any(x.dtype.hasobject for x in arrays):
      return _kept(structure, numbers, closed_over)
  except TypeError:
    pass
  return _Programs({}, {})


@functools.lru_cache(maxsize=_WORLDS_KEPT)
def _kept(*decides: Hashable) -> _Programs:
  """The same for the same world."""
  del decides
  return _Programs({}, {})
