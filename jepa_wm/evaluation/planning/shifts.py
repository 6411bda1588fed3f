"""Problems moved into worlds never seen, one factor of variation at a time."""

import functools
import zlib
from typing import Any

import jax
import numpy as np

from jepa_wm.envs import variation
from jepa_wm.evaluation.planning import pairs as pairs_lib

_STREAM = zlib.crc32(b'jepa_wm.evaluation.shifts')


def apply(
  pairs: pairs_lib.Pairs,
  environment: variation.VariedWorld,
  group: str,
  *,
  seed: int = 0,
) -> pairs_lib.Pairs:
  """Gives every problem a world of its own, in which one group is drawn anew.

  A pair's world comes from its id, so it is the same in any selection. Pairs
  whose start or goal cannot be in their world (it lies in a wall now) are left
  out; `num_invalid` counts them.

  Args:
    pairs: the problems.
    environment: what is varied.
    group: one of its `variation_groups`.
    seed: of the draws.

  Raises:
    ValueError: no such group, or no pair that is left.
  """
  group_key = jax.random.fold_in(jax.random.key(seed), _STREAM)
  group_key = jax.random.fold_in(group_key, zlib.crc32(group.encode()))
  ids = pairs.ids.astype(np.uint32)
  drawn, valid = jax.tree.map(
    np.asarray,
    _draw(group, environment, group_key, ids, pairs.starts, pairs.goals),
  )
  rows = np.flatnonzero(valid)
  if not len(rows):
    raise ValueError(
      f'The shift {group!r} leaves none of {len(pairs)} pairs whose start and '
      'goal can be in the shifted world; give it more pairs.'
    )
  moved = pairs_lib.Pairs(
    ids=pairs.ids,
    starts=pairs.starts,
    goals=pairs.goals,
    manifest_sha256=pairs.manifest_sha256,
    initially_solved=pairs.initially_solved,
    worlds=drawn,
    num_invalid=len(pairs) - len(rows),
  )
  return moved.take(rows)


@functools.partial(jax.jit, static_argnames=('group',))
def _draw(
  group: str,
  environment: variation.VariedWorld,
  rng_key: jax.Array,
  ids: jax.Array,
  starts: Any,
  goals: Any,
) -> tuple[Any, jax.Array]:
  """A world for each problem, and whether the problem can be there."""

  def draw(pair_id, start, goal):
    own = variation.vary(
      environment, group, jax.random.fold_in(rng_key, pair_id)
    )
    return own, own.allows(start) & own.allows(goal)

  return jax.vmap(draw)(ids, starts, goals)
