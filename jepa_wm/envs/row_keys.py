"""Keys of rows: what each of them draws, and for what purpose."""

import functools
import zlib
from typing import NamedTuple

import jax
import numpy as np

from jepa_wm.envs import stage as stage_lib

_PAIRS = zlib.crc32(b'jepa_wm.evaluation.pairs')
_TELEPORTS = zlib.crc32(b'jepa_wm.envs.teleport')
_APART = {
  stage_lib.Purpose.PAIRS: _PAIRS,
  stage_lib.Purpose.RESETS: _PAIRS,
  stage_lib.Purpose.TELEPORTS: _TELEPORTS,
}


class Keys(NamedTuple):
  """Keys `[n]` of rows, one for each kind of draw."""

  reset: jax.Array
  memory: jax.Array
  action: jax.Array
  extra: jax.Array


def draw(purpose: stage_lib.Purpose, seed: int, *numbers: np.ndarray) -> Keys:
  """Keys of rows, which depend on the arguments alone.

  Args:
    purpose: what they are for.
    seed: not negative.
    *numbers: int `[n]`, what tells rows apart.
  """
  base = jax.random.key(seed)
  if purpose in _APART:
    base = jax.random.fold_in(base, _APART[purpose])
  counted = [np.asarray(x).astype(np.uint32) for x in numbers]
  return _drawn(purpose, base, *counted)


@functools.partial(jax.jit, static_argnums=0)
def _drawn(
  purpose: stage_lib.Purpose, base: jax.Array, *numbers: jax.Array
) -> Keys:
  """Keys of rows, each of the numbers `[n]` folded into one key."""

  @jax.vmap
  def draw(*numbers: jax.Array) -> Keys:
    key = base
    for number in numbers:
      key = jax.random.fold_in(key, number)
    if purpose is stage_lib.Purpose.RESETS:
      return Keys(key, key, key, key)
    if purpose is stage_lib.Purpose.TRIES:
      memory, action = jax.random.split(key)
      return Keys(key, memory, action, key)
    return Keys(*jax.random.split(key, 4))

  return draw(*numbers)
