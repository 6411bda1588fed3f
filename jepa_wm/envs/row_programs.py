"""Programs over rows: compiled once, for every number of rows."""

import time
from collections.abc import Callable, Hashable
from typing import Any

import jax
import numpy as np

from jepa_wm.envs import environment

_CPU_CHUNK, _CHUNK = 64, 4096
"""Rows of one program at most; more of them fall out of a CPU's caches."""


class RowPrograms:
  """Functions of one world and one row, run over many.

  Programs are compiled for the first number of rows that they are asked for
  and, filled up, serve all smaller ones.

  Attributes:
    compile_seconds: spent compiling so far.
  """

  def __init__(self, env: environment.Environment) -> None:
    """Computes nothing yet; `env` is the world of rows without their own."""
    self.env, self.compile_seconds = env, 0.0
    self._programs: dict[Hashable, Any] = {}
    self._compiled: dict[Hashable, Callable[..., Any]] = {}
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
    some = jax.tree.map(lambda leaf: leaf[rows], args)
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
